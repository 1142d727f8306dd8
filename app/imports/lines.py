"""The unit that is imported: one event as one line of NDJSON, and where it came from.

Reads lines from bytes and sees to it that each has an id. Whether an event is valid is the API's to say; what is
refused here could not be sent at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from app.imports.ids import id_of_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LINE_BYTES = 2**20
"""Many times what the API takes as one event, and little enough to hold many lines at once."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Where:
    """A line of a file (from 1), or a commit of a repository."""

    source: str
    at: int | str

    def __str__(self) -> str:
        return f"{self.source}{':' if isinstance(self.at, int) else '@'}{self.at}"


@dataclass(frozen=True, slots=True)
class Line:
    """One event to send; with a `fault` it can't be sent, and `body` is empty."""

    where: Where
    body: bytes
    fault: str = ""


class _Ids(msgspec.Struct, gc=False):
    event_id: Any = None
    eventId: Any = None  # noqa: N815  the wire's alias


_decode = msgspec.json.Decoder(_Ids).decode


def read_lines(content: BinaryIO, source: str, digest: Callable[[], bytes]) -> Iterator[Line]:
    """Every line of `content` but blank ones, in order, each with an id.

    `digest` (32 bytes, of the whole content) is asked for at most as often as there are lines without an id.
    """
    number = 0
    while raw := content.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = Where(source, number)
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            _skip_rest(content)
            yield Line(where, b"", f"is longer than {MAX_LINE_BYTES} bytes")
            continue
        text = (raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw).strip()
        if not text:
            continue
        try:
            body = text if _has_id(text) else with_id(text, id_of_line(digest(), number))
        except msgspec.ValidationError:
            yield Line(where, b"", "is not a JSON object")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield Line(where, b"", _not_json(error))
        else:
            yield Line(where, body)


def with_id(text: bytes, event_id: str) -> bytes:
    """The JSON object `text` with `event_id` added behind everything else, where it wins over an earlier `null`."""
    before = text[:-1].rstrip()
    return b'%b%b"event_id":"%b"}' % (before, b"" if before.endswith(b"{") else b",", event_id.encode())


def _has_id(text: bytes) -> bool:
    """`null` counts as absent, as it does for the API, which would make up a new id each time."""
    ids = _decode(text)
    return ids.event_id is not None or ids.eventId is not None


def _skip_rest(content: BinaryIO) -> None:
    while rest := content.readline(MAX_LINE_BYTES):
        if rest.endswith(b"\n"):
            return


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is not JSON that can be read: it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    reason = str(error).removeprefix("JSON is malformed: ").replace("Input data was truncated", "it ends too early")
    return f"is not JSON: {reason}"
