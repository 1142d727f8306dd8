"""What each answer means, from a local HTTP server for those that a healthy API can't be made to give on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.imports.api import Api
from app.imports.batches import Bounds
from app.imports.delivery import Delivery
from app.imports.failures import DeliveryError
from app.imports.lines import Line, Where
from app.imports.tally import Tally
from app.imports.target import Target
from app.imports.window import Window

Reply = tuple[int, dict[str, str], Any]
LINES = [Line(Where("f", number), b'{"event_id":"%d"}' % number) for number in range(1, 9)]
TAKEN: Reply = (202, {}, {"accepted": 0, "rejected": []})


@dataclass
class FarEnd:
    """An HTTP server that answers batches by `reply`; a reply of status 0 closes the connection without a word."""

    reply: Callable[[int, list[str]], Reply]
    batches: list[list[str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    token_replies: list[Reply] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:])}
                body = await reader.readexactly(int(fields["content-length"]))
                status, more, content = self._answer(head.split()[1], fields, body)
                if status == 0:
                    break
                data = json.dumps(content).encode()
                named = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} x\r\n{named}content-length: {len(data)}\r\n\r\n".encode() + data)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    def _answer(self, path: str, fields: dict[str, str], body: bytes) -> Reply:
        if path == "/oauth/token":
            good: Reply = (200, {}, {"access_token": f"t{len(self.batches)}", "token_type": "Bearer"})
            return self.token_replies.pop() if self.token_replies else good
        self.tokens.append(fields["authorization"].removeprefix("Bearer "))
        self.batches.append([json.loads(line)["event_id"] for line in body.splitlines()])
        return self.reply(len(self.batches), self.batches[-1])

    @asynccontextmanager
    async def delivery(self, *, patience: float = 30.0) -> AsyncIterator[tuple[Delivery, Tally, Bounds]]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server, Api(Target(f"http://{host}:{port}", "id", "secret")) as api:
            tally, bounds = Tally(), Bounds(100)
            yield Delivery(api, Window(4, asyncio.Event()), bounds, tally, patience=patience), tally, bounds


IDS = [str(number) for number in range(1, 9)]


@pytest.mark.parametrize("status", [0, 408, 500, 502, 503])
async def test_a_batch_without_a_usable_answer_is_sent_again_with_the_same_ids(status: int) -> None:
    far = FarEnd(lambda number, _: (status, {}, {"detail": "not now"}) if number < 3 else TAKEN)
    async with far.delivery() as (delivery, tally, _):
        await delivery.deliver(LINES)
    assert far.batches == [IDS] * 3
    assert tally.accepted == 8


async def test_patience_ends_and_says_what_was_last_heard() -> None:
    far = FarEnd(lambda *_: (503, {"retry-after": "0"}, {"detail": "Too much waits."}))
    async with far.delivery(patience=0.5) as (delivery, tally, _):
        with pytest.raises(DeliveryError, match=r"no usable answer for 0\.5 s \(status 503 Too much waits\.\)"):
            await delivery.deliver(LINES)
    assert len(far.batches) > 1
    assert tally.accepted == 0


async def test_the_limit_is_obeyed_for_longer_than_patience_lasts() -> None:
    far = FarEnd(lambda number, _: (429, {"retry-after": "1"}, {}) if number < 3 else TAKEN)
    async with far.delivery(patience=0.5) as (delivery, tally, _):
        await delivery.deliver(LINES)
    assert tally.accepted == 8


async def test_a_token_that_is_refused_is_replaced_once() -> None:
    far = FarEnd(lambda number, _: (401, {}, {}) if number == 1 else TAKEN)
    async with far.delivery() as (delivery, tally, _):
        await delivery.deliver(LINES)
    assert far.tokens == ["t0", "t1"]
    assert tally.accepted == 8
    far = FarEnd(lambda *_: (401, {}, {"detail": "The tenant is not active"}))
    async with far.delivery() as (delivery, _, _):
        with pytest.raises(DeliveryError, match=r"doesn't let this client send events \(The tenant is not active\)"):
            await delivery.deliver(LINES)
    assert len(far.batches) == 2


@pytest.mark.parametrize(
    ("said", "most"),
    [({"bucket_size": 4}, 2), ({"bucket_size": 1}, 1), ({"limit_events": 3}, 3), ({"limit_bytes": 40}, 2), ({}, 4)],
)
async def test_a_batch_that_is_too_large_is_split_without_losing_or_doubling_an_event(
    said: dict[str, int], most: int
) -> None:
    far = FarEnd(lambda _, ids: (413, {}, said) if len(ids) > most else TAKEN)
    async with far.delivery() as (delivery, tally, bounds):
        await delivery.deliver(LINES)
        bound = (bounds.events, bounds.bytes)
    assert [event for batch in far.batches[1:] for event in batch] == IDS
    assert tally.accepted == 8
    assert (min(bound) <= max(most, 40)) is bool(said)


async def test_an_event_that_is_too_large_alone_is_rejected_and_the_others_are_sent() -> None:
    far = FarEnd(lambda _, ids: (413, {}, {"detail": "Too large."}) if "5" in ids else TAKEN)
    async with far.delivery() as (delivery, tally, _):
        await delivery.deliver(LINES)
    assert tally.accepted == 7
    assert [(str(rejection.where), rejection.problems[0].detail) for rejection in tally.rejections] == [
        ("f:5", "Too large.")
    ]


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, {"hello": "world"}),
        (202, {"hello": "world"}),
        (202, ["accepted"]),
        (202, {"accepted": 7, "rejected": [{"index": 8, "errors": []}]}),
        (422, {"detail": "no"}),
        (404, {}),
        (302, {}),
    ],
)
async def test_an_answer_that_no_sluice_gives_ends_the_import(status: int, content: Any) -> None:
    far = FarEnd(lambda *_: (status, {}, content))
    async with far.delivery() as (delivery, tally, _):
        with pytest.raises(DeliveryError, match=r"is the URL right\?"):
            await delivery.deliver(LINES)
    assert tally.accepted == 0


@pytest.mark.parametrize("reply", [(200, {}, {}), (200, {}, []), (404, {}, []), (200, {}, {"access_token": 1})])
async def test_a_token_endpoint_that_is_none_ends_the_import(reply: Reply) -> None:
    far = FarEnd(lambda *_: TAKEN, token_replies=[reply])
    async with far.delivery() as (delivery, _, _):
        with pytest.raises(DeliveryError, match="doesn't answer like a Sluice API"):
            await delivery.deliver(LINES)
    assert far.batches == []


async def test_a_busy_token_endpoint_is_asked_again() -> None:
    busy: Reply = (503, {}, {"error": "temporarily_unavailable"})
    far = FarEnd(lambda *_: TAKEN, token_replies=[busy, busy])
    async with far.delivery() as (delivery, tally, _):
        await delivery.deliver(LINES)
    assert far.token_replies == []
    assert tally.accepted == 8
