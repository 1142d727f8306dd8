"""The store step: records in, rows and 15-minute aggregates out, in the transaction that moves the positions.

Within a tenant an event id counts once, whatever its timestamp; the first in the log wins. What can't be
stored is dead-lettered in the same transaction, so nothing blocks and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
import structlog
from aiokafka import ConsumerRecord

from app.events.record import decoder, encoder
from app.metrics import WORKER_EVENTS
from tenants.platform import PLATFORM_TENANT_ID
from workers.dead_letters import WHOLE_RECORD, DeadLetter, write_dead_letters
from workers.loop import RetryLaterError

log = structlog.get_logger()

POISON = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
    OverflowError,
)
"""What no retry can mend: SQLSTATE classes 22, 23 and 54, and values that the driver can't encode."""


@dataclass(frozen=True, slots=True)
class Row:
    """One event with its place in the log. `raw` is its JSON, for the dead letter if it comes to that."""

    tenant_id: UUID
    event_id: str
    offset: int
    index: int
    partition: int
    event_type: str
    user_id: str | None
    client_id: str
    timestamp: datetime
    received_at: datetime
    metadata: str

    @property
    def slice(self) -> int:
        """The month of receipt as yyyymm: the search index that this event belongs to, fixed here for good."""
        return self.received_at.year * 100 + self.received_at.month


def decode(record: ConsumerRecord) -> list[Row] | DeadLetter:
    """The rows of one Kafka record, or the dead letter that it is."""
    value = record.value or b""
    try:
        found = decoder.decode(value)
        return [
            Row(
                tenant_id=found.tenant_id,
                event_id=event.event_id,
                offset=record.offset,
                index=index,
                partition=record.partition,
                event_type=event.event_type,
                user_id=event.user_id,
                client_id=found.client_id,
                timestamp=event.timestamp,
                received_at=found.received_at,
                metadata=str(memoryview(event.metadata), "utf-8"),
            )
            for index, event in enumerate(found.events)
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        return DeadLetter(
            PLATFORM_TENANT_ID, "not a record", detail, record.partition, record.offset, WHOLE_RECORD, value
        )


class StoreStep:
    """The step for `workers.loop`; `topic` is written into dead letters."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._careful = False

    async def __call__(self, connection: asyncpg.Connection, records: Sequence[ConsumerRecord]) -> None:
        rows: list[Row] = []
        letters: list[DeadLetter] = []
        for record in records:
            decoded = decode(record)
            if isinstance(decoded, DeadLetter):
                letters.append(decoded)
            else:
                rows += decoded
        # Sorted by the key that is locked: two workers in different orders would deadlock. Then by place in the log,
        # so that of two events with one id the first wins.
        rows.sort(key=lambda row: (row.tenant_id, row.event_id, row.partition, row.offset, row.index))
        active = await _lock_tenants(connection, {row.tenant_id for row in rows})
        unknown = [row for row in rows if row.tenant_id not in active]
        if unknown:
            letters += [_letter(row, "unknown tenant", str(row.tenant_id), PLATFORM_TENANT_ID) for row in unknown]
            rows = [row for row in rows if row.tenant_id in active]
        stored = await self._store(connection, rows, letters)
        await write_dead_letters(connection, self._topic, letters)
        WORKER_EVENTS.labels("store", "stored").inc(stored)
        WORKER_EVENTS.labels("store", "duplicate").inc(len(rows) - stored)
        WORKER_EVENTS.labels("store", "dead letter").inc(len(letters))
        log.info(
            "stored", records=len(records), events=stored, duplicates=len(rows) - stored, dead_letters=len(letters)
        )

    async def _store(self, connection: asyncpg.Connection, rows: list[Row], letters: list[DeadLetter]) -> int:
        if not rows:
            return 0
        if not self._careful:
            try:
                return await insert(connection, rows)
            except POISON as error:
                # The transaction is lost; the loop tries the batch again, and then with savepoints.
                self._careful = True
                raise RetryLaterError(f"a batch holds a row that can't be stored: {type(error).__name__}") from error
        stored = await _bisect(connection, rows, letters)
        self._careful = False
        return stored


async def bind_tenants(connection: asyncpg.Connection, tenants: Sequence[UUID]) -> None:
    """Let row security show this transaction the rows of `tenants`, and of nobody else."""
    listed = "{" + ",".join(str(tenant) for tenant in tenants) + "}"
    await connection.execute("select set_config('app.tenant_ids', $1, true)", listed)


async def _lock_tenants(connection: asyncpg.Connection, tenants: set[UUID]) -> set[UUID]:
    """Bind row security to the batch's tenants and hold their rows, so that a deletion waits for this batch."""
    bound = sorted(tenants | {PLATFORM_TENANT_ID})
    await bind_tenants(connection, bound)
    found = await connection.fetch(
        "select tenant_id from tenants where tenant_id = any($1::uuid[]) order by tenant_id for key share", bound
    )
    return {row["tenant_id"] for row in found}


_INSERT = """
with inserted as (
    insert into events (tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
                        source_partition, source_offset, metadata)
    select t, e, y, u, c, ts, r, s, p, o, m::jsonb
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                $8::int[], $9::int[], $10::bigint[], $11::text[]) as row (t, e, y, u, c, ts, r, s, p, o, m)
    on conflict (tenant_id, event_id) do nothing
    returning tenant_id, "timestamp", event_type, client_id
), counted as (
    insert into aggregated_events (tenant_id, bucket, event_type, client_id, count)
    select tenant_id, date_bin('15 minutes', "timestamp", '1970-01-01Z') as bucket, event_type, client_id, count(*)
    from inserted group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (tenant_id, bucket, event_type, client_id)
        do update set count = aggregated_events.count + excluded.count
    returning 1
)
select (select count(*) from inserted), (select count(*) from counted)
"""


async def insert(connection: asyncpg.Connection, rows: Sequence[Row]) -> int:
    """Insert sorted `rows` and count the new ones into their buckets; returns how many were new."""
    stored: int = await connection.fetchval(
        _INSERT,
        [row.tenant_id for row in rows],
        [row.event_id for row in rows],
        [row.event_type for row in rows],
        [row.user_id for row in rows],
        [row.client_id for row in rows],
        [row.timestamp for row in rows],
        [row.received_at for row in rows],
        [row.slice for row in rows],
        [row.partition for row in rows],
        [row.offset for row in rows],
        [row.metadata for row in rows],
    )
    return stored


async def _bisect(connection: asyncpg.Connection, rows: list[Row], letters: list[DeadLetter]) -> int:
    """Store all that can be stored; each row that can't becomes a dead letter of its tenant."""
    try:
        async with connection.transaction():
            return await insert(connection, rows)
    except POISON as error:
        if len(rows) == 1:
            letters.append(_letter(rows[0], "unstorable", f"{type(error).__name__}: {error}", rows[0].tenant_id))
            return 0
    middle = len(rows) // 2
    return await _bisect(connection, rows[:middle], letters) + await _bisect(connection, rows[middle:], letters)


def _letter(row: Row, reason: str, detail: str, owner: UUID) -> DeadLetter:
    payload = encoder.encode(
        {
            "tenant_id": row.tenant_id,
            "client_id": row.client_id,
            "received_at": row.received_at,
            "event_id": row.event_id,
            "event_type": row.event_type,
            "user_id": row.user_id,
            "timestamp": row.timestamp,
            "metadata": msgspec.Raw(row.metadata.encode()),
        }
    )
    return DeadLetter(owner, reason, detail, row.partition, row.offset, row.index, payload)
