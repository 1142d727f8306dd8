"""Counts per bucket of a time zone's calendar and per event type, with zeros where nothing happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import ARRAY, BigInteger, DateTime, cast, func, literal, select

from app.errors import Fault, InvalidError
from app.reads.buckets import Interval, Segments, on_quarter, segments
from app.reads.extent import extent_of
from app.reads.tallies import tallies

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID
    from zoneinfo import ZoneInfo

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.reads.window import Window

MOST_BUCKETS = 10_000
MOST_ENTRIES = 50_000
"""Buckets times types: about 5 MB of JSON."""


@dataclass(frozen=True)
class Point:
    """`count` events of `event_type` in the bucket that begins at `bucket` (UTC)."""

    bucket: datetime
    event_type: str
    count: int


async def trend_of_events(
    connection: AsyncConnection, tenant_id: UUID, window: Window, interval: Interval
) -> list[Point]:
    """One point per bucket and type, ordered by bucket, then type; each bucket has every type, at 0 without events.

    The types are `window.event_type`, or all that occur in the range. An open end is closed at the first or last
    matching event; without any there are no points. The first bucket bears its calendar start even where
    `started_at` lies within it. Takes a snapshot connection.

    Raises:
        InvalidError: more than `MOST_BUCKETS` buckets or `MOST_ENTRIES` points.
    """
    start, end = window.started_at, window.ended_at
    if start is None or end is None:
        extent = await extent_of(connection, tenant_id, window)
        if extent is None:
            return []
        start = extent.started_at if start is None else start
        end = extent.ended_at if end is None else end
    cut = _cut(start, end, interval, window.zone)
    if not cut.edges:
        return []
    counts = await _counts(connection, tenant_id, replace(window, started_at=start, ended_at=end), cut)
    held = {number for number, _ in counts}
    if not held and (window.started_at is None or window.ended_at is None):
        return []
    # The extent is a quarter of an hour wide, so that an open end may have begun a bucket too early or too late.
    first = min(held) if window.started_at is None else 0
    last = max(held) if window.ended_at is None else len(cut.buckets) - 1
    types = [window.event_type] if window.event_type is not None else sorted({name for _, name in counts})
    if len(types) * (last + 1 - first) > MOST_ENTRIES:
        raise _too_much(f"{len(types)} event types in {last + 1 - first} buckets")
    return [
        Point(cut.buckets[number], name, counts.get((number, name), 0))
        for number in range(first, last + 1)
        for name in types
    ]


def _cut(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo) -> Segments:
    if end - start > MOST_BUCKETS * interval.reach:
        raise _too_much(f"the range has more than {MOST_BUCKETS} buckets")
    try:
        cut = segments(start, end, interval, zone)
    except OverflowError:
        detail = "the buckets reach outside the years 0001 to 9999"
        raise InvalidError("The range can't be cut into buckets.", (Fault("/query/started_at", detail),)) from None
    if len(cut.buckets) > MOST_BUCKETS:
        raise _too_much(f"the range has {len(cut.buckets)} buckets")
    return cut


async def _counts(
    connection: AsyncConnection, tenant_id: UUID, window: Window, cut: Segments
) -> dict[tuple[int, str], int]:
    """(number of the bucket, event type) → count, without zeros."""
    counted = tallies(tenant_id, window, from_events=not on_quarter(cut.edges[1:]))
    # The database cuts where this process says, so one time zone database decides; the search is binary.
    piece = func.width_bucket(counted.c.at, literal(list(cut.edges), ARRAY(DateTime(timezone=True))))
    statement = (
        select(piece, counted.c.event_type, cast(func.sum(counted.c.count), BigInteger))
        .group_by(piece, counted.c.event_type)
        .limit(MOST_ENTRIES + 1)
    )
    rows = (await connection.execute(statement)).all()
    if len(rows) > MOST_ENTRIES:
        raise _too_much(f"more than {MOST_ENTRIES} pairs of bucket and event type have events")
    counts: dict[tuple[int, str], int] = {}
    for number, name, count in rows:
        key = (cut.bucket_of[number - 1], name)
        counts[key] = counts.get(key, 0) + count
    return counts


def _too_much(found: str) -> InvalidError:
    bounds = f"a trend has at most {MOST_BUCKETS} buckets and {MOST_ENTRIES} points (buckets times event types)"
    advice = "choose a longer interval, a shorter range or one event_type"
    return InvalidError("The trend would be too long.", (Fault("/query/interval", f"{found}; {bounds}: {advice}"),))
