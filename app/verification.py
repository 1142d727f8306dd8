"""Whether PostgreSQL's events, aggregates and usage and the search index say the same, by tenant, on a live system.

Reads only. Events, aggregates and usage are compared within one snapshot; what retention and erasure took out of
`events` is a number beside what was counted. The index is compared as it was just before that snapshot, so what it
holds and `events` does not is extra. It follows behind: an event that it has not reached is `waiting`, not missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from elasticsearch import AsyncElasticsearch

from app.comparison import MISSING, Difference, Index, compare
from search.verify import totals_by_hour
from workers.store import bind_tenants
from workers.usage import BYTES

NAMED = 20
"""How many ids of each kind of difference are kept to show."""

LISTED = 100
"""How many hours with a difference are listed."""

RECOUNT_SECONDS = 3600.0
"""How long a recount of all of a tenant's events may take."""

_ASKED_AGAIN = 1000
"""How many ids that are only in the index are looked at once more before they are called extra."""


@dataclass
class Hour:
    """What differs in one hour: buckets of 15 minutes (by the events' timestamps), usage by client, and documents."""

    hour: datetime
    buckets: int = 0
    usage: int = 0
    missing: int = 0
    extra: int = 0
    doubled: int = 0


@dataclass
class Report:
    """What was found of one tenant; `agrees` if nothing is wrong. `wrong_usage` counts hours by client, and months.

    `aggregated` and `metered` are what aggregates and usage say that `events` still holds. `hours` are the first
    `LISTED` in which anything differs, `wrong_hours` is how many there are. `leaving`: the tenant is being deleted.
    """

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
    wrong_hours: int = 0
    leaving: bool = False
    examples: list[str] = field(default_factory=list)
    hours: list[Hour] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """All places hold the same events, but for those that the index has yet to read."""
        wrong = self.wrong_buckets or self.wrong_usage or self.missing or self.extra or self.doubled
        return self.leaving or (self.events == self.aggregated == self.metered and not wrong)


BUCKETS = """
with recount as (
    select date_bin('15 minutes', "timestamp", '1970-01-01Z') as bucket, event_type, client_id, count(*) as n
    from events where tenant_id = $1 group by 1, 2, 3
), kept as (
    select bucket, event_type, client_id, count - expired as n
    from aggregated_events where tenant_id = $1 and count > expired
)
select date_bin('1 hour', bucket, '1970-01-01Z') as hour, coalesce(sum(recount.n), 0)::bigint as recounted,
       coalesce(sum(kept.n), 0)::bigint as kept, count(*) filter (where recount.n is distinct from kept.n) as wrong
from recount full join kept using (bucket, event_type, client_id) group by 1 order by 1
"""
"""Each hour: events by their timestamps, what aggregates say, and how many of its buckets are wrong."""

USAGE = f"""
with recount as (
    select date_bin('1 hour', received_at, '1970-01-01Z') as hour, client_id, count(*) as n, sum({BYTES}) as bytes
    from events where tenant_id = $1 group by 1, 2
), kept as (
    select hour, client_id, stored - removed as n, bytes - removed_bytes as bytes
    from usage where tenant_id = $1 and (stored > removed or bytes > removed_bytes)
)
select hour, coalesce(sum(kept.n), 0)::bigint as kept,
       count(*) filter (where recount.n is distinct from kept.n or recount.bytes is distinct from kept.bytes) as wrong
from recount full join kept using (hour, client_id) group by 1 order by 1
"""  # noqa: S608  a constant of this project
"""Each hour of receipt: what usage says, and for how many clients it is wrong."""

MONTHS = """
with recount as (
    select date_trunc('month', hour at time zone 'UTC')::date as month, sum(stored)::bigint as n
    from usage where tenant_id = $1 group by 1 having sum(stored) > 0
), kept as (
    select month, stored as n from monthly_usage where tenant_id = $1 and stored > 0
)
select month from recount full join kept using (month) where recount.n is distinct from kept.n order by 1
"""
"""The months whose sum is wrong."""


class _Hours:
    """Differences by hour, of which the oldest `LISTED` are kept."""

    def __init__(self) -> None:
        self._known: dict[datetime, Hour] = {}
        self._others: set[int] = set()

    def at(self, moment: datetime) -> Hour:
        hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        found = self._known.get(hour)
        if found is None:
            found = Hour(hour)
            if len(self._known) < LISTED:
                self._known[hour] = found
            else:
                self._others.add(int(hour.timestamp()) // 3600)
        return found

    def put_into(self, report: Report) -> None:
        report.hours = [self._known[hour] for hour in sorted(self._known)]
        report.wrong_hours = len(self._known) + len(self._others)


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
        asyncpg.PostgresError, OSError: PostgreSQL does not answer, or refuses.
        search.client.IndexUnavailable, search.execute.SearchRefused: so does Elasticsearch.
    """
    report, hours = Report(tenant_id), _Hours()
    unexplained: list[str] = []
    index = Index(client, index_prefix, index_group, topic)
    async with compare(connection, index, tenant_id) as found:
        async for difference in found:
            _note(difference, report, hours, unexplained)
        report.indexed, report.waiting = found.indexed, found.waiting
        async for hour, recounted, kept, wrong in connection.cursor(BUCKETS, tenant_id, timeout=RECOUNT_SECONDS):
            report.events += recounted
            report.aggregated += kept
            report.wrong_buckets += wrong
            if wrong:
                hours.at(hour).buckets = wrong
        async for hour, kept, wrong in connection.cursor(USAGE, tenant_id, timeout=RECOUNT_SECONDS):
            report.metered += kept
            report.wrong_usage += wrong
            if wrong:
                hours.at(hour).usage = wrong
        report.wrong_usage += len(await connection.fetch(MONTHS, tenant_id))
    async with connection.transaction(readonly=True):
        await bind_tenants(connection, [tenant_id])
        status = await connection.fetchval("select status from tenants where tenant_id = $1", tenant_id)
        report.leaving = status not in {"active", "suspended"}
        back = await connection.fetch(
            "select event_id from events where tenant_id = $1 and event_id = any($2::text[])", tenant_id, unexplained
        )
    found_again = {row["event_id"] for row in back}
    extra = sorted(set(unexplained) - found_again)
    report.extra -= sum(event_id in found_again for event_id in unexplained)
    report.examples += [f"only in the index: {event_id}" for event_id in extra[:NAMED]]
    if extra:
        for hour, count in (await totals_by_hour(client, index_prefix, tenant_id, event_ids=extra)).items():
            hours.at(hour).extra = count
    hours.put_into(report)
    return report


def _note(difference: Difference, report: Report, hours: _Hours, unexplained: list[str]) -> None:
    event_id, received_at = difference.event_id, difference.received_at
    if received_at is None:
        report.extra += 1
        if len(unexplained) < _ASKED_AGAIN:
            unexplained.append(event_id)
    elif difference.kind is MISSING:
        report.missing += 1
        hours.at(received_at).missing += 1
        if report.missing <= NAMED:
            report.examples.append(f"not in the index: {event_id}")
    else:
        report.doubled += 1
        hours.at(received_at).doubled += 1
        if report.doubled <= NAMED:
            report.examples.append(f"twice in the index: {event_id}")
