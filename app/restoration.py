"""`sluice replay --rebuild`: rows of `events` that are gone, from what Kafka still holds, none of them counted twice.

Reads the log up to where the store worker is, which goes on beyond it, and decides as the store does: the first of an
id, nothing of a tenant or user that was erased. Hours whose usage says that nothing is gone are left alone, so what was
a duplicate stays one. Refuses to count: `app.recount` does, from the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
from aiokafka import ConsumerRecord

from workers.dead_letters import DeadLetter
from workers.history import read
from workers.loop import backoff
from workers.offsets import LogMismatchError
from workers.rows import Row, decode, in_order, key_of
from workers.search_rebuilds import hold
from workers.store import POISON, bind_tenants
from workers.suppression import kept_and_suppressed
from workers.topic import identify
from workers.usage import BYTES, Key, hour_of

_ATTEMPTS = 5


@dataclass
class Restored:
    """Events in the log by what became of them. `present`: there, or of an hour of which nothing is gone. `refused`:
    what can't be stored, or is of no tenant: dead letters.
    """

    records: int = 0
    events: int = 0
    restored: int = 0
    present: int = 0
    suppressed: int = 0
    expired: int = 0
    refused: int = 0
    tenants: set[UUID] = field(default_factory=set)


_POSITIONS = """
select partition, next_offset, cluster_id, topic_id from stream_offsets where consumer_group = $1 and topic = $2
"""
_TENANTS = """
select t.tenant_id, t.status, p.retention_days, now() as now from tenants t join plans p using (plan_id)
where t.tenant_id = any ($1::uuid[]) order by t.tenant_id for key share of t
"""
_COMPLETE = f"""
with asked as (
    select * from unnest($1::uuid[], $2::timestamptz[], $3::text[]) as a (tenant_id, hour, client_id)
), recount as (
    select a.tenant_id, a.hour, a.client_id, count(*) as n, sum({BYTES}) as bytes
    from asked a join events e on e.tenant_id = a.tenant_id and e.client_id = a.client_id
        and e.received_at >= a.hour and e.received_at < a.hour + interval '1 hour'
    group by 1, 2, 3
)
select u.tenant_id, u.hour, u.client_id from usage u join asked using (tenant_id, hour, client_id)
left join recount r using (tenant_id, hour, client_id)
where u.stored - u.removed = coalesce(r.n, 0) and u.bytes - u.removed_bytes = coalesce(r.bytes, 0)
"""  # noqa: S608  a constant of this project
_INSERT = """
insert into events (tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
                    source_partition, source_offset, metadata)
select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice, partition, "offset",
       metadata::jsonb
from unnest($1::text[], $2::int[], $3::bigint[], $4::int[], $5::uuid[], $6::text[], $7::text[], $8::text[],
            $9::timestamptz[], $10::timestamptz[], $11::int[], $12::text[])
    as r (event_id, partition, "offset", place, tenant_id, event_type, user_id, client_id, "timestamp", received_at,
          index_slice, metadata)
order by tenant_id, event_id collate "C", partition, "offset", place
on conflict (tenant_id, event_id) do nothing
"""


class Restoration:
    """`connection` is sluice_worker's; `rebuild_id` is from `workers.search_rebuilds.claimed`: nobody builds the search
    index from the rows while some of them appear. `progress` is told of records.
    """

    def __init__(self, connection: asyncpg.Connection, rebuild_id: UUID, progress: Callable[[int], None]) -> None:
        self._connection = connection
        self._rebuild_id = rebuild_id
        self._progress = progress
        self._complete: dict[Key, bool] = {}
        self._done = Restored()

    async def run(self, bootstrap: str, topic: str, store_group: str) -> Restored:
        """All of the log before the store worker's positions. Doing it again changes nothing.

        Raises:
            LogMismatchError: this is not the log that the positions were kept for.
            HistoryError, KafkaError, TopicError, asyncpg.PostgresError, OSError: a server.
            RebuildLostError: see `workers.search_rebuilds`.
        """
        identity = await identify(bootstrap, topic)
        to = {}
        for row in await self._connection.fetch(_POSITIONS, store_group, topic):
            if (row["cluster_id"], row["topic_id"]) != (identity.cluster_id, identity.topic_id):
                raise LogMismatchError(f"{topic} was made again since the store worker read it; it can't be read back.")
            to[row["partition"]] = row["next_offset"]
        async for records in read(bootstrap, topic, to=to):
            await self._restore(records)
            self._progress(len(records))
        return self._done

    async def _restore(self, records: Sequence[ConsumerRecord]) -> None:
        by_tenant: dict[UUID, list[Row]] = {}
        for decoded in await asyncio.to_thread(lambda: [decode(record) for record in records]):
            if isinstance(decoded, DeadLetter):
                self._done.refused += 1
            elif decoded:
                by_tenant.setdefault(decoded[0].tenant_id, []).extend(decoded)
                self._done.events += len(decoded)
        self._done.records += len(records)
        if not by_tenant:
            return
        ordered = in_order(by_tenant)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._connection.transaction():
                    batch = await self._apply(ordered)
                break
            except asyncpg.DeadlockDetectedError:
                if attempt == _ATTEMPTS:
                    raise
            await asyncio.sleep(backoff(attempt))
        for name in ("restored", "present", "suppressed", "expired", "refused"):
            setattr(self._done, name, getattr(self._done, name) + getattr(batch, name))
        self._done.tenants |= batch.tenants

    async def _apply(self, by_tenant: dict[UUID, list[Row]]) -> Restored:
        connection, batch = self._connection, Restored()
        await hold(connection, self._rebuild_id)
        await bind_tenants(connection, list(by_tenant))
        kept: dict[UUID, list[Row]] = {}
        known = {row["tenant_id"]: row for row in await connection.fetch(_TENANTS, list(by_tenant))}
        for tenant_id, rows in by_tenant.items():
            tenant = known.get(tenant_id)
            if tenant is None:
                batch.refused += len(rows)
            elif tenant["status"] not in {"active", "suspended"}:
                batch.suppressed += len(rows)
            else:
                kept[tenant_id] = _young(rows, tenant["retention_days"], tenant["now"])
                batch.expired += len(rows) - len(kept[tenant_id])
                batch.tenants.add(tenant_id)
        rows, of_erased = await kept_and_suppressed(connection, kept)
        batch.suppressed += len(of_erased)
        await self._look_at_hours({key_of(row) for row in rows})
        gone = [row for row in rows if not self._complete[key_of(row)]]
        refused: list[Row] = []
        batch.restored = await _insert(connection, gone, refused)
        batch.refused += len(refused)
        batch.present = len(rows) - batch.restored - len(refused)
        return batch

    async def _look_at_hours(self, keys: set[Key]) -> None:
        """Whether all events that usage counted in these hours are there: then nothing of them is gone."""
        new = sorted(keys - self._complete.keys())
        if not new:
            return
        complete = await self._connection.fetch(_COMPLETE, *(list(column) for column in zip(*new, strict=True)))
        found = {Key(*row) for row in complete}
        self._complete |= {key: key in found for key in new}


def _young(rows: list[Row], retention_days: int | None, now: datetime) -> list[Row]:
    """Those that `workers.retention` would leave."""
    if retention_days is None:
        return rows
    before = hour_of(now - timedelta(days=retention_days))
    return [row for row in rows if row.received_at >= before]


async def _insert(connection: asyncpg.Connection, rows: Sequence[Row], refused: list[Row]) -> int:
    """How many of `rows` were gone; what can't be stored (it is a dead letter) is added to `refused`."""
    if not rows:
        return 0
    try:
        async with connection.transaction():
            done = await connection.execute(_INSERT, *(list(column) for column in zip(*rows, strict=True)))
            return int(done.rpartition(" ")[2])
    except POISON:
        if len(rows) == 1:
            refused.append(rows[0])
            return 0
    middle = len(rows) // 2
    return await _insert(connection, rows[:middle], refused) + await _insert(connection, rows[middle:], refused)
