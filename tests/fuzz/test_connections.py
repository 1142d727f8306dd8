"""Bytes on a connection that no HTTP library would send: each is answered as a problem, or the connection ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from app.http_protocol import HEAD_TIMEOUT_SECONDS
from app.ingest.endpoint import SINGLE
from tests.system import System

EVENT = b'{"event_type":"a"}'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
WAIT_SECONDS = 20.0
"""For an answer, or an end, that comes at once."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def token(attacked: System) -> bytes:
    return (await attacked.token(await attacked.tenant())).encode()


def post(token: bytes, *headers: bytes, path: bytes = SINGLE.encode()) -> bytes:
    lines = (b"POST %b HTTP/1.1" % path, b"Host: x", b"Authorization: Bearer " + token, *headers)
    return b"\r\n".join(lines) + b"\r\nContent-Type: application/json\r\n\r\n"


def sized(token: bytes) -> bytes:
    """A whole request."""
    return post(token, b"Content-Length: %d" % len(EVENT)) + EVENT


@asynccontextmanager
async def opened(system: System) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    place = urlsplit(system.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """The next answer: status, headers, the JSON of its body."""
    async with asyncio.timeout(WAIT_SECONDS):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, json.loads(body) if body else None


async def has_ended(reader: asyncio.StreamReader, seconds: float = WAIT_SECONDS) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /api/v1/ready HTTP/1.1\nHost: x\n\n",
        "GET /api/v1/events/user/ü HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 70_000),
        b"GET /api/v1/ready HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
        b"GET /api/v1/ready HTTP/1.1\r\nHost: x\r\nX-A: \0\r\n\r\n",
        b"BREW /api/v1/ready HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_and_the_end_of_the_connection(attacked: System, sent: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(sent)
        status, headers, problem = await answer_of(reader)
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert problem["request_id"] == headers["x-request-id"]
        assert await has_ended(reader)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((b"Content-Length: 18", b"Content-Length: 5"), EVENT),
        ((b"Content-Length: 18", b"Transfer-Encoding: chunked"), CHUNK + b"0\r\n\r\n"),
        ((b"Content-Length: -1",), EVENT),
        ((b"Content-Length: 99999999999999999999999",), EVENT),
        ((b"Transfer-Encoding: chunked",), b"FFFFFFFFFFFFFFFFFFFF\r\n" + EVENT),
    ],
)
async def test_a_body_of_no_certain_length_is_refused(
    attacked: System, token: bytes, headers: tuple[bytes, ...], body: bytes
) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(post(token, *headers) + body)
        status, _, problem = await answer_of(reader)
        assert (status, problem["status"]) == (400, 400)
        assert await has_ended(reader)


async def test_a_head_without_end_is_cut_off(attacked: System) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(b"GET /api/v1/ready HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 1_000_000)
        status, _, problem = await answer_of(reader)
        assert (status, problem["type"]) == (431, "urn:sluice:problem:head-too-large")


async def test_trailers_are_no_headers(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        trailers = b"0\r\nAuthorization: Bearer other\r\nContent-Encoding: gzip\r\n\r\n"
        writer.write(post(token, b"Transfer-Encoding: chunked", b"Trailer: Authorization") + CHUNK + trailers)
        assert (await answer_of(reader))[0] == 202


@pytest.mark.parametrize("bearer", ["good", "bad"])
async def test_trailers_without_end_are_cut_off_also_where_the_answer_has_been_given(
    attacked: System, token: bytes, bearer: str
) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(post(token if bearer == "good" else b"no", b"Transfer-Encoding: chunked") + CHUNK + b"0\r\nx: ")
        if bearer == "bad":
            assert (await answer_of(reader))[0] == 401
        for _ in range(200):
            writer.write(b"a" * 16_384)
            with suppress(ConnectionError):
                await writer.drain()
        assert await has_ended(reader)


async def test_who_has_said_that_nothing_more_comes_is_answered(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(sized(token))
        writer.write_eof()
        assert (await answer_of(reader))[0] == 202
        assert await has_ended(reader)


async def test_a_connection_that_ends_within_a_body_is_let_go(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(post(token, b"Content-Length: 100") + EVENT)
        writer.write_eof()
        assert await has_ended(reader)


async def test_garbage_after_a_request_does_not_turn_its_answer_into_a_refusal(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(sized(token) + b"garbage\r\n\r\n")
        assert (await answer_of(reader))[0] == 202
        assert await has_ended(reader)


async def test_requests_that_come_together_are_answered_in_their_order(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(sized(token) + post(token, b"Content-Length: 0") + sized(token))
        assert [(await answer_of(reader))[0] for _ in range(3)] == [202, 400, 202]


async def test_who_asks_before_sending_a_body_is_told_to_go_on(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(post(token, b"Content-Length: %d" % len(EVENT), b"Expect: 100-continue"))
        assert (await answer_of(reader))[0] == 100
        writer.write(EVENT)
        assert (await answer_of(reader))[0] == 202


async def test_a_slash_too_many_is_no_redirect_to_wherever_the_host_header_says(attacked: System, token: bytes) -> None:
    async with opened(attacked) as (reader, writer):
        writer.write(post(token, b"Content-Length: 0", path=SINGLE.encode() + b"/"))
        status, headers, _ = await answer_of(reader)
        assert status == 404
        assert "location" not in headers


@pytest.mark.timeout(600)
async def test_silent_clients_hinder_nobody_and_are_not_waited_for_for_ever(
    attacked: System, token: bytes, long_form: bool
) -> None:
    unfinished = (
        b"",
        b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-",
        post(token, b"Content-Length: 100") + EVENT,
        post(token, b"Content-Length: 100", path=b"/api/v1/clients") + EVENT,
        b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ng",
    )
    connections = [await asyncio.open_connection(*_place(attacked)) for _ in range(40) for _ in unfinished]
    try:
        for (_, writer), sent in zip(connections, unfinished * 40, strict=True):
            writer.write(sent)
        async with opened(attacked) as (reader, writer):
            writer.write(sized(token))
            assert (await answer_of(reader))[0] == 202
        if long_form:
            ended = (_last(reader, HEAD_TIMEOUT_SECONDS * 3) for reader, _ in connections)
            for last, sent in zip(await asyncio.gather(*ended), unfinished * 40, strict=True):
                assert (b" 400 " in last) is (b"Content-Length" in sent), (sent, last)
    finally:
        for _, writer in connections:
            writer.close()


async def _last(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """What comes before the end, or with an answer; fails if neither does."""
    async with asyncio.timeout(seconds):
        return await reader.read(65_536)


def _place(system: System) -> tuple[str, int]:
    parts = urlsplit(system.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
