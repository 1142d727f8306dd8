"""Places in lists that are ordered by a moment and an id, as opaque texts, bound to the question that they answer.

A cursor grants nothing: each page's statement says the tenant itself. The digest is there so that one that was cut,
mistyped or meant for another question is refused.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from app.parameters import Parameter

if TYPE_CHECKING:
    from app.parameters import Reading

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = struct.Struct(">Bq")
_VERSION = 1
_DIGEST_BYTES = 9
LONGEST = 1200
"""Characters; the longest id, 200 characters of 4 bytes, needs 1,092."""

UUIDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

DEFAULT_LIMIT = 100
MOST_ENTRIES = 1000

LIMIT = Parameter(
    "limit",
    "The most entries on a page.",
    {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES, "default": DEFAULT_LIMIT},
    DEFAULT_LIMIT,
)
CURSOR = Parameter(
    "cursor",
    "The `next_cursor` of the page before, with otherwise the same parameters (`limit` may change).",
    {"type": "string", "minLength": 1, "maxLength": LONGEST},
)
PAGE_PARAMETERS = (LIMIT, CURSOR)


@dataclass(frozen=True)
class Place:
    """Behind the entry with this moment and id."""

    moment: datetime
    entry_id: str


@dataclass(frozen=True)
class PageAsked:
    """At most `limit` entries behind `after`; None: from the list's beginning. `question` binds further cursors."""

    limit: int = DEFAULT_LIMIT
    after: Place | None = None
    question: bytes = b""

    def next_cursor(self, last: Place | None) -> str | None:
        """The cursor of the next page, which begins behind `last`; None: there is none."""
        return None if last is None else encode(last, self.question)


def read_page(reading: Reading, ids: re.Pattern[str], *question: str | None) -> PageAsked:
    """The page that `reading`, made with `PAGE_PARAMETERS` among others, asks for; faults are left in `reading`.

    `ids` matches those of the list's entries: anyone can make a cursor with another, which no statement may see.
    `question`: whatever must be the same on the next page, for instance the list's name, the tenant, the filters.
    """
    binding = msgspec.json.encode(question)
    limit = reading.integer(LIMIT.name, default=DEFAULT_LIMIT, least=1, most=MOST_ENTRIES)
    text = reading.text(CURSOR.name, most=LONGEST)
    after = None if text is None else decode(text, binding)
    if after is not None and not ids.fullmatch(after.entry_id):
        after = None
    if text is not None and after is None:
        reading.refuse(CURSOR.name, "is not a next_cursor that was answered to the same question")
    return PageAsked(limit, after, binding)


def encode(place: Place, question: bytes) -> str:
    """The cursor, in unpadded base64url."""
    payload = _HEAD.pack(_VERSION, (place.moment - _EPOCH) // _MICROSECOND) + place.entry_id.encode()
    return urlsafe_b64encode(_digest(payload, question) + payload).decode().rstrip("=")


def decode(text: str, question: bytes) -> Place | None:
    """The place that `encode` was given together with the same `question`; None if `text` is anything else."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _digest(payload, question) or len(payload) < _HEAD.size:
        return None
    try:
        version, count = _HEAD.unpack_from(payload)
        place = Place(_EPOCH + count * _MICROSECOND, payload[_HEAD.size :].decode())
    except (OverflowError, UnicodeDecodeError):
        return None
    # Base64 has several spellings of some bytes; only ours is taken.
    return place if version == _VERSION and encode(place, question) == text else None


def _digest(payload: bytes, question: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES, key=hashlib.sha256(question).digest()).digest()
