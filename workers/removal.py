"""Taking events out of PostgreSQL so that what was counted still adds up: rows, aggregates and usage, a piece a
transaction.

An erased event is not counted any more; one that retention removes stays counted, and is written down as gone. Refuses
to know which events, and when. Locks are taken in the store's order: events, aggregates, usage, each by key.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from workers.usage import BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    import asyncpg

_HOLD = "select 1 from tenants where tenant_id = $1 for no key update"
_TRY_TO_HOLD = f"{_HOLD} skip locked"

_REMOVE = """
with removed as (
    delete from events where tenant_id = $1 and ctid = any (array({chosen}))
    returning "timestamp", event_type, client_id, received_at, {size} as bytes
)
select date_bin('15 minutes', "timestamp", '1970-01-01Z') as bucket, event_type, client_id,
       date_bin('1 hour', received_at, '1970-01-01Z') as hour, count(*) as events, sum(bytes)::bigint as bytes,
       max("timestamp") as last
from removed group by 1, 2, 3, 4
"""
_OF_USER = """
    select ctid from events
    where tenant_id = $1 and user_id = $2 and received_at <= $3 and "timestamp" >= $4 order by "timestamp" limit $5
"""
_OF_TIME = "select ctid from events where tenant_id = $1 and received_at >= $2 and received_at < $3 limit $4"
REMOVE_OF_USER = _REMOVE.format(chosen=_OF_USER, size=BYTES)
REMOVE_OF_TIME = _REMOVE.format(chosen=_OF_TIME, size=BYTES)

# Key by key, whatever the planner thinks of how many there are; in their order, as the store locks them.
_LOCK_BUCKETS = """
select a.bucket, a.event_type, a.client_id, a.count, a.expired, k.events
from (
    select * from unnest($2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
        as k (bucket, event_type, client_id, events)
    order by bucket, event_type collate "C", client_id collate "C"
) as k cross join lateral (
    select bucket, event_type, client_id, count, expired from aggregated_events
    where tenant_id = $1 and (bucket, event_type, client_id) = (k.bucket, k.event_type, k.client_id) for update
) as a
"""
_WRITE_BUCKETS = """
insert into aggregated_events (tenant_id, bucket, event_type, client_id, count, expired)
select $1, * from unnest($2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
on conflict (tenant_id, bucket, event_type, client_id) do update set count = excluded.count, expired = excluded.expired
"""
_FORGET_BUCKETS = "delete from aggregated_events where tenant_id = $1 and bucket between $2 and $3 and count = 0"

_HOURS = "unnest($2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[]) as k (hour, client_id, events, bytes)"
_SAME_HOUR = "u.tenant_id = $1 and (u.hour, u.client_id) = (k.hour, k.client_id)"
# What was counted wrongly before must not stop a removal: it stays within its bounds, and `sluice verify` tells of it.
_LOCK_HOURS = f"""
select 1 from usage u join {_HOURS} on {_SAME_HOUR} order by u.hour, u.client_id for update of u
"""  # noqa: S608  constants of this module
_USED = f"""
update usage u set removed = least(u.stored, u.removed + k.events),
                   removed_bytes = least(u.bytes, u.removed_bytes + k.bytes)
from {_HOURS} where {_SAME_HOUR}
"""  # noqa: S608  constants of this module


class Counting(Enum):
    """What aggregates make of an event that is removed."""

    ERASED = "counted no more"
    EXPIRED = "still counted"


class OfUser(NamedTuple):
    """A user's events that were received until `cut_at`, with timestamps from `since` on."""

    user_id: str
    cut_at: datetime
    since: datetime


class Removed(NamedTuple):
    """How many events; `last` is the newest timestamp among them, None if there were none."""

    events: int
    last: datetime | None


async def hold_tenant(connection: asyncpg.Connection, tenant_id: UUID) -> None:
    """Until the commit nobody else removes events of the tenant; waits for who does. The store worker goes on storing.
    Row security must be bound to it.
    """
    await connection.execute(_HOLD, tenant_id)


async def try_to_hold_tenant(connection: asyncpg.Connection, tenant_id: UUID) -> bool:
    """As `hold_tenant`, but False instead of waiting."""
    return bool(await connection.fetchval(_TRY_TO_HOLD, tenant_id))


async def remove_of_user(connection: asyncpg.Connection, tenant_id: UUID, chosen: OfUser, most: int) -> Removed:
    """Remove up to `most` of these events, by their timestamps. They are counted no more."""
    found = await connection.fetch(REMOVE_OF_USER, tenant_id, *chosen, most)
    return await _write_down(connection, tenant_id, found, Counting.ERASED)


async def remove_of_time(
    connection: asyncpg.Connection, tenant_id: UUID, begin: datetime, end: datetime, most: int
) -> Removed:
    """Remove up to `most` events that were received in [begin, end). They stay counted."""
    found = await connection.fetch(REMOVE_OF_TIME, tenant_id, begin, end, most)
    return await _write_down(connection, tenant_id, found, Counting.EXPIRED)


async def _write_down(
    connection: asyncpg.Connection, tenant_id: UUID, found: Iterable[asyncpg.Record], counting: Counting
) -> Removed:
    buckets: Counter[tuple[datetime, str, str]] = Counter()
    events: Counter[tuple[datetime, str]] = Counter()
    size: Counter[tuple[datetime, str]] = Counter()
    last: datetime | None = None
    for row in found:
        buckets[row["bucket"], row["event_type"], row["client_id"]] += row["events"]
        hour = row["hour"], row["client_id"]
        events[hour] += row["events"]
        size[hour] += row["bytes"]
        last = row["last"] if last is None else max(last, row["last"])
    if last is None:
        return Removed(0, None)
    await _count_down(connection, tenant_id, buckets, counting)
    of_hours = (*_columns(events), list(events.values()), [size[hour] for hour in events])
    for statement in (_LOCK_HOURS, _USED):
        await connection.execute(statement, tenant_id, *of_hours)
    return Removed(events.total(), last)


async def _count_down(
    connection: asyncpg.Connection, tenant_id: UUID, buckets: Counter[tuple[datetime, str, str]], counting: Counting
) -> None:
    held = await connection.fetch(_LOCK_BUCKETS, tenant_id, *_columns(buckets), list(buckets.values()))
    written: list[tuple[object, ...]] = []
    for *key, count, expired, events in held:
        if counting is Counting.ERASED:
            written.append((*key, max(expired, count - events), expired))
        else:
            written.append((*key, count, min(count, expired + events)))
    if written:
        await connection.execute(_WRITE_BUCKETS, tenant_id, *_columns(written))
    if counting is Counting.ERASED:
        times = [bucket for bucket, _, _ in buckets]
        await connection.execute(_FORGET_BUCKETS, tenant_id, min(times), max(times))


def _columns(keys: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*keys, strict=True)]
