"""A stored event as the document that search keeps, in the bytes that a bulk request carries.

Owns what an event's text is and how a row becomes its document. Pure: knows no server.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from search.mapping import LONGEST_KEY_PATH_BYTES, slice_name
from search.numbers import sortable

LONGEST_ID_BYTES = 512
"""Elasticsearch refuses a longer `_id`."""


class Row(Protocol):
    """A row of `events`: tenant_id, event_id, event_type, user_id, client_id, timestamp, received_at, index_slice and
    metadata as JSON text, by column name (an asyncpg record or a dict).
    """

    def __getitem__(self, column: str, /) -> Any: ...


class Document(NamedTuple):
    """Where a document goes, and its content as JSON bytes without a line break."""

    routing: str
    index_name: str
    id: str
    source: bytes


class _Source(msgspec.Struct, gc=False, omit_defaults=True):
    tenant_id: str
    event_id: str
    event_type: str
    client_id: str
    timestamp: datetime
    received_at: datetime
    label: list[str]
    user_id: str | None = None
    metadata: msgspec.Raw | None = None
    metadata_json: str | None = None
    text: list[str] = []
    numbers: dict[str, list[str]] = {}


class _Place(msgspec.Struct, gc=False):
    index: str = msgspec.field(name="_index")
    id: str = msgspec.field(name="_id")
    routing: str


class _Action(msgspec.Struct, gc=False):
    index: _Place


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def document(row: Row, index_prefix: str) -> Document:
    """The document of one event.

    Its text, which quoted words are looked for in, is each string value anywhere in metadata (keys are not text), one
    by one, white space as `plain_text` leaves it. Its label, which only bare words match as well, is the event type
    and the user id. Numbers in metadata are kept beside it by their path of keys joined with dots, as `sortable` text.
    """
    tenant_id = str(row["tenant_id"])
    metadata: str = row["metadata"]
    raw = metadata.encode()
    text: list[str] = []
    numbers: dict[str, list[str]] = {}
    content = _parse(raw)
    _collect(content, "", text, numbers)
    fits = len(raw) <= LONGEST_KEY_PATH_BYTES or _longest_path(content) <= LONGEST_KEY_PATH_BYTES
    if not fits:
        numbers = {path: found for path, found in numbers.items() if len(path.encode()) <= LONGEST_KEY_PATH_BYTES}
    user_id: str | None = row["user_id"]
    event_type: str = row["event_type"]
    source = _Source(
        tenant_id=tenant_id,
        event_id=row["event_id"],
        event_type=event_type,
        client_id=row["client_id"],
        timestamp=row["timestamp"],
        received_at=row["received_at"],
        label=[event_type] if user_id is None else [event_type, user_id],
        user_id=user_id,
        metadata=msgspec.Raw(raw) if fits else None,
        metadata_json=None if fits else metadata,
        text=text,
        numbers=numbers,
    )
    return Document(
        tenant_id,
        slice_name(index_prefix, row["index_slice"]),
        document_id(tenant_id, row["event_id"]),
        _encode(source),
    )


def document_id(tenant_id: str, event_id: str) -> str:
    """The `_id`: `tenant:event id`, or `tenant#SHA-256 of the event id` where that would be too long.

    The 37th character tells the two forms apart, so no event id can imitate the hash of another.
    """
    plain = f"{tenant_id}:{event_id}"
    if len(plain) * 4 <= LONGEST_ID_BYTES or len(plain.encode()) <= LONGEST_ID_BYTES:
        return plain
    return f"{tenant_id}#{hashlib.sha256(event_id.encode()).hexdigest()}"


def bulk_lines(document: Document) -> bytes:
    """The two lines of a bulk request that write `document`; writing it again replaces it with itself."""
    action = _Action(_Place(document.index_name, document.id, document.routing))
    return b"%b\n%b\n" % (_encode(action), document.source)


def plain_text(text: str) -> str:
    """`text` with each run of white space (Python's `str.isspace`) as one space, and none at its ends."""
    return " ".join(text.split())


def _parse(raw: bytes) -> Any:
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        # A number beyond what a double holds, which jsonb keeps. As a double it is infinite, which sorts rightly.
        return json.loads(raw, parse_int=float, parse_float=float)


def _collect(value: Any, path: str, text: list[str], numbers: dict[str, list[str]]) -> None:
    kind = type(value)
    if kind is str:
        if words := plain_text(value):
            text.append(words)
    elif kind is dict:
        for key, member in value.items():
            _collect(member, f"{path}.{key}" if path else key, text, numbers)
    elif kind is list:
        for member in value:
            _collect(member, path, text, numbers)
    elif kind is int or kind is float:
        numbers.setdefault(path, []).append(sortable(value))


def _longest_path(value: Any) -> int:
    """The most bytes that keys joined by dots take on the way to any value."""
    if isinstance(value, dict):
        return max((len(key.encode()) + 1 + _longest_path(member) for key, member in value.items()), default=0)
    if isinstance(value, list):
        return max(map(_longest_path, value), default=0)
    return 0
