"""A window at a glance: total, most frequent types, first and last event, busiest hour, unique users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ARRAY, BigInteger, DateTime, Row, cast, column, func, literal, literal_column, select

from app.reads.buckets import Span, on_quarter, spans
from app.reads.extent import extent_of, first_and_last
from app.reads.tallies import events, of_window, tallies

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Subquery
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.reads.window import Window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class TypeCount:
    """`share` is `count` over the total, in (0, 1]."""

    event_type: str
    count: int
    share: float


@dataclass(frozen=True)
class PeakHour:
    """The clock hour that begins at `bucket` (UTC) had `count` events, more than any other or the first of equals."""

    bucket: datetime
    count: int


@dataclass(frozen=True)
class Stats:
    """`by_type` is ordered by count, the highest first, then name; events without a user have no part in users."""

    total: int = 0
    by_type: tuple[TypeCount, ...] = ()
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None
    peak_hour: PeakHour | None = None
    unique_users: int = 0


async def stats_of_events(connection: AsyncConnection, tenant_id: UUID, window: Window, *, top: int) -> Stats:
    """The statistics of the tenant's events in `window`, with the `top` most frequent types.

    Total, types and peak hour come from aggregates, the rest from stored events. Takes a snapshot connection.
    """
    extent = await extent_of(connection, tenant_id, window)
    if extent is None:
        return Stats()
    start = extent.started_at if window.started_at is None else max(window.started_at, extent.started_at)
    end = extent.ended_at if window.ended_at is None else min(window.ended_at, extent.ended_at)
    narrowed = replace(window, started_at=start, ended_at=end)
    # From an hour before, so that a change of offset in the hour that the window enters late is known.
    hours = spans(start - _HOUR, end, window.zone)
    # No zone of today begins an hour within a quarter; for those that did, single events are looked at.
    odd = not on_quarter(_origin(span) for span in hours) or not on_quarter(span.started_at for span in hours[1:])
    by_type = await _by_type(connection, tallies(tenant_id, narrowed), top)
    first, last = await first_and_last(connection, tenant_id, narrowed)
    users = select(func.count(events.c.user_id.distinct())).where(*of_window(tenant_id, window, start, end))
    return Stats(
        total=by_type[0].total if by_type else 0,
        by_type=tuple(TypeCount(row.event_type, row.count_, row.count_ / row.total) for row in by_type),
        first_event_at=first,
        last_event_at=last,
        peak_hour=await _peak_hour(connection, tallies(tenant_id, narrowed, from_events=odd), hours),
        unique_users=await connection.scalar(users) or 0,
    )


async def _by_type(connection: AsyncConnection, counted: Subquery, top: int) -> list[Row[tuple[str, int, int]]]:
    """(event_type, count_, total of all types), the `top` most frequent."""
    count = func.sum(counted.c.count)
    statement = (
        select(
            counted.c.event_type,
            cast(count, BigInteger).label("count_"),
            cast(func.sum(count).over(), BigInteger).label("total"),
        )
        .group_by(counted.c.event_type)
        .order_by(count.desc(), counted.c.event_type)
        .limit(top)
    )
    return list((await connection.execute(statement)).all())


async def _peak_hour(connection: AsyncConnection, counted: Subquery, hours: list[Span]) -> PeakHour | None:
    instants = ARRAY(DateTime(timezone=True))
    starts = literal([span.started_at for span in hours], instants)
    origins = literal([_origin(span) for span in hours], instants)
    # The hour that a change of offset cuts begins with the change. The first span begins without one.
    changes = literal([None, *(span.started_at for span in hours[1:])], instants)
    calendar = (
        func.unnest(origins, changes)
        .table_valued(
            column("origin", DateTime(timezone=True)),
            column("changed_at", DateTime(timezone=True)),
            with_ordinality="number",
        )
        .render_derived(name="calendar")
    )
    begun = func.date_bin(literal_column("interval '1 hour'"), counted.c.at, calendar.c.origin)
    hour = func.greatest(begun, calendar.c.changed_at)
    count = cast(func.sum(counted.c.count), BigInteger)
    statement = (
        select(hour, count)
        .join_from(counted, calendar, func.width_bucket(counted.c.at, starts) == calendar.c.number)
        .group_by(hour)
        .order_by(count.desc(), hour)
        .limit(1)
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else PeakHour(row[0], row[1])


def _origin(span: Span) -> datetime:
    """A moment at which local clocks show a full hour: its distance to the epoch is the odd part of the offset."""
    return _EPOCH - span.offset % _HOUR
