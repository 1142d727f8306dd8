"""The filters of dead letters, as the API's parameters and a command's options give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.parameters import TIME_SCHEMA, Parameter
from app.recovery.letters import REASONS, STATUSES, Filters

if TYPE_CHECKING:
    from app.parameters import Reading

STATUS = Parameter("status", "Only letters of this status.", {"type": "string", "enum": list(STATUSES)}, "open")
REASON = Parameter("reason", "Only letters with this reason.", {"type": "string", "enum": list(REASONS)}, "unstorable")
STARTED_AT = Parameter("started_at", "Only letters made from this moment on: RFC 3339, or a date (UTC).", TIME_SCHEMA)
ENDED_AT = Parameter("ended_at", "Only letters made before this moment: RFC 3339, or a date (UTC).", TIME_SCHEMA)
CHOICE = (REASON, STARTED_AT, ENDED_AT)
FILTERS = (STATUS, *CHOICE)


def read_choice(reading: Reading, status: str | None = None) -> Filters:
    """The filters that `reading`, made with `CHOICE` among others, asks for; faults are left in `reading`."""
    reason = reading.choice(REASON.name, REASONS, default="") or None
    started_at, ended_at = reading.moment(STARTED_AT.name), reading.moment(ENDED_AT.name)
    if started_at is not None and ended_at is not None and ended_at < started_at:
        reading.refuse(ENDED_AT.name, "is before started_at")
    return Filters(status, reason, started_at, ended_at)


def read_filters(reading: Reading) -> Filters:
    """As `read_choice`, with `FILTERS`."""
    return read_choice(reading, reading.choice(STATUS.name, STATUSES, default="") or None)
