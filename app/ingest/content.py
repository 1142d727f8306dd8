"""From a request's body to events: media types, content encodings, sizes, JSON, NDJSON; a verdict per event.

Pure apart from reading the body. Whether a single event is good is decided by `app.events.model`; who may
send it, how much, and where it goes is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from app.errors import AppError, Fault, InvalidError, MalformedError, UnsupportedMediaTypeError
from app.events.metadata import are_plain
from app.events.model import ABSENT, MAX_EVENT_BYTES, IncomingEvent, Receipt, accept, fault_from
from app.events.record import AcceptedEvent
from app.ingest.counting import check_elements, lines_of, require_count
from app.ingest.unpacking import gunzip, too_large, unzstd

MAX_BATCH_BYTES = 10 * 2**20
BODY_TIMEOUT_SECONDS = 30.0
"""How long a client may take to send a body that did not come with its headers."""

OFF_LOOP_BYTES = 64 * 1024
"""From here on a body is unpacked and decoded in a thread: a few megabytes take long enough to be noticed by others."""

_JSON = frozenset({"application/json", ""})
_NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
# Everything in an event but its metadata fits: three texts of 200 characters, at most 12 bytes each when escaped.
_ENVELOPE_BYTES = 8 * 1024

T = TypeVar("T")


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    events: list[IncomingEvent]


class _RawEnvelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_decode_event = msgspec.json.Decoder(IncomingEvent).decode
_decode_list = msgspec.json.Decoder(list[IncomingEvent]).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_raw_envelope = msgspec.json.Decoder(_RawEnvelope).decode


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event that was not taken. `index` counts from 0; pointers are relative to the event."""

    index: int
    event_id: str | None
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The verdicts on a batch: what to publish, and what not and why."""

    accepted: list[AcceptedEvent]
    rejected: list[Rejected]


async def read_body(receive: Any, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The request's body, decompressed; never holds more than about twice `limit` bytes.

    Raises:
        TooLargeError: more than `limit` bytes before or after decompression.
        UnsupportedMediaTypeError: a content encoding other than gzip, zstd or identity.
        MalformedError: the compressed data is damaged, or the body did not arrive in time.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity", b"gzip", b"zstd"):
        raise UnsupportedMediaTypeError(
            "The content encoding is not known; use gzip, zstd or none.", headers={"Accept-Encoding": "gzip, zstd"}
        )
    announced = headers.get(b"content-length")
    if announced is not None and int(announced) > limit:
        raise too_large(limit)
    begun = receive()
    try:
        awaited = begun.send(None)
    except StopIteration as done:  # it came with the headers: a time limit would cost more than all else here
        message = done.value
    else:
        message = await _in_time(_Begun(begun, awaited))
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _in_time(_read_rest(receive, body, limit))
    if len(body) > limit:
        raise too_large(limit)
    if encoding in (b"", b"identity"):
        return body
    unpack = gunzip if encoding == b"gzip" else unzstd
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(unpack, body, limit)
    return unpack(body, limit)


class _Begun:
    """A coroutine that was begun by hand and waits for `awaited`; to go on, await this."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        yield self._awaited
        return (yield from self._coroutine.__await__())


async def _in_time(body: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            return await body
    except TimeoutError:
        raise MalformedError(f"The body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} seconds.") from None


async def _read_rest(receive: Any, first: bytes, limit: int) -> bytes:
    parts, size, more = [first], len(first), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedError("The connection closed before the whole body had arrived.")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def media_type(headers: dict[bytes, bytes]) -> str:
    """The lower-case media type without parameters, `''` if none was sent.

    Raises:
        UnsupportedMediaTypeError: a charset other than UTF-8.
    """
    value = headers.get(b"content-type")
    if value is None or value == b"application/json":
        return "application/json"
    kind, _, parameters = value.decode("latin-1").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaTypeError("The charset must be UTF-8.")
    return kind.strip()


def _require_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("The body is not UTF-8.", (Fault("", f"byte {error.start} is not valid UTF-8"),)) from None


def decode_single(body: bytes, kind: str, receipt: Receipt) -> AcceptedEvent:
    """The one event in `body`.

    Raises:
        UnsupportedMediaTypeError, MalformedError: see DESIGN section 4; 400 can't be parsed.
        InvalidError: parsed, but not an event; says each fault with its pointer.
    """
    if kind not in _JSON:
        raise UnsupportedMediaTypeError(f"Send application/json, not {kind}.")
    _require_utf8(body)
    try:
        verdict = accept(_decode_event(body), receipt)
    except msgspec.ValidationError as error:
        raise InvalidError("The event is not valid.", (fault_from(error),)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    if isinstance(verdict, list):
        raise InvalidError("The event is not valid.", tuple(verdict))
    return verdict


def decode_batch(body: bytes, kind: str, receipt: Receipt, max_event_bytes: int = MAX_EVENT_BYTES) -> Batch:
    """A verdict on each event in `body`: a JSON array, `{"events": […]}` or NDJSON.

    Raises:
        UnsupportedMediaTypeError, MalformedError: nothing in the body can be told apart.
        TooLargeError: more than `MAX_BATCH_EVENTS`.
        InvalidError: the body is JSON, but not a list of events.
    """
    if kind in _NDJSON:
        # Lines are told apart by bytes, so one line that is not UTF-8 does not spoil the others.
        return _verdicts(lines_of(body), receipt, max_event_bytes)
    if kind not in _JSON:
        raise UnsupportedMediaTypeError(f"Send application/json or application/x-ndjson, not {kind}.")
    _require_utf8(body)
    check_elements(body)
    is_list = body.lstrip()[:1] == b"["
    try:
        events = _decode_list(body) if is_list else _decode_envelope(body).events
    except (msgspec.ValidationError, RecursionError):
        events = None
    except msgspec.DecodeError as error:
        raise _malformed(error) from None
    if events is None or _may_exceed(events, len(body), max_event_bytes):
        return _verdicts(_split(body, is_list), receipt, max_event_bytes)
    require_count(len(events))
    batch = Batch([], [])
    plain = are_plain([bytes(event.metadata) for event in events if event.metadata is not ABSENT])
    for index, event in enumerate(events):
        verdict = accept(event, receipt, known_plain=plain)
        if isinstance(verdict, list):
            batch.rejected.append(Rejected(index, event.event_id or event.eventId, tuple(verdict)))
        else:
            batch.accepted.append(verdict)
    return batch


def _may_exceed(events: list[IncomingEvent], body_bytes: int, max_event_bytes: int) -> bool:
    if body_bytes <= max_event_bytes:
        return False
    bound = max(max_event_bytes - _ENVELOPE_BYTES, 0)
    return any(len(memoryview(event.metadata)) > bound for event in events)


def _split(body: bytes, is_list: bool) -> list[bytes]:
    """The bytes of each event, where decoding all at once did not work."""
    try:
        raws = _decode_raw_list(body) if is_list else _decode_raw_envelope(body).events
    except msgspec.ValidationError as error:
        fault = fault_from(error)
        raise InvalidError('The batch must be an array of events or {"events": […]}.', (fault,)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    return [bytes(raw) for raw in raws]


def _verdicts(pieces: list[bytes], receipt: Receipt, max_event_bytes: int) -> Batch:
    require_count(len(pieces))
    batch = Batch([], [])
    for index, piece in enumerate(pieces):
        event_id = None
        try:
            if len(piece) > max_event_bytes:
                raise too_large(max_event_bytes)
            _require_utf8(piece)
            event = _decode_event(piece)
            event_id = event.event_id or event.eventId
            verdict = accept(event, receipt)
        except msgspec.ValidationError as error:
            verdict = [fault_from(error)]
            event_id = _id_in(piece)
        except (msgspec.DecodeError, RecursionError) as error:
            verdict = list(_malformed(error).faults)
        except AppError as error:
            verdict = list(error.faults) or [Fault("", f"the event is larger than {max_event_bytes} bytes")]
            event_id = _id_in(piece)
        if isinstance(verdict, list):
            batch.rejected.append(Rejected(index, event_id, tuple(verdict)))
        else:
            batch.accepted.append(verdict)
    return batch


class _OnlyId(msgspec.Struct, gc=False):
    event_id: str | None = None
    eventId: str | None = None  # noqa: N815  the wire's alias


def _id_in(piece: bytes) -> str | None:
    """The id in an event that is not valid, so that its sender can find it; None where there is none to see."""
    try:
        found = msgspec.json.decode(piece, type=_OnlyId)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return found.event_id or found.eventId


def _malformed(error: Exception) -> MalformedError:
    if isinstance(error, RecursionError):
        reason = "is nested too deeply"
    else:
        reason = str(error).removeprefix("JSON is malformed: ").replace("Input data was truncated", "ends too early")
    return MalformedError("The body is not JSON.", (Fault("", reason),))
