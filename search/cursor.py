"""Where a page of hits ended, as an opaque text that the next request carries.

Owns the text's form. It holds sort values only and is bound to its question by a digest; forging one moves a caller
within their own hits, since tenant and filters never come from it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from app.events.timestamps import TimestampError, parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

Sort = Literal["relevance", "newest", "oldest"]

LONGEST_CURSOR = 4096
"""Characters; an event id of 200 characters takes at most 1,100 of them."""

LONGEST_EVENT_ID = 200
_FORM = 1
_NANOS = "strict_date_optional_time_nanos"
_EVENT_ID = {"event_id": {"order": "asc"}}
_SORTS: dict[Sort, tuple[dict[str, Any], ...]] = {
    "relevance": ({"_score": {"order": "desc"}}, {"timestamp": {"order": "desc", "format": _NANOS}}, _EVENT_ID),
    "newest": ({"timestamp": {"order": "desc", "format": _NANOS}}, _EVENT_ID),
    "oldest": ({"timestamp": {"order": "asc", "format": _NANOS}}, _EVENT_ID),
}


class CursorError(ValueError):
    """The text is no cursor of this question; says why."""


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    form: int
    digest: str
    values: list[Any]


_decoder = msgspec.json.Decoder(_Cursor)


def sort_clauses(sort: Sort) -> tuple[dict[str, Any], ...]:
    """Elasticsearch's sort; the event id makes it total, for it is unique within a tenant."""
    return _SORTS[sort]


def digest(*question: str | None) -> str:
    """A short name for everything that decides which hits come in which order."""
    return hashlib.blake2b(msgspec.json.encode(question), digest_size=12).hexdigest()


def write(question: str, values: Sequence[Any]) -> str:
    """The cursor after the hit with these sort values, for the question with this digest."""
    text = msgspec.json.encode(_Cursor(_FORM, question, list(values)))
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def read(text: str, question: str, sort: Sort) -> list[Any]:
    """The sort values to continue after.

    Raises:
        CursorError: it is damaged, or came with the answer to another question.
    """
    if len(text) > LONGEST_CURSOR:
        raise CursorError("is longer than any cursor")
    try:
        cursor = _decoder.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise CursorError("is not a cursor: send next_cursor as it was answered") from None
    if cursor.form != _FORM or cursor.digest != question:
        raise CursorError("belongs to another search: keep every parameter but limit as it was")
    if not _fits(cursor.values, sort):
        raise CursorError("is not a cursor: send next_cursor as it was answered")
    return cursor.values


def _fits(values: list[Any], sort: Sort) -> bool:
    if sort == "relevance":
        if not values or not _is_score(values[0]):
            return False
        values = values[1:]
    match values:
        case [str(timestamp), str(event_id)]:
            return len(event_id) <= LONGEST_EVENT_ID and _is_time(timestamp)
        case _:
            return False


def _is_score(value: Any) -> bool:
    # Elasticsearch keeps scores as 32-bit floats and refuses what doesn't fit one.
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 3e38  # noqa: PLR2004


def _is_time(text: str) -> bool:
    try:
        return 1970 <= parse_rfc3339(text).year < 2262  # noqa: PLR2004  what date_nanos holds
    except TimestampError:
        return False
