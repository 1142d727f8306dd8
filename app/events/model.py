"""What a client may send as one event, and how it becomes an accepted one or a list of faults.

Pure: bytes and the clock in, a value out. Owns the bounds of a single event; content types, batches and
answers belong to `app.ingest`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
from uuid_utils import uuid7

from app.errors import Fault
from app.events.metadata import faults_of, is_plain, text_fault
from app.events.record import AcceptedEvent
from app.events.timestamps import parse_rfc3339

MAX_EVENT_BYTES = 64 * 1024
MAX_TEXT_LENGTH = 200
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
FUTURE = timedelta(days=1)

_DATE_LENGTH = len("2026-01-02")

ALIASES = (("event_type", "eventType", "name"), ("event_id", "eventId"), ("user_id", "userId"))
_NO_METADATA = msgspec.Raw(b"{}")
ABSENT = msgspec.Raw(b"null")
"""What `IncomingEvent.metadata` is where the client sent none."""


class IncomingEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The JSON members that an event may have, aliases included. `null` counts as absent."""

    event_type: str | None = None
    eventType: str | None = None  # noqa: N815  the wire's alias
    name: str | None = None
    user_id: str | None = None
    userId: str | None = None  # noqa: N815
    timestamp: str | None = None
    event_id: str | None = None
    eventId: str | None = None  # noqa: N815
    metadata: msgspec.Raw = ABSENT


class Receipt(msgspec.Struct, frozen=True):
    """When the request came in: the timestamp of events without one, and the latest that is believed."""

    at: datetime
    latest: datetime

    @classmethod
    def now(cls) -> Receipt:
        at = datetime.now(UTC)
        return cls(at, at + FUTURE)


def accept(  # noqa: C901  one pass, few calls
    event: IncomingEvent, receipt: Receipt, *, known_plain: bool = False
) -> AcceptedEvent | list[Fault]:
    """The complete event, or why not; pointers are relative to the event. `known_plain`: `are_plain` said so.

    `event_id` becomes a UUIDv7 (RFC 9562) and `timestamp` the time of receipt where the client gave none.
    """
    event_type = event.event_type
    event_id = event.event_id
    user_id = event.user_id
    # The common case is decided with few operations; everything else is told apart below.
    if event.eventType is not None or event.name is not None or event.userId is not None or event.eventId is not None:
        clash = _alias_faults(event)
        if clash:
            return clash
        event_type = event_type or event.eventType or event.name
        event_id = event_id if event_id is not None else event.eventId
        user_id = user_id if user_id is not None else event.userId
    timestamp = receipt.at
    if event.timestamp is not None:
        try:
            timestamp = _moment(event.timestamp)
        except ValueError as error:
            return [Fault("/timestamp", str(error)), *_text_faults(event_type, event_id, user_id)]
    metadata = event.metadata
    if metadata is ABSENT:
        metadata = _NO_METADATA
    elif not known_plain:
        raw = bytes(metadata)
        if not (raw.startswith(b"{") and is_plain(raw)):
            if raw == b"null":
                metadata = _NO_METADATA
            elif faults := faults_of(raw, "/metadata"):
                return faults + _text_faults(event_type, event_id, user_id)
    if (
        event_type is None
        or not _is_plain_text(event_type)
        or (event_id is not None and not _is_plain_text(event_id))
        or (user_id is not None and not _is_plain_text(user_id))
        or not EARLIEST <= timestamp <= receipt.latest
    ):
        faults = _text_faults(event_type, event_id, user_id) + _time_faults(timestamp, receipt)
        if faults:
            return faults
    return AcceptedEvent(
        event_id if event_id is not None else str(uuid7()),
        event_type,  # type: ignore[arg-type]  # None was a fault above
        timestamp,
        metadata,
        user_id,
    )


def _moment(text: str) -> datetime:
    if len(text) == _DATE_LENGTH:
        text += "T00:00:00Z"  # a date means its start
    return parse_rfc3339(text)


def _is_plain_text(text: str) -> bool:
    return 0 < len(text) <= MAX_TEXT_LENGTH and text.isascii() and "\0" not in text


def _alias_faults(event: IncomingEvent) -> list[Fault]:
    faults = []
    for names in ALIASES:
        given = [name for name in names if getattr(event, name) is not None]
        if len(given) > 1:
            faults.append(Fault(f"/{given[1]}", f"means the same as {given[0]}: send one of them"))
    return faults


def _text_faults(event_type: str | None, event_id: str | None, user_id: str | None) -> list[Fault]:
    faults = []
    if event_type is None:
        faults.append(Fault("/event_type", "is required"))
    for name, text in (("event_type", event_type), ("event_id", event_id), ("user_id", user_id)):
        if text is None:
            continue
        if not 0 < len(text) <= MAX_TEXT_LENGTH:
            faults.append(Fault(f"/{name}", f"must have 1 to {MAX_TEXT_LENGTH} characters, has {len(text)}"))
        elif (fault := text_fault(text)) is not None:
            faults.append(Fault(f"/{name}", fault))
    return faults


def _time_faults(timestamp: datetime, receipt: Receipt) -> list[Fault]:
    if timestamp < EARLIEST:
        return [Fault("/timestamp", "is before 1970-01-01")]
    if timestamp > receipt.latest:
        return [Fault("/timestamp", "is more than one day in the future")]
    return []


_UNKNOWN = "Object contains unknown field `"
_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


def fault_from(error: msgspec.ValidationError) -> Fault:
    """The message of msgspec as a fault: its `$.a[0]` path becomes a JSON pointer.

    An unknown member's name is in the message, not in the path; it is moved into the pointer.
    """
    message = str(error)
    if message.startswith(_UNKNOWN):  # the name is the sender's and may look like a path; none ever follows it here
        name = message.removeprefix(_UNKNOWN)[:-1].replace("~", "~0").replace("/", "~1")
        return Fault(f"/{name}", "is not a member of an event; put your own values into metadata")
    match = _PATH.search(message)
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(match["path"])) if match else ""
    text = message[: match.start()] if match else message
    return Fault(pointer, text[0].lower() + text[1:])
