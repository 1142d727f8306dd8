"""What each read endpoint is asked: its parameters, declared for OpenAPI and read into one frozen value.

The dependencies here run after the caller's token was checked, so a stranger learns nothing about parameters.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from app.parameters import Parameter, Reading, pairs_of_query
from app.reads import cursor, timeline
from app.reads.buckets import Interval
from app.reads.window import ENDED_AT, STARTED_AT, WINDOW_PARAMETERS, Window, read_window
from app.user_path import UserId, check_user_id
from auth.dependencies import EventsReader

MOST_TYPES = 1000
DEFAULT_TYPES = 10
DEFAULT_LIMIT = 100

INTERVAL = Parameter(
    "interval",
    "The width of the buckets, on the calendar of `timezone`; weeks begin on Monday.",
    {"type": "string", "enum": [interval.value for interval in Interval], "default": Interval.DAILY.value},
    Interval.DAILY.value,
)
TOP = Parameter(
    "top",
    "How many event types to list, the most frequent first.",
    {"type": "integer", "minimum": 1, "maximum": MOST_TYPES, "default": DEFAULT_TYPES},
    DEFAULT_TYPES,
)
LIMIT = Parameter(
    "limit",
    "The most events on a page. A page of very large events may hold fewer: go on while there is a `next_cursor`.",
    {"type": "integer", "minimum": 1, "maximum": timeline.MOST_EVENTS, "default": DEFAULT_LIMIT},
    DEFAULT_LIMIT,
)
CURSOR = Parameter(
    "cursor",
    "The `next_cursor` of the page before, with otherwise the same parameters (`limit` may change).",
    {"type": "string", "minLength": 1, "maxLength": cursor.LONGEST},
)

TREND_PARAMETERS = (*WINDOW_PARAMETERS, INTERVAL)
STATS_PARAMETERS = (*WINDOW_PARAMETERS, TOP)
TIMELINE_PARAMETERS = (*WINDOW_PARAMETERS, LIMIT, CURSOR)


@dataclass(frozen=True)
class TrendQuestion:
    window: Window
    interval: Interval


@dataclass(frozen=True)
class StatsQuestion:
    window: Window
    top: int


@dataclass(frozen=True)
class TimelineQuestion:
    """`binding` is what cursors of this question are bound to."""

    window: Window
    limit: int
    place: cursor.Place
    binding: bytes


async def _count(request: Request, _reader: EventsReader) -> Window:
    reading = Reading(pairs_of_query(request.scope["query_string"]), WINDOW_PARAMETERS)
    window = read_window(reading)
    reading.finish()
    return window


async def _trend(request: Request, _reader: EventsReader) -> TrendQuestion:
    reading = Reading(pairs_of_query(request.scope["query_string"]), TREND_PARAMETERS)
    window = read_window(reading)
    interval = reading.choice(INTERVAL.name, [*Interval], default=Interval.DAILY)
    reading.finish()
    return TrendQuestion(window, Interval(interval))


async def _stats(request: Request, _reader: EventsReader) -> StatsQuestion:
    reading = Reading(pairs_of_query(request.scope["query_string"]), STATS_PARAMETERS)
    window = read_window(reading)
    top = reading.integer(TOP.name, default=DEFAULT_TYPES, least=1, most=MOST_TYPES)
    reading.finish()
    return StatsQuestion(window, top)


async def _timeline(
    request: Request,
    reader: EventsReader,
    user_id: UserId,
) -> TimelineQuestion:
    check_user_id(request, user_id)
    reading = Reading(pairs_of_query(request.scope["query_string"]), TIMELINE_PARAMETERS)
    window = read_window(reading)
    limit = reading.integer(LIMIT.name, default=DEFAULT_LIMIT, least=1, most=timeline.MOST_EVENTS)
    handed = reading.text(CURSOR.name, most=cursor.LONGEST)
    reading.finish()
    binding = timeline.question(reader.tenant_id, user_id, window)
    place = _first_place(reading, window) if handed is None else _place(reading, handed, binding)
    return TimelineQuestion(window, limit, place, binding)


def _first_place(reading: Reading, window: Window) -> cursor.Place:
    try:
        asked = timeline.range_of(window, datetime.now(UTC))
    except OverflowError:
        reading.refuse(STARTED_AT.name, "is less than 30 days before the end of the year 9999: say ended_at")
    else:
        if asked.started_at <= asked.ended_at:
            return cursor.Place(asked.started_at, "", asked.started_at, asked.ended_at)
        reading.refuse(ENDED_AT.name, "is before started_at, which is the start of today unless it is given")
    raise reading.failed()


def _place(reading: Reading, handed: str, binding: bytes) -> cursor.Place:
    try:
        return cursor.decode(handed, binding)
    except cursor.CursorError:
        detail = "is not a next_cursor that was answered to the same user_id, times and filters"
        reading.refuse(CURSOR.name, detail)
        raise reading.failed() from None


CountOf = Annotated[Window, Depends(_count)]
TrendOf = Annotated[TrendQuestion, Depends(_trend)]
StatsOf = Annotated[StatsQuestion, Depends(_stats)]
TimelineOf = Annotated[TimelineQuestion, Depends(_timeline)]
