"""Whether PostgreSQL's events, aggregates and usage and the search index say the same, by tenant, on a live system.

Reads only. Events, aggregates and usage are compared within one snapshot. The index follows behind, so an event that
it has not reached yet is `waiting`, not missing, and one that is newer than the snapshot is not extra.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
from elasticsearch import AsyncElasticsearch

from search import execute
from search.verify import iter_event_ids
from workers.offsets import positions
from workers.store import bind_tenants
from workers.usage import BYTES

NAMED = 20
"""How many ids of each kind of difference are kept to show."""


@dataclass
class Report:
    """What was found of one tenant; `agrees` if nothing is wrong. `wrong_usage` counts hours by client, and months."""

    tenant_id: UUID
    events: int = 0
    aggregated: int = 0
    wrong_buckets: int = 0
    metered: int = 0
    wrong_usage: int = 0
    indexed: int = 0
    waiting: int = 0
    missing: int = 0
    extra: int = 0
    doubled: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """All places hold the same events, but for those that the index has yet to read."""
        wrong = self.wrong_buckets or self.wrong_usage or self.missing or self.extra or self.doubled
        return self.events == self.aggregated == self.metered and not wrong


_BUCKETS = """
with recount as (
    select date_bin('15 minutes', "timestamp", '1970-01-01Z') as bucket, event_type, client_id, count(*) as n
    from events where tenant_id = $1 group by 1, 2, 3
), kept as (
    select bucket, event_type, client_id, count as n from aggregated_events where tenant_id = $1 and count > 0
)
select coalesce(sum(recount.n), 0)::bigint, coalesce(sum(kept.n), 0)::bigint,
       count(*) filter (where recount.n is distinct from kept.n)
from recount full join kept using (bucket, event_type, client_id)
"""

_USAGE = f"""
with recount as (
    select date_bin('1 hour', received_at, '1970-01-01Z') as hour, client_id, count(*) as n, sum({BYTES}) as bytes
    from events where tenant_id = $1 group by 1, 2
), kept as (
    select hour, client_id, stored as n, bytes from usage where tenant_id = $1 and (stored > 0 or bytes > 0)
)
select coalesce(sum(kept.n), 0)::bigint,
       count(*) filter (where recount.n is distinct from kept.n or recount.bytes is distinct from kept.bytes)
from recount full join kept using (hour, client_id)
"""  # noqa: S608  a constant of this project

_MONTHS = """
with recount as (
    select date_trunc('month', received_at at time zone 'UTC')::date as month, count(*) as n
    from events where tenant_id = $1 group by 1
), kept as (
    select month, stored as n from monthly_usage where tenant_id = $1 and stored > 0
)
select count(*) filter (where recount.n is distinct from kept.n) from recount full join kept using (month)
"""

_EVENTS = """
select event_id, source_partition, source_offset from events where tenant_id = $1 order by event_id
"""


async def verify_tenant(
    connection: asyncpg.Connection,
    client: AsyncElasticsearch,
    tenant_id: UUID,
    *,
    index_prefix: str,
    index_group: str,
    topic: str,
) -> Report:
    """Compare what the places hold of `tenant_id`, in constant memory.

    `connection` logs in as sluice_worker and is not in a transaction.

    Raises:
        asyncpg.PostgresError, OSError, search.client.IndexUnavailable: a server does not answer.
    """
    report = Report(tenant_id)
    unexplained: list[str] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await bind_tenants(connection, [tenant_id])
        reached = await positions(connection, index_group, topic)
        ((report.events, report.aggregated, report.wrong_buckets),) = await connection.fetch(_BUCKETS, tenant_id)
        ((report.metered, report.wrong_usage),) = await connection.fetch(_USAGE, tenant_id)
        report.wrong_usage += await connection.fetchval(_MONTHS, tenant_id)
        # After the snapshot: all that the index had been given by then can be seen from here on.
        await execute.refresh(client, index_prefix)
        rows = aiter(connection.cursor(_EVENTS, tenant_id, prefetch=5000))
        await _merge(rows, iter_event_ids(client, index_prefix, tenant_id), reached, report, unexplained)
    async with connection.transaction(readonly=True):
        await bind_tenants(connection, [tenant_id])
        newer = await connection.fetch(
            "select event_id from events where tenant_id = $1 and event_id = any($2::text[])", tenant_id, unexplained
        )
    extra = sorted(set(unexplained) - {row["event_id"] for row in newer})
    report.extra = len(extra)
    report.examples += [f"only in the index: {event_id}" for event_id in extra[:NAMED]]
    return report


async def _merge(
    rows: AsyncIterator[asyncpg.Record],
    indexed: AsyncIterator[str],
    reached: dict[int, int],
    report: Report,
    unexplained: list[str],
) -> None:
    """Walk both streams, which are in the same order, side by side."""
    row = await anext(rows, None)
    found = await anext(indexed, None)
    previous = None
    while row is not None or found is not None:
        if found is not None and found == previous:
            report.doubled += 1
            report.examples.append(f"twice in the index: {found}")
            found = await anext(indexed, None)
        elif row is not None and (found is None or row["event_id"].encode() < found.encode()):
            if row["source_offset"] >= reached.get(row["source_partition"], 0):
                report.waiting += 1
            else:
                report.missing += 1
                if report.missing <= NAMED:
                    report.examples.append(f"not in the index: {row['event_id']}")
            row = await anext(rows, None)
        else:
            assert found is not None  # noqa: S101  follows from the two cases above
            report.indexed += 1
            previous = found
            if row is not None and row["event_id"] == found:
                row = await anext(rows, None)
            else:
                unexplained.append(found)
            found = await anext(indexed, None)
