"""What each read endpoint is asked: its parameters, declared for OpenAPI and read into one frozen value.

The dependencies here run after the caller's token was checked, so a stranger learns nothing about parameters.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Path, Request

from app.errors import Fault, InvalidError, MalformedError
from app.parameters import Parameter, Reading, pairs_of_query
from app.reads import cursor, timeline
from app.reads.buckets import Interval
from app.reads.window import ENDED_AT, NAME_CHARACTERS, STARTED_AT, WINDOW_PARAMETERS, Window, read_window
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
    {"type": "string", "maxLength": cursor.LONGEST},
)

TREND_PARAMETERS = (*WINDOW_PARAMETERS, INTERVAL)
STATS_PARAMETERS = (*WINDOW_PARAMETERS, TOP)
TIMELINE_PARAMETERS = (*WINDOW_PARAMETERS, LIMIT, CURSOR)

UserId = Annotated[
    str,
    Path(
        description="The user; a `/` may be written as it is or as %2F.",
        examples=["u1"],
        json_schema_extra={"minLength": 1, "maxLength": NAME_CHARACTERS},
    ),
]


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
    _check_user_id(request, user_id)
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


def _check_user_id(request: Request, user_id: str) -> None:
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode()
    except UnicodeDecodeError:
        raise MalformedError("The path is not UTF-8.") from None
    if "\0" in user_id or not 0 < len(user_id) <= NAME_CHARACTERS:
        detail = f"must have 1 to {NAME_CHARACTERS} characters, none of them NUL"
        raise InvalidError("The user id is not valid.", (Fault("/path/user_id", detail),))


CountOf = Annotated[Window, Depends(_count)]
TrendOf = Annotated[TrendQuestion, Depends(_trend)]
StatsOf = Annotated[StatsQuestion, Depends(_stats)]
TimelineOf = Annotated[TimelineQuestion, Depends(_timeline)]
