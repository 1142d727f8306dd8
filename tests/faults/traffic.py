"""A client as a good one behaves: a steady stream of events, each sent with its id until it is acknowledged.

Single events and batches, for several tenants in turn; some that were acknowledged are sent again with another time,
as by a client that has forgotten. Owns what was sent and acknowledged. Refuses to know what is broken meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from tests.system import TLS

TICK_SECONDS = 0.1
SINGLES_A_TICK = 3
BATCH_EVERY_TICKS = 3
BATCH_EVENTS = 25
AGAIN_EVERY = 10
"""Of so many requests that were acknowledged, one is sent once more."""
USERS = 40
AT_ONCE = 32
"""Requests under way, their retries included; the others wait. So the client does not take the processor for itself."""
LONGEST_PAUSE_SECONDS = 1.0

Event = dict[str, Any]


@dataclass
class Traffic:
    """The events of one chapter: their ids begin with its name. `refused` are answers that no retry would mend."""

    chapter: str
    url: str
    tokens: list[str]
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    retries: int = 0
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clients = [
            httpx.AsyncClient(
                base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=15, verify=TLS
            )
            for token in self.tokens
        ]  # fmt: skip
        self._deliveries: set[asyncio.Task[None]] = set()
        self._number = 0
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def flow(self) -> None:
        """Send on and on, at the same rate whatever the answers are."""
        for tick in range(10**9):
            for _ in range(SINGLES_A_TICK):
                self.later([self._event()], tick % len(self.tokens))
            if tick % BATCH_EVERY_TICKS == 0:
                self.later([self._event() for _ in range(BATCH_EVENTS)], tick % len(self.tokens))
            await asyncio.sleep(TICK_SECONDS)

    async def deliver(self, events: list[Event], tenant: int = 0) -> None:
        """Send `events` in one request until they are acknowledged."""
        self.sent |= {event["event_id"] for event in events}
        for attempt in range(10**9):
            try:
                answer = await self.once(events, tenant)
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == 202:
                    return
                if answer.status_code not in {429, 503}:
                    self.refused.append(f"{answer.status_code}: {answer.text}")
                    return
            self.retries += 1
            # Sooner than `Retry-After` allows, to be in the way while servers come back.
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, 0.1 * 2**attempt) * random.uniform(0.5, 1))

    async def once(self, events: list[Event], tenant: int = 0) -> httpx.Response:
        """Send `events` in one request, whatever the answer."""
        ids = {event["event_id"] for event in events if "event_id" in event}
        self.sent |= ids
        path, body = ("/api/v1/events", events[0]) if len(events) == 1 else ("/api/v1/events/batch", events)
        answer = await self._clients[tenant].post(
            path, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
        )
        if answer.status_code == 202:
            self.acknowledged |= ids
        return answer

    def later(self, events: list[Event], tenant: int = 0) -> None:
        """Deliver `events` beside all else."""
        task = asyncio.create_task(self._deliver_and_forget(events, tenant))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def drained(self) -> None:
        """Until all that was sent is acknowledged, or refused for good."""
        while self._deliveries:
            await asyncio.gather(*self._deliveries)

    async def close(self) -> None:
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    def event(self, name: str, event_type: str | None = None) -> Event:
        """An event of this chapter that is not of the stream."""
        return {
            "event_id": f"{self.chapter}/{name}",
            "event_type": event_type or self.chapter,
            "user_id": "of the test",
        }

    def _event(self) -> Event:
        self._number += 1
        event = self.event(str(self._number))
        return event | {"user_id": f"u{self._number % USERS}", "metadata": {"n": self._number, "text": "still water"}}

    async def _deliver_and_forget(self, events: list[Event], tenant: int) -> None:
        async with self._gate:
            await self.deliver(events, tenant)
        if random.randrange(AGAIN_EVERY) == 0:
            await self.deliver([event | {"timestamp": "2026-01-02T03:04:05Z"} for event in events], tenant)


@asynccontextmanager
async def flowing(chapter: str, url: str, tokens: list[str]) -> AsyncIterator[Traffic]:
    """Traffic as long as the block lasts; in the end all of it has been acknowledged."""
    traffic = Traffic(chapter, url, tokens)
    flow = asyncio.create_task(traffic.flow())
    try:
        yield traffic
        flow.cancel()
        await asyncio.wait_for(traffic.drained(), 120)
    finally:
        flow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flow
        await traffic.close()
