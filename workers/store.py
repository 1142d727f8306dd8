"""The store step: records in, rows and 15-minute aggregates out, in the transaction that moves the positions.

Within a tenant an event id counts once, whatever its timestamp; the first in the log wins. What can't be
stored is dead-lettered in the same transaction, so nothing blocks and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import NamedTuple
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


class Row(NamedTuple):
    """One event with its place in the log, as the columns of `_INCOMING`: a tuple, which COPY takes as it is.

    `place` is that in its record, from 0. `slice` is the month of receipt as yyyymm: the search index that this event
    belongs to, fixed here for good.
    """

    event_id: str
    partition: int
    offset: int
    place: int
    tenant_id: UUID
    event_type: str
    user_id: str | None
    client_id: str
    timestamp: datetime
    received_at: datetime
    slice: int
    metadata: str


def decode(record: ConsumerRecord) -> list[Row] | DeadLetter:
    """The rows of one Kafka record, or the dead letter that it is."""
    value = record.value or b""
    partition, offset = record.partition, record.offset
    try:
        found = decoder.decode(value)
        tenant_id, client_id, received_at = found.tenant_id, found.client_id, found.received_at
        month = received_at.year * 100 + received_at.month
        return [
            Row(
                event.event_id,
                partition,
                offset,
                place,
                tenant_id,
                event.event_type,
                event.user_id,
                client_id,
                event.timestamp,
                received_at,
                month,
                str(memoryview(event.metadata), "utf-8"),
            )
            for place, event in enumerate(found.events)
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        return DeadLetter(PLATFORM_TENANT_ID, "not a record", detail, partition, offset, WHOLE_RECORD, value)


_PLACE = itemgetter(0, 1, 2, 3)
_BYTES = attrgetter("bytes")


def _in_order(by_tenant: dict[UUID, list[Row]]) -> dict[UUID, list[Row]]:
    """Rows in the order of the key that is locked, as two workers in different orders would deadlock.

    Within a key in the order of the log, so that of two events with one id the first wins.
    """
    return {tenant_id: sorted(by_tenant[tenant_id], key=_PLACE) for tenant_id in sorted(by_tenant, key=_BYTES)}


@dataclass(frozen=True)
class Decoded:
    """A batch of records, decoded: rows by tenant, and what was no record."""

    records: int
    by_tenant: dict[UUID, list[Row]]
    letters: list[DeadLetter]


class StoreStep:
    """The step for `workers.loop`; `topic` is written into dead letters."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._careful = False

    def prepare(self, records: Sequence[ConsumerRecord]) -> Decoded:
        """Decode and sort, in the order in which keys are locked: see `_in_order`."""
        by_tenant: dict[UUID, list[Row]] = {}
        letters: list[DeadLetter] = []
        for record in records:
            decoded = decode(record)
            if isinstance(decoded, DeadLetter):
                letters.append(decoded)
            elif decoded:
                by_tenant.setdefault(decoded[0].tenant_id, []).extend(decoded)
        return Decoded(len(records), _in_order(by_tenant), letters)

    async def apply(self, connection: asyncpg.Connection, work: Decoded) -> None:
        """Store what is new and dead-letter what can't be stored."""
        letters = list(work.letters)
        active = await _lock_tenants(connection, work.by_tenant)
        rows: list[Row] = []
        for tenant_id, theirs in work.by_tenant.items():
            if tenant_id in active:
                rows += theirs
            else:
                letters += [_letter(row, "unknown tenant", str(tenant_id), PLATFORM_TENANT_ID) for row in theirs]
        before = len(letters)
        stored = await self._store(connection, rows, letters)
        duplicates = len(rows) - stored - (len(letters) - before)
        await write_dead_letters(connection, self._topic, letters)
        WORKER_EVENTS.labels("store", "stored").inc(stored)
        WORKER_EVENTS.labels("store", "duplicate").inc(duplicates)
        WORKER_EVENTS.labels("store", "dead letter").inc(len(letters))
        log.info("stored", records=work.records, events=stored, duplicates=duplicates, dead_letters=len(letters))

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


async def _lock_tenants(connection: asyncpg.Connection, tenants: Collection[UUID]) -> set[UUID]:
    """Bind row security to the batch's tenants and hold their rows, so that a deletion waits for this batch."""
    bound = sorted({*tenants, PLATFORM_TENANT_ID})
    await bind_tenants(connection, bound)
    found = await connection.fetch(
        "select tenant_id from tenants where tenant_id = any($1::uuid[]) order by tenant_id for key share", bound
    )
    return {row["tenant_id"] for row in found}


_INCOMING = """
create temporary table if not exists incoming (
    event_id text collate "C", source_partition integer, source_offset bigint, place integer, tenant_id uuid,
    event_type text collate "C", user_id text collate "C", client_id text collate "C", "timestamp" timestamptz,
    received_at timestamptz, index_slice integer, metadata jsonb
) on commit delete rows
"""

_INSERT = """
with inserted as (
    insert into events (tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
                        source_partition, source_offset, metadata)
    select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
           source_partition, source_offset, metadata
    from incoming order by tenant_id, event_id, source_partition, source_offset, place
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
    """Insert `rows` and count the new ones into their buckets, in a transaction; returns how many were new.

    By COPY into a temporary table, as COPY into a table under row security is refused. A fifth faster than arrays.
    """
    await connection.execute(_INCOMING)
    await connection.copy_records_to_table("incoming", records=rows)
    stored: int = await connection.fetchval(_INSERT)
    return stored


async def _bisect(connection: asyncpg.Connection, rows: list[Row], letters: list[DeadLetter]) -> int:
    """Store all that can be stored; each row that can't becomes a dead letter of its tenant."""
    try:
        async with connection.transaction():
            stored = await insert(connection, rows)
            await connection.execute("delete from incoming")
            return stored
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
    return DeadLetter(owner, reason, detail, row.partition, row.offset, row.place, payload)
