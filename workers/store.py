"""The store step: records in; rows, 15-minute aggregates and usage out, in the transaction that moves the positions.

Within a tenant an event id counts once, whatever its timestamp; the first in the log wins. What can't be
stored is dead-lettered in the same transaction, so nothing blocks, and nothing is dropped but what comes for a
tenant that is being deleted or a user who was erased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog
from aiokafka import ConsumerRecord

from app.metrics import WORKER_EVENTS
from tenants.platform import PLATFORM_TENANT_ID
from workers.dead_letters import DeadLetter, Place, Retry, retry_of, settle, write_dead_letters
from workers.loop import RetryLaterError
from workers.rows import Row, decode, in_order, key_of, letter_of
from workers.suppression import kept_and_suppressed
from workers.usage import BYTES, Key, Stored, Tally, write_usage

log = structlog.get_logger()

POISON = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
    OverflowError,
)
"""What no retry can mend: SQLSTATE classes 22, 23 and 54, and values that the driver can't encode."""


@dataclass(frozen=True)
class Decoded:
    """A batch of records, decoded: rows by tenant, how many there are by key, what was no record, and which are dead
    letters that were sent again.
    """

    records: int
    by_tenant: dict[UUID, list[Row]]
    sent: Counter[Key]
    letters: list[DeadLetter]
    retries: dict[Place, Retry]


class StoreStep:
    """The step for `workers.loop`; `topic` is written into dead letters."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._careful = False

    def prepare(self, records: Sequence[ConsumerRecord]) -> Decoded:
        """Decode and sort, in the order in which keys are locked: see `in_order`."""
        by_tenant: dict[UUID, list[Row]] = {}
        sent: Counter[Key] = Counter()
        letters: list[DeadLetter] = []
        retries: dict[Place, Retry] = {}
        for record in records:
            if record.headers and (retry := retry_of(record)) is not None:
                retries[record.partition, record.offset] = retry
            decoded = decode(record)
            if isinstance(decoded, DeadLetter):
                letters.append(decoded)
            elif decoded:
                by_tenant.setdefault(decoded[0].tenant_id, []).extend(decoded)
                sent[key_of(decoded[0])] += len(decoded)  # of one client and moment, as they share a record
        return Decoded(len(records), in_order(by_tenant), sent, letters, retries)

    async def apply(self, connection: asyncpg.Connection, work: Decoded) -> None:
        """Store what is new and dead-letter what can't be stored."""
        letters = list(work.letters)
        tenants = await _lock_tenants(connection, work.by_tenant)
        tally = Tally(Counter({key: count for key, count in work.sent.items() if _is_kept(tenants.get(key.tenant_id))}))
        kept: dict[UUID, list[Row]] = {}
        of_leaving = 0
        for tenant_id, theirs in work.by_tenant.items():
            tenant = tenants.get(tenant_id)
            if tenant is None:
                letters += [letter_of(row, "unknown tenant", str(tenant_id), PLATFORM_TENANT_ID) for row in theirs]
            elif _is_kept(tenant):
                kept[tenant_id] = theirs
            else:
                of_leaving += len(theirs)
        rows, of_erased = await kept_and_suppressed(connection, kept)
        tally.sent.subtract(key_of(row) for row in of_erased)
        suppressed = of_leaving + len(of_erased)
        await self._store(connection, rows, letters, tally)
        await write_dead_letters(connection, "store", self._topic, await settle(connection, work.retries, letters))
        await write_usage(connection, tally, {tenant_id: tenant.quota for tenant_id, tenant in tenants.items()})
        stored = tally.stored.total()
        duplicates = len(rows) - stored - tally.refused.total()
        WORKER_EVENTS.labels("store", "stored").inc(stored)
        WORKER_EVENTS.labels("store", "duplicate").inc(duplicates)
        WORKER_EVENTS.labels("store", "dead letter").inc(len(letters))
        WORKER_EVENTS.labels("store", "suppressed").inc(suppressed)
        log.info(
            "stored", records=work.records, events=stored, duplicates=duplicates, dead_letters=len(letters),
            suppressed=suppressed,
        )  # fmt: skip

    async def _store(
        self, connection: asyncpg.Connection, rows: list[Row], letters: list[DeadLetter], tally: Tally
    ) -> None:
        if not rows:
            return
        if not self._careful:
            try:
                tally.add(await insert(connection, rows))
            except POISON as error:
                # The transaction is lost; the loop tries the batch again, and then with savepoints.
                self._careful = True
                raise RetryLaterError(f"a batch holds a row that can't be stored: {type(error).__name__}") from error
            return
        await _bisect(connection, rows, letters, tally)
        self._careful = False


async def bind_tenants(connection: asyncpg.Connection, tenants: Sequence[UUID]) -> None:
    """Let row security show this transaction the rows of `tenants`, and of nobody else."""
    listed = "{" + ",".join(str(tenant) for tenant in tenants) + "}"
    await connection.execute("select set_config('app.tenant_ids', $1, true)", listed)


class _Tenant(NamedTuple):
    status: str
    quota: int | None


def _is_kept(tenant: _Tenant | None) -> bool:
    """Whether events of this tenant are stored: also while it is suspended, as they were accepted before."""
    return tenant is not None and tenant.status in {"active", "suspended"}


async def _lock_tenants(connection: asyncpg.Connection, tenants: Collection[UUID]) -> dict[UUID, _Tenant]:
    """Bind row security to the batch's tenants and hold their rows, so that a deletion waits for this batch."""
    bound = sorted({*tenants, PLATFORM_TENANT_ID})
    await bind_tenants(connection, bound)
    found = await connection.fetch(
        """
        select t.tenant_id, t.status, p.monthly_quota from tenants t join plans p using (plan_id)
        where t.tenant_id = any($1::uuid[]) order by t.tenant_id for key share of t
        """,
        bound,
    )
    return {row["tenant_id"]: _Tenant(row["status"], row["monthly_quota"]) for row in found}


_INCOMING = """
create temporary table if not exists incoming (
    event_id text collate "C", source_partition integer, source_offset bigint, place integer, tenant_id uuid,
    event_type text collate "C", user_id text collate "C", client_id text collate "C", "timestamp" timestamptz,
    received_at timestamptz, index_slice integer, metadata jsonb
) on commit delete rows
"""

_INSERT = f"""
with inserted as (
    insert into events (tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
                        source_partition, source_offset, metadata)
    select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
           source_partition, source_offset, metadata
    from incoming order by tenant_id, event_id, source_partition, source_offset, place
    on conflict (tenant_id, event_id) do nothing
    returning tenant_id, "timestamp", event_type, client_id, received_at, {BYTES} as bytes
), counted as (
    insert into aggregated_events (tenant_id, bucket, event_type, client_id, count)
    select tenant_id, date_bin('15 minutes', "timestamp", '1970-01-01Z') as bucket, event_type, client_id, count(*)
    from inserted group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (tenant_id, bucket, event_type, client_id)
        do update set count = aggregated_events.count + excluded.count
)
select tenant_id, date_bin('1 hour', received_at, '1970-01-01Z'), client_id, count(*), sum(bytes)
from inserted group by 1, 2, 3
"""  # noqa: S608  constants of this project


async def insert(connection: asyncpg.Connection, rows: Sequence[Row]) -> list[Stored]:
    """Insert `rows` and count the new ones into their buckets, in a transaction; returns what was new, by key.

    By COPY into a temporary table, as COPY into a table under row security is refused. A fifth faster than arrays.
    """
    await connection.execute(_INCOMING)
    await connection.copy_records_to_table("incoming", records=rows)
    return [Stored(Key(*row[:3]), row[3], row[4]) for row in await connection.fetch(_INSERT)]


async def _bisect(connection: asyncpg.Connection, rows: list[Row], letters: list[DeadLetter], tally: Tally) -> None:
    """Store all that can be stored; each row that can't becomes a dead letter of its tenant."""
    try:
        async with connection.transaction():
            stored = await insert(connection, rows)
            await connection.execute("delete from incoming")
        tally.add(stored)
    except POISON as error:
        if len(rows) == 1:
            letters.append(letter_of(rows[0], "unstorable", f"{type(error).__name__}: {error}", rows[0].tenant_id))
            tally.refused[key_of(rows[0])] += 1
            return
        middle = len(rows) // 2
        await _bisect(connection, rows[:middle], letters, tally)
        await _bisect(connection, rows[middle:], letters, tally)
