"""`/api/v1/events/user/…`, `/count`, `/trend`, `/stats`: HTTP only; the modules beside this one answer."""

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from app.events.timestamps import format_utc
from app.parameters import openapi_parameters
from app.reads import cursor
from app.reads.answers import CountAnswer, StatsAnswer, TimelineAnswer, TrendAnswer, problems
from app.reads.count import count_events
from app.reads.questions import (
    STATS_PARAMETERS,
    TIMELINE_PARAMETERS,
    TREND_PARAMETERS,
    CountOf,
    StatsOf,
    TimelineOf,
    TrendOf,
)
from app.reads.stats import stats_of_events
from app.reads.timeline import timeline_of_user
from app.reads.trend import trend_of_events
from app.reads.window import WINDOW_PARAMETERS
from app.state import Database
from app.user_path import UserId
from auth.dependencies import EventsReader
from tenants.session import tenant_session

router = APIRouter(prefix="/api/v1", tags=["Read"])


@router.get(
    "/events/user/{user_id:path}",
    summary="One user's events, oldest first",
    response_model=TimelineAnswer,
    responses=problems("/api/v1/events/user/u1"),
    openapi_extra=openapi_parameters(TIMELINE_PARAMETERS),
)
async def user_timeline(reader: EventsReader, user_id: UserId, asked: TimelineOf, database: Database) -> Response:
    """Without `started_at` from the start of today in `timezone`; without `ended_at` the 30 days after the start.

    Events of the same moment are ordered by event id. Pages are cut at a place, not at a number, so an event that
    arrives meanwhile moves none of them.
    """
    async with tenant_session(database, reader.tenant_id) as connection:
        page = await timeline_of_user(
            connection, reader.tenant_id, user_id, asked.window, limit=asked.limit, place=asked.place
        )
    events = [
        {
            "event_id": event.event_id,
            "event_type": event.event_type,
            "timestamp": format_utc(event.timestamp),
            "metadata": msgspec.Raw(event.metadata.encode()),
        }
        for event in page.events
    ]
    return _json(
        {"events": events, "next_cursor": None if page.after is None else cursor.encode(page.after, asked.binding)}
    )


@router.get(
    "/events/count",
    summary="How many events there are",
    response_model=CountAnswer,
    responses=problems("/api/v1/events/count"),
    openapi_extra=openapi_parameters(WINDOW_PARAMETERS),
)
async def event_count(reader: EventsReader, window: CountOf, database: Database) -> Response:
    """Exact, also where the range begins or ends within a quarter of an hour. Without a range: all events."""
    async with tenant_session(database, reader.tenant_id) as connection:
        total = await count_events(connection, reader.tenant_id, window)
    return _json({"event_type": window.event_type, "count": total})


@router.get(
    "/events/trend",
    summary="Counts per hour, day, week or month",
    response_model=TrendAnswer,
    responses=problems("/api/v1/events/trend"),
    openapi_extra=openapi_parameters(TREND_PARAMETERS),
)
async def event_trend(reader: EventsReader, asked: TrendOf, database: Database) -> Response:
    """One entry per bucket and event type, zeros included, for `event_type` or for each type in the range.

    An end of the range that is not given is the first or last matching event. The first bucket is named by its
    calendar start even if the range begins within it, and counts the range only. A day is as long as the local
    clock makes it; an hour that the clock shows twice is two buckets. At most 10,000 buckets and 50,000 entries: a
    question for more is answered 422.
    """
    async with tenant_session(database, reader.tenant_id, snapshot=True) as connection:
        points = await trend_of_events(connection, reader.tenant_id, asked.window, asked.interval)
    names = {bucket: format_utc(bucket) for bucket in {point.bucket for point in points}}
    series = [{"bucket": names[point.bucket], "event_type": point.event_type, "count": point.count} for point in points]
    return _json({"interval": asked.interval.value, "timezone": asked.window.zone.key, "series": series})


@router.get(
    "/events/stats",
    summary="Total, types, first and last event, peak hour, unique users",
    response_model=StatsAnswer,
    responses=problems("/api/v1/events/stats"),
    openapi_extra=openapi_parameters(STATS_PARAMETERS),
)
async def event_stats(reader: EventsReader, asked: StatsOf, database: Database) -> Response:
    """All numbers are of one moment. Without a range: all events."""
    async with tenant_session(database, reader.tenant_id, snapshot=True) as connection:
        stats = await stats_of_events(connection, reader.tenant_id, asked.window, top=asked.top)
    peak = stats.peak_hour
    first, last = stats.first_event_at, stats.last_event_at
    return _json(
        {
            "total": stats.total,
            "by_type": stats.by_type,
            "first_event_at": None if first is None else format_utc(first),
            "last_event_at": None if last is None else format_utc(last),
            "peak_hour": None if peak is None else {"bucket": format_utc(peak.bucket), "count": peak.count},
            "unique_users": stats.unique_users,
            "timezone": asked.window.zone.key,
        }
    )


def _json(answer: dict[str, Any]) -> Response:
    """What one tenant may see is kept by no cache on the way."""
    return Response(msgspec.json.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})
