"""What tests of replays share: sending events, starting a replay, doing its pieces."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.system import MadeTenant, System, until
from workers.replay import Replays

REPLAYS = "/api/v1/replays"
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
SENT_BY_WORKER = ("index", "kafka", "webhook")


async def stored(system: System, tenant: MadeTenant, http: httpx.AsyncClient, count: int, **members: Any) -> list[str]:
    """Ids of so many new events of one minute each from `FIRST` on, in their order, once they are stored."""
    before = await system.counted(tenant)
    events = [
        {
            "event_type": "click" if number % 2 else "view",
            "user_id": f"u{number % 3}",
            "event_id": f"e{before + number:05}",
            "timestamp": (FIRST + timedelta(minutes=before + number)).isoformat(),
            "metadata": {"number": number, "text": "häuser 修"},
        }
        | members
        for number in range(count)
    ]
    for start in range(0, count, 1000):
        answer = await http.post("/api/v1/events/batch", json=events[start : start + 1000])
        assert answer.status_code == 202, answer.text
    await until(lambda: system.counted(tenant), lambda seen: seen == before + count)
    return [str(event["event_id"]) for event in events]


async def started(http: httpx.AsyncClient, target: str, **members: Any) -> dict[str, Any]:
    """A replay as it was answered."""
    answer = await http.post(REPLAYS, json={"target": target, **members})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{REPLAYS}/{made['replay_id']}"
    return made


async def shown(http: httpx.AsyncClient, replay: dict[str, Any]) -> dict[str, Any]:
    answer = await http.get(f"{REPLAYS}/{replay['replay_id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def moved(http: httpx.AsyncClient, replay: dict[str, Any], how: str) -> httpx.Response:
    return await http.post(f"{REPLAYS}/{replay['replay_id']}/{how}")


@dataclass(frozen=True)
class Pieces:
    """A worker whose turns the test takes."""

    system: System
    replays: Replays

    async def one(self, *targets: str) -> bool:
        return await self.replays.turn(targets or SENT_BY_WORKER)

    async def at_once(self) -> None:
        """Nothing waits any longer for its pace, after a fault, or for a worker that is gone."""
        await self.system.fetch("update replays set due_at = null, leased_until = null where state = 'running'")

    async def all(self, http: httpx.AsyncClient, replay: dict[str, Any]) -> dict[str, Any]:
        """Pieces until the replay runs no more; returns what is then shown."""
        for _ in range(200):
            found = await shown(http, replay)
            if found["state"] != "running":
                return found
            await self.one()
            await self.at_once()
        raise AssertionError(f"still running after 200 pieces: {found}")
