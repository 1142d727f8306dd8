"""Events that are sent again, as JSON: a record of Kafka `events.replay`, the body of a webhook, a line of NDJSON.

Each is marked, so that nobody takes it for a new event. Contract tests hold the JSON Schemas (app/events/schemas)
equal to them. Pure: knows no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from app.events.record import RECORD_LIMIT_BYTES

TYPE = "events.replayed"


class Row(Protocol):
    """A row of `events` by column name, metadata as JSON text."""

    def __getitem__(self, column: str, /) -> Any: ...


class ReplayedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as stored."""

    event_id: str
    event_type: str
    user_id: str | None
    client_id: str
    timestamp: datetime
    received_at: datetime
    metadata: msgspec.Raw


class ReplayedLine(ReplayedEvent, frozen=True, gc=False):
    """The same, alone on a line."""

    replay_id: UUID
    replayed: bool = True


class ReplayRecord(msgspec.Struct, frozen=True, gc=False):
    """The value of a Kafka record, and what a webhook finds in `data`: events in the order of their timestamps."""

    tenant_id: UUID
    replay_id: UUID
    events: list[ReplayedEvent]
    replayed: bool = True
    version: int = 1


class _Message(msgspec.Struct, frozen=True, gc=False):
    """A webhook's body, as the Standard Webhooks specification recommends it."""

    type: str
    timestamp: datetime
    data: ReplayRecord


_NO_EVENTS = b'"events":[]'
_encode = msgspec.json.Encoder().encode


def piece(row: Row) -> bytes:
    """One event, to be joined with others by `records` or `message`."""
    return _encode(ReplayedEvent(*_members(row)))


def line(row: Row, replay_id: UUID) -> bytes:
    """One event as a line of NDJSON."""
    return _encode(ReplayedLine(*_members(row), replay_id)) + b"\n"


def records(tenant_id: UUID, replay_id: UUID, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Kafka records' values that hold the events in their order, each at most `RECORD_LIMIT_BYTES` or one event."""
    held: list[bytes] = []
    size = 0
    for each in pieces:
        if held and size + len(each) > RECORD_LIMIT_BYTES:
            yield _filled(ReplayRecord(tenant_id, replay_id, []), held)
            held, size = [], 0
        held.append(each)
        size += len(each) + 1
    if held:
        yield _filled(ReplayRecord(tenant_id, replay_id, []), held)


def message(tenant_id: UUID, replay_id: UUID, at: datetime, pieces: Sequence[bytes]) -> bytes:
    """A webhook's body that holds the events in their order."""
    return _filled(_Message(TYPE, at, ReplayRecord(tenant_id, replay_id, [])), pieces)


def _filled(empty: msgspec.Struct, pieces: Sequence[bytes]) -> bytes:
    """Joined without encoding any event twice; `"events":[]` is there once, as within a text quotes are escaped."""
    before, after = _encode(empty).split(_NO_EVENTS, 1)
    return b"".join((before, b'"events":[', b",".join(pieces), b"]", after))


def _members(row: Row) -> tuple[str, str, str | None, str, datetime, datetime, msgspec.Raw]:
    return (
        row["event_id"],
        row["event_type"],
        row["user_id"],
        row["client_id"],
        row["timestamp"],
        row["received_at"],
        msgspec.Raw(row["metadata"].encode()),
    )
