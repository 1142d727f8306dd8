"""Making aggregates and usage say again what `events` says, which is the truth, while events go on being stored.

Counts are rewritten hour by hour, each in a short transaction that holds the tenant's row, so that the store worker
(which holds it too) is before or after it and never in between. What retention and erasure took out stays counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from app.verification import BUCKETS, MONTHS, RECOUNT_SECONDS, USAGE
from workers.loop import backoff
from workers.store import bind_tenants
from workers.usage import BYTES

_ATTEMPTS = 5

Progress = Callable[[int], None]
"""Is told how many more hours, or events, are done."""


@dataclass(frozen=True)
class Recounted:
    """How many counts were rewritten: of 15 minutes, of hours by client, and of months."""

    buckets: int = 0
    usage: int = 0
    months: int = 0

    def __add__(self, more: Recounted) -> Recounted:
        return Recounted(self.buckets + more.buckets, self.usage + more.usage, self.months + more.months)


HOLD = "select true from tenants where tenant_id = $1 and status in ('active', 'suspended') for update"
"""Nothing is stored for the tenant until the transaction ends. No row: it is being deleted."""

# Retention and erasure lock these rows before they count down, in the same order.
_HOLD_BUCKETS = """
select from aggregated_events where tenant_id = $1 and bucket >= $2 and bucket < $2 + interval '1 hour'
order by bucket, event_type, client_id for update
"""
_MEND_BUCKETS = """
with recount as (
    select date_bin('15 minutes', "timestamp", '1970-01-01Z') as bucket, event_type, client_id, count(*) as n
    from events where tenant_id = $1 and "timestamp" >= $2 and "timestamp" < $2 + interval '1 hour' group by 1, 2, 3
), alone as (
    select ctid, expired from aggregated_events a
    where tenant_id = $1 and bucket >= $2 and bucket < $2 + interval '1 hour' and count > expired and not exists (
        select from recount r where (r.bucket, r.event_type, r.client_id) = (a.bucket, a.event_type, a.client_id))
), emptied as (
    update aggregated_events a set count = a.expired from alone
    where tenant_id = $1 and a.ctid = alone.ctid and alone.expired > 0 returning true
), forgotten as (
    delete from aggregated_events a using alone
    where tenant_id = $1 and a.ctid = alone.ctid and alone.expired = 0 returning true
), written as (
    insert into aggregated_events (tenant_id, bucket, event_type, client_id, count)
    select $1, bucket, event_type, client_id, n from recount order by bucket, event_type, client_id
    on conflict (tenant_id, bucket, event_type, client_id)
        do update set count = aggregated_events.expired + excluded.count
        where aggregated_events.count <> aggregated_events.expired + excluded.count
    returning true
)
select (select count(*) from emptied) + (select count(*) from forgotten) + (select count(*) from written)
"""
_HOLD_USAGE = "select from usage where tenant_id = $1 and hour = $2 order by client_id for update"
_MEND_USAGE = f"""
with recount as (
    select client_id, count(*) as n, sum({BYTES}) as bytes
    from events where tenant_id = $1 and received_at >= $2 and received_at < $2 + interval '1 hour' group by 1
), emptied as (
    update usage u set stored = removed, bytes = removed_bytes
    where tenant_id = $1 and hour = $2 and (stored > removed or bytes > removed_bytes)
      and not exists (select from recount r where r.client_id = u.client_id)
    returning true
), written as (
    insert into usage (tenant_id, hour, client_id, stored, bytes)
    select $1, $2, client_id, n, bytes from recount order by client_id
    on conflict (tenant_id, hour, client_id)
        do update set stored = usage.removed + excluded.stored, bytes = usage.removed_bytes + excluded.bytes
        where (usage.stored, usage.bytes) <> (usage.removed + excluded.stored, usage.removed_bytes + excluded.bytes)
    returning true
)
select (select count(*) from emptied) + (select count(*) from written)
"""  # noqa: S608  constants of this project
_MEND_MONTH = """
with written as (
    insert into monthly_usage (tenant_id, month, stored)
    select $1, $2::date, coalesce(sum(stored), 0) from usage
    where tenant_id = $1 and hour >= $2::date::timestamp at time zone 'UTC'
      and hour < ($2::date::timestamp + interval '1 month') at time zone 'UTC'
    on conflict (tenant_id, month) do update set stored = excluded.stored
        where monthly_usage.stored <> excluded.stored
    returning true
)
select count(*) from written
"""


async def recount(connection: asyncpg.Connection, tenant_id: UUID, progress: Progress) -> Recounted:
    """Rewrite the buckets, hours of usage and months that are wrong; `connection` is sluice_worker's.

    A count is what is in `events` and what retention or erasure is known to have removed.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await bind_tenants(connection, [tenant_id])
        found = [connection.cursor(query, tenant_id, timeout=RECOUNT_SECONDS) for query in (BUCKETS, USAGE)]
        buckets, usage = [[row["hour"] async for row in rows if row["wrong"]] for rows in found]
    of_buckets = of_usage = of_months = 0
    for hour in buckets:
        of_buckets += await _mend(connection, tenant_id, hour, _MEND_BUCKETS, _HOLD_BUCKETS)
        progress(1)
    for hour in usage:
        of_usage += await _mend(connection, tenant_id, hour, _MEND_USAGE, _HOLD_USAGE)
        progress(1)
    # Not before: they are the sums of what was mended.
    async with connection.transaction(readonly=True):
        await bind_tenants(connection, [tenant_id])
        months = [row["month"] for row in await connection.fetch(MONTHS, tenant_id)]
    for month in months:
        of_months += await _mend(connection, tenant_id, month, _MEND_MONTH)
    return Recounted(of_buckets, of_usage, of_months)


async def _mend(connection: asyncpg.Connection, tenant_id: UUID, when: Any, mend: str, lock: str | None = None) -> int:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await bind_tenants(connection, [tenant_id])
                if not await connection.fetchval(HOLD, tenant_id):
                    return 0  # it is being deleted
                if lock is not None:
                    await connection.execute(lock, tenant_id, when)
                return int(await connection.fetchval(mend, tenant_id, when, timeout=RECOUNT_SECONDS))
        except asyncpg.DeadlockDetectedError:
            if attempt == _ATTEMPTS:
                raise
        await asyncio.sleep(backoff(attempt))
    raise AssertionError("the last attempt returns or raises")
