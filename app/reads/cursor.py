"""A place in a user's timeline as an opaque text, bound to the question that it was handed out for.

It grants nothing: whoever makes one up still reads only what tenant and user allow, since every page's statement
says both. The digest is there so that a cursor that was cut, mistyped or meant for another question is refused.
"""

from __future__ import annotations

import binascii
import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = struct.Struct(">Bqqq")
_VERSION = 1
_DIGEST_BYTES = 9
LONGEST = 1200
"""Characters; the longest event id, 200 characters of 4 bytes, needs 1,112."""


class CursorError(ValueError):
    """Not a cursor of this question."""


@dataclass(frozen=True)
class Place:
    """After the event (timestamp, event_id), in a timeline over [started_at, ended_at): the range of the first page.

    The range is kept because its defaults move with the clock, and pages must not.
    """

    timestamp: datetime
    event_id: str
    started_at: datetime
    ended_at: datetime


def encode(place: Place, question: bytes) -> str:
    """The cursor, in unpadded base64url. `question` is whatever must be the same on the next page."""
    times = (_microseconds(moment) for moment in (place.timestamp, place.started_at, place.ended_at))
    payload = _HEAD.pack(_VERSION, *times) + place.event_id.encode()
    return urlsafe_b64encode(_digest(payload, question) + payload).decode().rstrip("=")


def decode(text: str, question: bytes) -> Place:
    """The place that `encode` was given together with the same `question`.

    Raises:
        CursorError: `text` is anything else.
    """
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise CursorError from None
    digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _digest(payload, question) or len(payload) < _HEAD.size:
        raise CursorError
    try:
        version, *times = _HEAD.unpack_from(payload)
        timestamp, started_at, ended_at = (_EPOCH + count * _MICROSECOND for count in times)
        place = Place(timestamp, payload[_HEAD.size :].decode(), started_at, ended_at)
    except (OverflowError, UnicodeDecodeError):
        raise CursorError from None
    # Base64 has several spellings of some bytes; only ours is taken.
    if version != _VERSION or encode(place, question) != text:
        raise CursorError
    return place


def _digest(payload: bytes, question: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES, key=hashlib.sha256(question).digest()).digest()


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
