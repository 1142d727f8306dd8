"""Bodies: media types, encodings, sizes, and a verdict for each event of a batch."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AppError, InvalidError, MalformedError, TooLargeError, UnsupportedMediaTypeError
from app.events.model import Receipt
from app.ingest import content
from app.ingest.content import decode_batch, decode_single, media_type, read_body

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
RECEIPT = Receipt(NOW, NOW + timedelta(days=1))
JSON, NDJSON = "application/json", "application/x-ndjson"


def receiver(*parts: bytes) -> Any:
    """What an ASGI server hands over for a body that arrives in `parts`."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False

    async def receive() -> Any:
        return messages.pop(0)

    return receive


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [(b"", bytes), (b"identity", bytes), (b"GZIP", gzip.compress), (b"zstd", zstandard.ZstdCompressor().compress)],
)
async def test_each_encoding_gives_back_the_body(encoding: bytes, pack: Any) -> None:
    body = b'{"event_type":"a"}' * 10_000
    packed = pack(body)
    found = await read_body(receiver(packed[:7], packed[7:]), {b"content-encoding": encoding}, 10**6)
    assert found == body


async def test_a_body_that_comes_after_its_headers_is_waited_for() -> None:
    at_once = receiver(b"ab", b"cd", b"ef")
    event = asyncio.Event()

    async def receive() -> Any:
        await event.wait()
        event.clear()
        return await at_once()

    reading = asyncio.create_task(read_body(receive, {}, 100))
    for _ in range(3):
        await asyncio.sleep(0)
        assert not reading.done()
        event.set()
        await asyncio.sleep(0)
    assert await reading == b"abcdef"


@pytest.mark.parametrize("parts", [(), (b"ab",)])
async def test_a_body_that_never_comes_is_given_up(parts: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "BODY_TIMEOUT_SECONDS", 0.05)
    at_once = receiver(*parts, b"never")
    left = list(parts)

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()
        left.pop()
        return await at_once()

    async with asyncio.timeout(5):
        with pytest.raises(MalformedError, match="did not arrive"):
            await read_body(receive, {}, 100)


async def test_who_goes_away_while_the_body_is_waited_for_is_not_held() -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    reading = asyncio.create_task(read_body(receive, {}, 100))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize(
    ("encoding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstandard.ZstdCompressor().compress)]
)
async def test_concatenated_members_are_one_body(encoding: bytes, pack: Any) -> None:
    assert await read_body(receiver(pack(b"ab") + pack(b"cd")), {b"content-encoding": encoding}, 100) == b"abcd"


@pytest.mark.parametrize(
    ("encoding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstandard.ZstdCompressor().compress)]
)
async def test_a_bomb_is_refused_at_the_limit(encoding: bytes, pack: Any) -> None:
    with pytest.raises(TooLargeError):
        await read_body(receiver(pack(bytes(50 * 2**20))), {b"content-encoding": encoding}, 10**6)


@pytest.mark.parametrize(
    ("encoding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstandard.ZstdCompressor().compress)]
)
@pytest.mark.parametrize("cut", [1, 5, -1, -3])
async def test_a_truncated_body_is_malformed(encoding: bytes, pack: Any, cut: int) -> None:
    with pytest.raises(MalformedError):
        await read_body(receiver(pack(b"hello world" * 100)[:cut]), {b"content-encoding": encoding}, 10**6)


async def test_the_limit_holds_for_announced_and_for_streamed_sizes() -> None:
    with pytest.raises(TooLargeError):
        await read_body(receiver(b"x"), {b"content-length": b"11"}, 10)
    with pytest.raises(TooLargeError):
        await read_body(receiver(b"x" * 6, b"x" * 6, b"x"), {}, 10)
    assert await read_body(receiver(b"x" * 10), {b"content-length": b"10"}, 10) == b"x" * 10


async def test_an_unknown_encoding_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        await read_body(receiver(b""), {b"content-encoding": b"br"}, 10)
    assert caught.value.headers["Accept-Encoding"] == "gzip, zstd"


def test_a_charset_other_than_utf8_is_refused() -> None:
    assert media_type({b"content-type": b"application/JSON; charset=UTF-8"}) == JSON
    assert media_type({}) == JSON
    with pytest.raises(UnsupportedMediaTypeError):
        media_type({b"content-type": b"application/json; charset=latin-1"})


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"", JSON, MalformedError),
        (b"{", JSON, MalformedError),
        (b"nonsense", JSON, MalformedError),
        (b'{"event_type":"a"} x', JSON, MalformedError),
        (b'{"event_type":"\xff"}', JSON, MalformedError),
        (b'{"event_type":"a","metadata":' + b"[" * 5000 + b"]" * 5000 + b"}", JSON, MalformedError),
        (b"[]", JSON, InvalidError),
        (b"{}", JSON, InvalidError),
        (b'{"event_type":"a","metadata":{"n":1e400}}', JSON, InvalidError),
        (rb'{"event_type":"a","metadata":{"n":"\ud800"}}', JSON, (InvalidError, MalformedError)),
        (b'{"event_type":"a"}', "text/plain", UnsupportedMediaTypeError),
        (b'{"event_type":"a"}', NDJSON, UnsupportedMediaTypeError),
    ],
)
def test_a_bad_single_event_has_its_error(body: bytes, kind: str, error: type[AppError]) -> None:
    with pytest.raises(error) as caught:
        decode_single(body, kind, RECEIPT)
    if not isinstance(caught.value, UnsupportedMediaTypeError):
        assert caught.value.faults


EVENTS: list[Any] = [
    {"event_type": "a", "event_id": "1"},
    {"event_id": "2"},
    {"event_type": "b", "event_id": "3", "metadata": {"n": [1, 2]}},
    7,
]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(EVENTS).encode(), JSON),
        (json.dumps({"events": EVENTS}).encode(), JSON),
        (b"\r\n".join(json.dumps(event).encode() for event in EVENTS) + b"\n\n", NDJSON),
    ],
)
def test_good_events_are_kept_and_bad_ones_named(body: bytes, kind: str) -> None:
    batch = decode_batch(body, kind, RECEIPT)
    assert [event.event_id for event in batch.accepted] == ["1", "3"]
    assert [(bad.index, bad.event_id, bad.faults[0].pointer) for bad in batch.rejected] == [
        (1, "2", "/event_type"),
        (3, None, ""),
    ]


def test_one_broken_line_of_ndjson_spoils_no_other() -> None:
    body = b'{"event_type":"a"}\n{"event_type":\n{"event_type":"\xff"}\n{"event_type":"b"}'
    batch = decode_batch(body, NDJSON, RECEIPT)
    assert [event.event_type for event in batch.accepted] == ["a", "b"]
    assert [bad.index for bad in batch.rejected] == [1, 2]


def test_an_event_over_its_size_is_rejected_alone() -> None:
    big = {"event_type": "big", "event_id": "b", "metadata": {"text": "x" * 70_000}}
    batch = decode_batch(json.dumps([{"event_type": "a"}, big]).encode(), JSON, RECEIPT)
    assert len(batch.accepted) == 1
    assert (batch.rejected[0].index, batch.rejected[0].event_id) == (1, "b")
    assert "larger than 65536 bytes" in batch.rejected[0].faults[0].detail


def test_the_size_bound_is_exact() -> None:
    frame = len(json.dumps({"event_type": "a", "metadata": {"t": ""}}))
    fits = {"event_type": "a", "metadata": {"t": "x" * (65_536 - frame)}}
    over = {"event_type": "a", "metadata": {"t": "x" * (65_537 - frame)}}
    batch = decode_batch(json.dumps([fits, over]).encode(), JSON, RECEIPT)
    assert (len(batch.accepted), [bad.index for bad in batch.rejected]) == (1, [1])


@pytest.mark.parametrize("count", [2_001, 5_000])
def test_a_batch_of_more_than_two_thousand_is_too_large(count: int) -> None:
    with pytest.raises(TooLargeError):
        decode_batch(json.dumps([{"event_type": "a"}] * count).encode(), JSON, RECEIPT)


@pytest.mark.parametrize("body", [b"[]", b'{"events":[]}', b'{"event":[]}', b'"text"', b"5", b"null"])
def test_json_that_is_no_batch_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidError):
        decode_batch(body, JSON, RECEIPT)


@given(st.binary(max_size=200), st.sampled_from([JSON, NDJSON]))
def test_no_bytes_make_the_decoder_raise_anything_but_a_problem(body: bytes, kind: str) -> None:
    for decode in (decode_batch, decode_single):
        try:
            decode(body, kind, RECEIPT)
        except AppError as error:
            assert 400 <= error.status < 500
