"""Memory of API, store and index worker stays level however many events pass through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from tests.faults import memory
from tests.faults.memory import Sample, growth
from tests.faults.places import in_step, settled
from tests.system import TLS, System, until

if TYPE_CHECKING:
    from deploy.local.servers import Endpoints

EVENTS = 1_000_000
BATCH = 1000
SENDERS = 3
BACKLOG = 60_000
"""Events that may be on their way: all three processes are to work all the time."""
BOUND_MIB = 16.0
"""From half of the events to the end; 34 bytes an event kept for good would pass it."""

PROCESSES = ("api", "store", "index")

_HANDLED = """
select (select coalesce(sum(stored), 0) from usage),
       coalesce(sum(next_offset) filter (where consumer_group like '%.index')
                / nullif(sum(next_offset) filter (where consumer_group like '%.store'), 0), 0)
from stream_offsets
"""


class Pour:
    """Batches sent as fast as the workers take them."""

    def __init__(self, system: System, client: httpx.AsyncClient) -> None:
        self._system = system
        self._client = client
        self._numbers = count(0, BATCH)
        self._acknowledged = 0
        self.handled = 0

    async def send(self) -> None:
        """One sender of several, until all is sent."""
        while (first := next(self._numbers)) < EVENTS:
            await until(self._on_the_way, lambda backlog: backlog < BACKLOG, seconds=300)
            body = msgspec.json.encode([_event(number) for number in range(first, first + BATCH)])
            headers = {"Content-Type": "application/json"}
            while True:
                answer = await self._client.post("/api/v1/events/batch", content=body, headers=headers)
                if answer.status_code == 202:
                    break
                assert answer.status_code in {429, 503}, answer.text
                await asyncio.sleep(float(answer.headers["retry-after"]))
            self._acknowledged += BATCH

    async def watch(self) -> list[Sample]:
        """A sample a second, until all is stored and indexed."""
        pids = {name: self._system.processes[name].pid for name in PROCESSES}
        samples: list[Sample] = []
        began = time.monotonic()
        while self.handled < EVENTS:
            await asyncio.sleep(1)
            self.handled = await self._handled()
            samples.append(memory.sample(time.monotonic() - began, self.handled, pids))
        return samples

    async def _on_the_way(self) -> int:
        return self._acknowledged - self.handled

    async def _handled(self) -> int:
        """How many events are stored and indexed, taking records for equally large."""
        ((stored, share),) = await self._system.fetch(_HANDLED)
        return int(stored * share)


def _event(number: int) -> dict[str, object]:
    return {
        "event_id": f"e{number:07}",
        "event_type": f"type {number % 20}",
        "user_id": f"u{number % 50_000}",
        "metadata": {"number": number, "page": f"/some/page/{number % 1000}", "text": "still water"},
    }


@pytest.mark.timeout(3600)
async def test_memory_stays_level_over_a_million_events(
    endpoints: Endpoints, tmp_path: Path, say: Callable[[str], None], *, long_form: bool
) -> None:
    if not long_form:
        pytest.skip("in the long form: make faults")
    system = await System.create(endpoints, tmp_path, TOKEN_LIFETIME_SECONDS="3600")
    await system.fetch("update plans set shards = 8 where plan_id = 'standard'")
    tenant = await system.tenant()
    try:
        await system.start(*PROCESSES)
        headers = {"Authorization": f"Bearer {await system.token(tenant)}"}
        async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=60, verify=TLS) as client:
            pour = Pour(system, client)
            watching = asyncio.create_task(pour.watch())
            await asyncio.gather(*(pour.send() for _ in range(SENDERS)))
            samples = await watching
        reports = await settled(system, [tenant], seconds=300)
    finally:
        system.stop()
    assert in_step(reports), reports
    assert reports[0].events == EVENTS
    found = {process: growth(samples, process) for process in PROCESSES}
    say(f"MiB that processes grew by over the second half of {EVENTS:,} events: {found}")
    memory.write(samples, BOUND_MIB)
    assert {process: grown for process, grown in found.items() if grown > BOUND_MIB} == {}


def test_what_leaks_is_told_from_what_only_warms_up(tmp_path: Path) -> None:
    def mib(number: int) -> dict[str, float]:
        return {"leaks": 100 + number / 2, "warms up": 100 + min(number, 40), "jumps once": 100 + 30 * (number == 70)}

    samples = [Sample(float(number), number * 1000, mib(number)) for number in range(101)]
    assert growth(samples, "leaks") == pytest.approx(23.75, abs=2)
    assert growth(samples, "warms up") == 0
    assert growth(samples, "jumps once") == 0
    memory.write(samples, BOUND_MIB, tmp_path)
    plot = (tmp_path / "memory.svg").read_text(encoding="utf-8")
    for text in (
        "Resident memory while 100,000 events",
        "events stored and indexed",
        "resident memory (MiB)",
        "warms up",
    ):
        assert text in plot
