"""Where faults happen: servers that may be taken away, a system on them, its tenants, and the look at what is true.

Owns supervision (what ended is started again) and the comparison of all places. Refuses to break anything.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from tests.faults.places import doubled, in_step, settled
from tests.faults.table import Row
from tests.faults.traffic import Traffic, flowing
from tests.system import TLS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.local.servers import LocalServers
    from tests.faults.causes import Cause
    from tests.system import MadeTenant, System

RECOVERED_WITHIN_SECONDS = 120
FLOWING_EVENTS = 40
"""Acknowledged before anything happens: the fault meets a stream that flows."""


@dataclass
class Ground:
    """`long` asks for the long form. `sent` is what was ever sent; a chapter's ids begin with its cause's name."""

    servers: LocalServers
    system: System
    tenants: list[MadeTenant]
    tokens: list[str]
    long: bool
    sent: set[str] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)

    async def suffer(self, cause: Cause) -> Row:
        """Let `cause` happen to a stream of events, wait until all is well again, and count."""
        system = self.system
        async with flowing(cause.name, system.url, self.tokens) as traffic:
            await until(lambda: _size(traffic.acknowledged), lambda size: size >= FLOWING_EVENTS, seconds=60)
            ended = await cause.happen(self, traffic)
            await self._probed(traffic)
            seconds = time.monotonic() - ended
            await until(self._well, bool, seconds=60)
        assert traffic.refused == []
        self.sent |= traffic.sent
        reports = await settled(system, self.tenants, seconds=RECOVERED_WITHIN_SECONDS)
        stored = {row["event_id"] for row in await system.fetch("select event_id from events")}
        ours = stored & traffic.sent
        row = Row(
            cause.name, len(traffic.sent), len(traffic.acknowledged), len(ours),
            lost=len(traffic.acknowledged - ours), doubled=sum(map(doubled, reports)),
            seconds=round(seconds, 1), retries=traffic.retries,
        )  # fmt: skip
        self.rows.append(row)
        assert stored <= self.sent
        assert in_step(reports), reports
        return row

    @asynccontextmanager
    async def another(self, *names: str) -> AsyncIterator[None]:
        """Further workers, which own partitions by the time the block begins and leave cleanly at its end."""
        past = {name: self.mark(name) for name in names}
        await self.system.start(*names)
        try:
            for name in names:
                await self.claims(name, past=past[name])
            yield
        finally:
            for name in names:
                if name in self.system.processes:
                    await self.leave(name)

    def mark(self, name: str) -> int:
        """The length of the process' log by now, if there ever was such a process."""
        return len(self.system.log(name)) if (self.system.folder / f"{name}.log").exists() else 0

    async def claims(self, name: str, *, past: int) -> None:
        """Until the worker says, beyond this mark of its log, that partitions are its own."""
        await self.says(name, '"partitions claimed"', past=past)

    async def says(self, name: str, text: str, *, past: int) -> None:
        """Until the process writes `text` into its log, beyond this mark of it."""

        async def said() -> str:
            return self.system.log(name)[past:]

        await until(said, lambda seen: text in seen, seconds=60)

    async def leave(self, name: str) -> None:
        """SIGTERM, and a clean end."""
        process = self.system.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0

    async def look(self, path: str, **parameters: str) -> httpx.Response:
        """A reader's GET, as the first tenant."""
        headers = {"Authorization": f"Bearer {self.tokens[0]}"}
        async with httpx.AsyncClient(base_url=self.system.url, headers=headers, timeout=15, verify=TLS) as client:
            return await client.get(path, params=parameters)

    async def counted(self, event_type: str) -> int:
        """What the API counts, or -1 while it can't."""
        return await self._number("/api/v1/events/count", "count", event_type)

    async def _probed(self, traffic: Traffic) -> None:
        """Until a new event is acknowledged, stored and found by search."""
        probe = f"{traffic.chapter}: well again?"
        await asyncio.wait_for(traffic.deliver([traffic.event("probe", probe)]), RECOVERED_WITHIN_SECONDS)
        await until(lambda: self.counted(probe), lambda count: count == 1, seconds=RECOVERED_WITHIN_SECONDS)
        await until(
            lambda: self._number("/api/v1/events/search", "total", probe),
            lambda total: total == 1,
            seconds=RECOVERED_WITHIN_SECONDS,
        )

    async def _number(self, path: str, name: str, event_type: str) -> int:
        try:
            answer = await self.look(path, event_type=event_type)
        except httpx.TransportError:
            return -1
        return int(answer.json().get(name, -1))

    async def _well(self) -> bool:
        """Every dependency answers, and every process lives."""
        assert [name for name, process in self.system.processes.items() if process.poll() is not None] == []
        return (await self.look("/api/v1/health")).status_code == 200


async def _size(of: set[str]) -> int:
    return len(of)


def facts(answer: httpx.Response) -> Any:
    """The answer's problem, which has to be one."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()
