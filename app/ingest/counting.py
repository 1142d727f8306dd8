"""How many events a batch has, found out before anything is made for each: ten megabytes could be five million.

Pure. Whether what is counted are events is not asked here.
"""

from __future__ import annotations

import json
import re

from app.errors import Fault, InvalidError, MalformedError, TooLargeError

MAX_BATCH_EVENTS = 2_000

_FEW_COMMAS = 100_000
"""So many parts of a body cost little memory; only beyond it is it read twice."""
_LINE = re.compile(rb"[^\n]+")
_WHITE = re.compile(r"[ \t\r\n]*")
_BEGIN = re.compile(r'[ \t\r\n]*(?:(\[)|\{[ \t\r\n]*"events"[ \t\r\n]*:[ \t\r\n]*\[)')
_END = re.compile(r"[ \t\r\n]*\}[ \t\r\n]*")
_next_value = json.JSONDecoder(parse_int=len, parse_float=len).raw_decode  # what a number is does not matter here


def require_count(count: int) -> None:
    """Nothing, if a batch may have so many events.

    Raises:
        TooLargeError, InvalidError: more than `MAX_BATCH_EVENTS`, or none.
    """
    if count > MAX_BATCH_EVENTS:
        raise _too_many()
    if count == 0:
        raise InvalidError("The batch has no events.", (Fault("", "must have at least one event"),))


def lines_of(body: bytes) -> list[bytes]:
    """The lines of NDJSON that are not blank, `MAX_BATCH_EVENTS` at most; raises as `require_count`."""
    lines: list[bytes] = []
    for line in _LINE.finditer(body):
        if line[0].strip():
            if len(lines) == MAX_BATCH_EVENTS:
                raise _too_many()
            lines.append(line[0])
    require_count(len(lines))
    return lines


def check_elements(body: bytes) -> None:
    """Nothing, if the array in `body` (UTF-8; an array or `{"events": […]}`) has few elements; JSON need not be valid.

    Raises:
        TooLargeError: more than `MAX_BATCH_EVENTS`.
        InvalidError, MalformedError: a body of many parts has another form, or is not JSON.
    """
    if body.count(b",") <= _FEW_COMMAS:
        return
    text = body.decode()
    begin = _BEGIN.match(text)
    if begin is None:
        raise _other_form()
    position, count = begin.end(), 0
    try:
        while True:
            _, position = _next_value(text, _past_white(text, position))
            count += 1
            if count > MAX_BATCH_EVENTS:
                raise _too_many()
            position = _past_white(text, position)
            if text[position : position + 1] != ",":
                break
            position += 1
    except (ValueError, RecursionError):
        raise MalformedError(
            "The body is not JSON.", (Fault("", f"element {count} of the array is not JSON"),)
        ) from None
    if begin[1] is None and (text[position : position + 1] != "]" or not _END.fullmatch(text, position + 1)):
        raise _other_form()  # a second "events" would be decoded too


def _past_white(text: str, position: int) -> int:
    found = _WHITE.match(text, position)
    return position if found is None else found.end()


def _too_many() -> TooLargeError:
    return TooLargeError(
        f"The batch has more than {MAX_BATCH_EVENTS} events, which is the most that is taken at once.",
        extra={"limit_events": MAX_BATCH_EVENTS},
    )


def _other_form() -> InvalidError:
    fault = Fault("", 'must be an array of events or {"events": […]}')
    return InvalidError('The batch must be an array of events or {"events": […]}.', (fault,))
