"""Whether an event's `metadata` can be stored: an object, not too deep, no NUL, no lone surrogate, sane numbers.

PostgreSQL's jsonb refuses some JSON that a parser takes, and one such row would fail a whole batch after the
202. So every byte string is screened with fast scans, and only what the scans can't clear is parsed in full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from app.errors import Fault

MAX_DEPTH = 16
"""Levels of objects and arrays, the metadata object itself included."""

MAX_DIGITS = 400
"""Digits before and after the decimal point once written out. A double needs 309 and 324; PostgreSQL's numeric would
hold more, but writes `1e131071` out in full, so seven bytes in would be 128 KiB out."""

MAX_WRITTEN_DIGITS = 65_536
"""Digits of all long numbers of one event once written out, each counted as `_LEAST_LONG` at least: without it, a small
body could become a row of megabytes."""

MOST_FAULTS = 10
LONGEST_POINTERS = 2_000
"""Of one event's metadata so many faults are told, and no more once their pointers are that long together."""

_SHAPE = bytes.maketrans(b"123456789E+", b"000000000e-")
_LONG_NUMBER = b"0" * 100
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_CURLY = bytes.maketrans(b"[]", b"{}")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_HARMLESS_ESCAPE = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
"""A backslash, or two surrogates that are one character."""
_BAD_ESCAPE = re.compile(rb"\\u0000|\\u[dD][89a-fA-F]")
_LEAST_LONG = 100
_LONG = re.compile(rb"(?<![0-9.])(?:[0-9.]{100,}+(?:[eE][+-]?[0-9]++)?|[0-9.]++[eE][+-]?0*+[1-9][0-9]{2,}+)")
"""Outside of strings: a number that has, or may have once written out, at least `_LEAST_LONG` digits."""


def is_plain(metadata: bytes) -> bool:
    """True if scans alone show that `metadata`, syntactically valid JSON and UTF-8, can be stored.

    False says nothing yet: `faults_of` decides. Costs about 2 µs for the 190 bytes of a usual event.
    """
    return metadata.count(b"{") + metadata.count(b"[") <= MAX_DEPTH and not _is_suspicious(metadata)


def _is_suspicious(metadata: bytes) -> bool:
    """Whether a bad escape or a long number may be in there; a digest's `3e451` is one false alarm."""
    if b"\\u" in metadata and (b"\\u0000" in metadata or b"\\ud" in metadata or b"\\uD" in metadata):
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

    `pointer` is the metadata's own JSON pointer, which the faults' pointers begin with. Whether there is a fault is
    found by scans too (a millisecond for 64 KiB); only to say where, the document is walked.
    """
    if not metadata.startswith(b"{"):
        return [Fault(pointer, "must be an object")]
    bare = _STRING.sub(b'""', metadata)
    if _is_too_deep(bare):
        return [Fault(pointer, f"is nested more than {MAX_DEPTH} deep")]
    written = _written(bare)
    if written is None or _BAD_ESCAPE.search(_HARMLESS_ESCAPE.sub(b" ", metadata)):
        document = json.loads(metadata, object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number)
        faults: list[Fault] = []
        _walk(document, [pointer], faults)
        return faults
    if written > MAX_WRITTEN_DIGITS:
        return [Fault(pointer, f"has long numbers of more than {MAX_WRITTEN_DIGITS} digits in all once written out")]
    return []


def _is_too_deep(bare: bytes) -> bool:
    brackets = bare.translate(_CURLY, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"{}", b"")  # takes the innermost level off
    return bool(brackets)


def _written(bare: bytes) -> int | None:
    """The digits of all long numbers once written out, at least when they are not too many; None: one is too long."""
    written = 0
    for token in _LONG.finditer(bare):
        digits = _digits(token[0].decode())
        if digits is None:
            return None
        written += max(digits, _LEAST_LONG)
        if written > MAX_WRITTEN_DIGITS:
            break
    return written


class _Members(list[tuple[str, Any]]):
    """An object's members, also those that a later one of the same name replaces: PostgreSQL reads each."""


class _Number(str):
    """A number's literal, told apart from a string while walking."""

    __slots__ = ()


def _walk(container: list[Any], path: list[str | int], faults: list[Fault]) -> None:
    """Adds what is wrong below `path` to `faults`.

    The first of `path` is a pointer, each further one a step. They are joined only where there is a fault: behind one
    long key there may be thousands of values.
    """
    is_object = isinstance(container, _Members)
    steps: Iterable[tuple[Any, Any]] = container if is_object else enumerate(container)
    for step, value in steps:
        if is_object:
            _note(text_fault(step), path, faults, "a key ")
        if isinstance(value, _Number):
            if (len(value) >= _LEAST_LONG or not value.isdecimal()) and _digits(value) is None:
                detail = f"is a number of more than {MAX_DIGITS} digits before or after the decimal point"
                _note(detail, [*path, step], faults)
        elif isinstance(value, str):
            if (fault := text_fault(value)) is not None:
                _note(fault, [*path, step], faults)
        elif isinstance(value, list):
            _walk(value, [*path, step], faults)


def _note(detail: str | None, path: list[str | int], faults: list[Fault], subject: str = "") -> None:
    """Adds a fault if there is a `detail`, up to a bound: each of thousands may have a pointer as long as the event."""
    if detail is None or len(faults) >= MOST_FAULTS:
        return
    if sum(len(fault.pointer) for fault in faults) < LONGEST_POINTERS:
        faults.append(Fault(_pointer(path), f"{subject}{detail}"))


def _pointer(path: list[str | int]) -> str:
    return f"{path[0]}" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path[1:])


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
