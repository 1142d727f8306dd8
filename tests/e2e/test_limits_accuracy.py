"""Limits are exact across processes: two API processes, load far over the limit, what was admitted counted.

Prints the figures. The load is paced, so that it is as many times the limit as is said and leaves the machine room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import pytest

from bench import load
from deploy.local.servers import Endpoints
from tests.system import Say, System

SECONDS = 10.0
TIMES_OVER = 5
BATCH = 10
PATH = "/api/v1/events/batch"
PROCESSES = ("api", "api-2")

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
async def pair(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Two API processes of one system."""
    running = await System.create(endpoints, tmp_path_factory.mktemp("pair"), GATEWAY_PROCESSES="2")
    try:
        await running.start(*PROCESSES)
        yield running
    finally:
        running.stop()


@dataclass
class Offered:
    """One tenant's load and what became of it; moments in seconds, by `time.monotonic`."""

    rate: float
    burst: int
    token: str
    admitted: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    began: float = float("inf")
    admitted_last: float = 0.0
    ended: float = 0.0

    @property
    def expected(self) -> float:
        """What a bucket that was full at first has given when it gave last: what came in since is less than a batch."""
        return self.burst + self.rate * (self.admitted_last - self.began)


class Connection:
    """One keep-alive connection to one process."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(load.HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def status(self, request: bytes) -> int:
        """Send it and read the whole answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        await self._reader.readexactly(int(length[16:]))
        return int(head[9:12])


async def offer(url: str, tenants: Sequence[Offered], requests_per_second: float, start: float) -> None:
    """From `start` for `SECONDS` so many requests a second to the process at `url`, one tenant after another.

    What is late is sent at once, so that the mean rate holds.
    """
    body = b"[" + b",".join([b'{"event_type":"a"}'] * BATCH) + b"]"
    requests = [load.request(PATH, body, token=tenant.token) for tenant in tenants]
    turns = iter(range(10**9))

    async def send(connection: Connection) -> None:
        for number in turns:
            due = start + number / requests_per_second
            if due > start + SECONDS:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tenant = tenants[number % len(tenants)]
            tenant.began = min(tenant.began, time.monotonic())
            status = await connection.status(requests[number % len(tenants)])
            tenant.ended = time.monotonic()
            tenant.answers[status] = tenant.answers.get(status, 0) + 1
            if status == 202:
                tenant.admitted += BATCH
                tenant.admitted_last = tenant.ended

    async def client() -> None:
        async with Connection(url) as connection:
            await send(connection)

    await asyncio.gather(*(client() for _ in range(8)))


async def overload(pair: System, tenants: Sequence[Offered]) -> None:
    """Each tenant's load at `TIMES_OVER` its rate, half of it to each process."""
    total = sum(tenant.rate for tenant in tenants) * TIMES_OVER / BATCH
    start = time.monotonic() + 0.1
    await asyncio.gather(*(offer(pair.urls[name], tenants, total / len(PROCESSES), start) for name in PROCESSES))


async def made(pair: System, rate: float, burst: int) -> Offered:
    return Offered(rate, burst, await pair.token(await pair.tenant(rate=rate, burst=burst)))


def check(tenants: Sequence[Offered], say: Say) -> None:
    for tenant in tenants:
        offered = sum(tenant.answers.values()) * BATCH
        off = tenant.admitted / tenant.expected - 1
        say(
            f"{tenant.rate:g} a second, burst {tenant.burst}, {tenant.admitted_last - tenant.began:.2f} s: "
            f"offered {offered}, admitted {tenant.admitted}, expected {tenant.expected:.0f}, off by {off:+.2%}"
        )
        assert set(tenant.answers) == {202, 429}
        assert offered >= 0.95 * TIMES_OVER * tenant.rate * SECONDS
        assert abs(off) <= 0.01
        # A batch's worth comes in each so many seconds, and at this load somebody is there to take it.
        assert tenant.ended - tenant.admitted_last < BATCH / tenant.rate + 0.5


async def test_one_tenant_at_five_times_its_rate_over_two_processes_gets_burst_plus_rate_times_time(
    pair: System, say: Say
) -> None:
    tenants = [await made(pair, 500, 500)]
    await overload(pair, tenants)
    check(tenants, say)


async def test_ten_tenants_together_each_get_their_own(pair: System, say: Say) -> None:
    tenants = [await made(pair, 100, 1000) for _ in range(10)]
    await overload(pair, tenants)
    check(tenants, say)
