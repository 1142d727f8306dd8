"""A load generator that costs little: keep-alive HTTP/1.1 connections that send ready-made bytes and count answers.

Bounded by time, and only ever to 127.0.0.1. Measures what a closed loop of `connections` clients sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

HOST = "127.0.0.1"


@dataclass
class Result:
    """What came back within the time: answers by status, and each answer's seconds."""

    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds within which `share` of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class _Client(asyncio.Protocol):
    """Sends the next request when the answer to the last is complete."""

    def __init__(self, requests: Iterator[bytes], result: Result) -> None:
        self._requests = requests
        self._result = result
        self._buffer = b""
        self._sent = 0.0
        self.transport: asyncio.Transport | None = None
        self.counting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none of asyncio's
        self._send()

    def _send(self) -> None:
        assert self.transport is not None  # noqa: S101
        self._sent = time.perf_counter()
        self.transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[at : self._buffer.index(b"\r", at)])
        if len(self._buffer) < end + 4 + length:
            return
        status = int(self._buffer[9:12])
        self._buffer = b""
        if self.counting:
            self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
            self._result.latencies.append(time.perf_counter() - self._sent)
        self._send()


async def run(
    port: int, requests: Iterator[bytes], *, connections: int, seconds: float, warm_up: float = 1.0
) -> Result:
    """Load the server on `port` for `seconds`, after a warm-up that is not counted."""
    loop = asyncio.get_running_loop()
    result = Result()
    clients = [
        (await loop.create_connection(lambda: _Client(requests, result), HOST, port))[1] for _ in range(connections)
    ]
    await asyncio.sleep(warm_up)
    started = time.perf_counter()
    for client in clients:
        client.counting = True
    await asyncio.sleep(seconds)
    for client in clients:
        client.counting = False
    result.seconds = time.perf_counter() - started
    for client in clients:
        if client.transport is not None:
            client.transport.abort()
    return result


def request(path: str, body: bytes, *, token: str = "", content_type: str = "application/json") -> bytes:
    """A complete POST request as bytes."""
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\n{authorization}content-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
