"""One user's events in order of time, page by page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Text, cast, func, select, tuple_

from app.parameters import start_of_day
from app.reads.tallies import events, of_window
from app.reads.window import Window

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.reads.cursor import Place

DEFAULT_DAYS = 30
MOST_EVENTS = 1000
PAGE_BYTES = 4 * 2**20
"""A page ends with the event whose metadata passes this: 1,000 events of 64 KiB would be 64 MiB."""


@dataclass(frozen=True)
class TimelineEvent:
    """An event as stored; `metadata` is its JSON text."""

    event_id: str
    event_type: str
    timestamp: datetime
    metadata: str


@dataclass(frozen=True)
class Page:
    """Events, oldest first; `after` is where the next page starts, None on the last."""

    events: tuple[TimelineEvent, ...]
    after: Place | None


@dataclass(frozen=True)
class Range:
    """A window's times without its open ends."""

    started_at: datetime
    ended_at: datetime


def range_of(window: Window, now: datetime) -> Range:
    """Where `window` is open: from the start of today in its zone, to 30 days of its calendar after the start.

    Raises:
        OverflowError: the default end is after the year 9999.
    """
    start = window.started_at or start_of_day(now.astimezone(window.zone).date(), window.zone)
    if window.ended_at is not None:
        return Range(start, window.ended_at)
    return Range(start, (start.astimezone(window.zone) + timedelta(days=DEFAULT_DAYS)).astimezone(UTC))


def question(tenant_id: UUID, user_id: str, window: Window) -> bytes:
    """What a cursor is bound to: the tenant, the user, and times and filters as the caller gave them."""
    asked = (tenant_id, user_id, window.started_at, window.ended_at, window.event_type, window.client_id)
    return msgspec.json.encode(asked)


async def timeline_of_user(
    connection: AsyncConnection, tenant_id: UUID, user_id: str, window: Window, *, limit: int, place: Place
) -> Page:
    """Up to `limit` of the user's events in `place`'s range, oldest first (equal times by event id), after `place`.

    A page may be shorter than `limit` for the sake of `PAGE_BYTES`, but is never empty while there is more. Only
    the filters of `window` count. `place` with an empty event id is the place before all events of its timestamp.
    """
    key = tuple_(events.c.timestamp, events.c.event_id)
    rows = (
        select(
            events.c.event_id,
            events.c.event_type,
            events.c.timestamp,
            cast(events.c.metadata, Text).label("metadata"),
        )
        .where(*of_window(tenant_id, window, place.started_at, place.ended_at), events.c.user_id == user_id)
        .where(key > tuple_(place.timestamp, place.event_id))
        .order_by(events.c.timestamp, events.c.event_id)
        .limit(limit + 1)
        .cte("rows")
    )
    before = func.sum(func.octet_length(rows.c.metadata)).over(
        order_by=(rows.c.timestamp, rows.c.event_id), rows=(None, -1)
    )
    sized = select(rows, func.coalesce(before, 0).label("before"), func.count().over().label("found")).subquery()
    statement = select(sized).where(sized.c.before < PAGE_BYTES).order_by(sized.c.timestamp, sized.c.event_id)
    fetched = (await connection.execute(statement.limit(limit))).all()
    page = tuple(TimelineEvent(row.event_id, row.event_type, row.timestamp, row.metadata) for row in fetched)
    if not page or fetched[0].found == len(page):
        return Page(page, None)
    return Page(page, replace(place, timestamp=page[-1].timestamp, event_id=page[-1].event_id))
