"""Whether an event's `metadata` can be stored: an object, not too deep, no NUL, no lone surrogate, sane numbers.

PostgreSQL's jsonb refuses some JSON that a parser takes, and one such row would fail a whole batch after the
202. So every byte string is screened with fast scans, and only what the scans can't clear is parsed in full.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from app.errors import Fault

MAX_DEPTH = 16
"""Levels of objects and arrays, the metadata object itself included."""

MAX_DIGITS = 400
"""Digits before and after the decimal point once written out. A double needs 309 and 324; PostgreSQL's numeric would
hold more, but writes `1e131071` out in full, so seven bytes in would be 128 KiB out."""

MAX_WRITTEN_DIGITS = 65_536
"""Digits of all numbers of one event once written out: without it, a small body could become a row of megabytes."""

_SHAPE = bytes.maketrans(b"123456789E+", b"000000000e-")
_LONG_NUMBER = b"0" * 100
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def is_plain(metadata: bytes) -> bool:
    """True if scans alone show that `metadata`, syntactically valid JSON and UTF-8, can be stored.

    False says nothing yet: `faults_of` decides. Costs about 2 µs for the 190 bytes of a usual event.
    """
    return metadata.count(b"{") + metadata.count(b"[") <= MAX_DEPTH and not _is_suspicious(metadata)


def _is_suspicious(metadata: bytes) -> bool:
    """Whether an escaped character or a long number may be in there; a digest's `3e451` is one false alarm."""
    if b"\\u" in metadata:
        return True
    shape = metadata.translate(_SHAPE)
    return b"0e000" in shape or b"0e-000" in shape or _LONG_NUMBER in shape


def are_plain(metadata: list[bytes]) -> bool:
    """Whether all of them are objects and plain as in `is_plain`, at the cost of one scan; False: ask for each."""
    together = b"".join(metadata)
    if not all(raw.startswith(b"{") for raw in metadata):
        return False
    # Each is one level deep at least, so the levels that are left over bound the depth of any.
    return together.count(b"{") + together.count(b"[") - len(metadata) < MAX_DEPTH and not _is_suspicious(together)


def faults_of(metadata: bytes, pointer: str) -> list[Fault]:
    """What keeps `metadata` (syntactically valid JSON and UTF-8) from being stored; empty if nothing does.

    `pointer` is the metadata's own JSON pointer, which the faults' pointers begin with.
    """
    if not metadata.startswith(b"{"):
        return [Fault(pointer, "must be an object")]
    if _depth(metadata) > MAX_DEPTH:
        return [Fault(pointer, f"is nested more than {MAX_DEPTH} deep")]
    document = json.loads(metadata, parse_int=_Number, parse_float=_Number)
    faults: list[Fault] = []
    written = _walk(document, pointer, faults)
    if written > MAX_WRITTEN_DIGITS and not faults:
        faults.append(Fault(pointer, f"has numbers of more than {MAX_WRITTEN_DIGITS} digits in all once written out"))
    return faults


class _Number(str):
    """A number's literal, told apart from a string while walking."""

    __slots__ = ()


def _depth(metadata: bytes) -> int:
    deepest = depth = 0
    for token in _TOKENS.finditer(metadata):
        first = metadata[token.start()]
        if first in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"}]":
            depth -= 1
    return deepest


def _walk(value: Any, pointer: str, faults: list[Fault]) -> int:
    """Adds what is wrong below `value` to `faults`; returns the digits that its numbers take once written out."""
    written = 0
    if isinstance(value, _Number):
        digits = _digits(value)
        if digits is None:
            faults.append(
                Fault(pointer, f"is a number of more than {MAX_DIGITS} digits before or after the decimal point")
            )
        written = digits or 0
    elif isinstance(value, str):
        if (fault := text_fault(value)) is not None:
            faults.append(Fault(pointer, fault))
    elif isinstance(value, dict):
        for key, member in value.items():
            if (fault := text_fault(key)) is not None:
                faults.append(Fault(pointer, f"a key {fault}"))
            else:
                written += _walk(member, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", faults)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            written += _walk(member, f"{pointer}/{index}", faults)
    return written


def text_fault(text: str) -> str | None:
    """Why PostgreSQL can't hold this text, or None."""
    if "\0" in text:
        return "contains NUL (U+0000)"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains a lone surrogate"
    return None


def _digits(literal: str) -> int | None:
    """Digits of the number once written out without an exponent; None if there are too many on either side."""
    # An exponent of more digits than this is out of range, and Decimal would refuse or be slow on some.
    _, _, exponent = literal.lower().partition("e")
    if len(exponent.lstrip("+-").lstrip("0")) > len(str(MAX_DIGITS)):
        return None
    number = Decimal(literal)
    before = number.adjusted() + 1 if number else 1
    after = -int(number.as_tuple().exponent)
    if before > MAX_DIGITS or after > MAX_DIGITS:
        return None
    return max(before, 1) + max(after, 0)
