"""Which events a question is about: a span of time and filters, as every read endpoint takes them.

Owns the meaning of started_at, ended_at, timezone, event_type and client_id; the search endpoint shares it.
Refuses to know a tenant: that comes from the token and never from a parameter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.parameters import TIME_SCHEMA, Parameter, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_CHARACTERS = 200
"""The most characters that an event type, a user id or a client id has."""

_NAME_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS}
STARTED_AT = Parameter(
    "started_at",
    "Only events from this moment on: RFC 3339, or a date (the start of that day in `timezone`).",
    TIME_SCHEMA,
    "2026-01-01",
)
ENDED_AT = Parameter(
    "ended_at",
    "Only events before this moment (exclusive): RFC 3339, or a date (the start of that day in `timezone`). "
    "Must not be before `started_at`.",
    TIME_SCHEMA,
    "2026-02-01T00:00:00Z",
)
TIMEZONE = Parameter(
    "timezone",
    "The IANA time zone in which dates are read and days and hours begin.",
    {"type": "string", "default": "UTC"},
    "Asia/Shanghai",
)
EVENT_TYPE = Parameter("event_type", "Only events of this type.", _NAME_SCHEMA, "click", aliases=("name",))
CLIENT_ID = Parameter("client_id", "Only events that this client sent.", _NAME_SCHEMA)
WINDOW_PARAMETERS = (STARTED_AT, ENDED_AT, EVENT_TYPE, CLIENT_ID, TIMEZONE)

_ZONE_NAME = re.compile(r"(?!posix/|right/)[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_UTC_ZONE = ZoneInfo("UTC")


@dataclass(frozen=True)
class Window:
    """Events with started_at ≤ timestamp < ended_at that pass the filters; None does not restrict.

    Times are in UTC. `zone` is where the caller's days and hours begin.
    """

    started_at: datetime | None = None
    ended_at: datetime | None = None
    event_type: str | None = None
    client_id: str | None = None
    zone: ZoneInfo = _UTC_ZONE


def window_of(pairs: Iterable[tuple[str, str]]) -> Window:
    """The window that a request's parameters (names and values) describe, with no other parameter beside it.

    Raises:
        InvalidError: names every fault (see `Reading` for its pointers).
    """
    reading = Reading(pairs, WINDOW_PARAMETERS)
    window = read_window(reading)
    reading.finish()
    return window


def read_window(reading: Reading) -> Window:
    """The window among parameters that `reading` (declared with `WINDOW_PARAMETERS` and others) holds.

    Faults are left in `reading`; the result is only meant once `reading.finish()` returned.
    """
    zone = _read_zone(reading)
    started_at = reading.moment(STARTED_AT.name, zone)
    ended_at = reading.moment(ENDED_AT.name, zone)
    if started_at is not None and ended_at is not None and ended_at < started_at:
        reading.refuse(ENDED_AT.name, "is before started_at")
    return Window(
        started_at=started_at,
        ended_at=ended_at,
        event_type=reading.text(EVENT_TYPE.name, most=NAME_CHARACTERS),
        client_id=reading.text(CLIENT_ID.name, most=NAME_CHARACTERS),
        zone=zone,
    )


def _read_zone(reading: Reading) -> ZoneInfo:
    name = reading.text(TIMEZONE.name)
    if name is None:
        return _UTC_ZONE
    # ZoneInfo takes paths and whatever file lies there, hence the pattern before and the three errors after.
    if _ZONE_NAME.fullmatch(name) and len(name) <= NAME_CHARACTERS:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    reading.refuse(TIMEZONE.name, "is not an IANA time zone such as UTC or Asia/Shanghai")
    return _UTC_ZONE
