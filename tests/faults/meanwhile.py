"""What is true while a server is away: an honest error for what needs it, and for nothing else."""

from __future__ import annotations

import time

import httpx

from tests.faults.ground import Ground, facts
from tests.faults.traffic import Traffic
from tests.system import TLS, until


async def anything(_ground: Ground, _traffic: Traffic) -> None:
    """Nothing is said."""


async def without_redis(ground: Ground, traffic: Traffic) -> None:
    """Events are still taken, health names what is missing, and a metric says that limits are each process' own."""
    assert (await traffic.once([traffic.event("without redis")])).status_code == 202
    assert (await ground.look("/api/v1/health")).json()["dependencies"]["redis"] == "down"
    async with httpx.AsyncClient(verify=TLS) as plain:
        port = ground.system.environment["SLUICE_METRICS_PORT"]
        page = (await plain.get(f"http://127.0.0.1:{port}/metrics")).text
    line = next(line for line in page.splitlines() if line.startswith("sluice_limiter_fallback_total "))
    assert float(line.split()[1]) >= 1


async def without_elasticsearch(ground: Ground, traffic: Traffic) -> None:
    """Search alone says that it can't; events are taken and counted."""
    kind = f"{traffic.chapter}: meanwhile"
    assert (await traffic.once([traffic.event("meanwhile", kind)])).status_code == 202
    await until(lambda: ground.counted(kind), lambda count: count == 1)
    answer = await ground.look("/api/v1/events/search")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert facts(answer)["status"] == 503


async def without_postgres(ground: Ground, traffic: Traffic) -> None:
    """Known tokens go on sending; what needs the rows says that it can't."""
    for number in range(5):
        assert (await traffic.once([traffic.event(f"meanwhile {number}")])).status_code == 202
    answer = await ground.look("/api/v1/events/count")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


async def without_kafka(ground: Ground, traffic: Traffic) -> None:
    """503 in time, with all ids, also those that the gateway made; what is stored can be read."""
    began = time.monotonic()
    named = traffic.event("unknown")
    answer = await traffic.once([named, {"event_type": traffic.chapter}])
    assert answer.status_code == 503
    assert time.monotonic() - began < 10
    assert int(answer.headers["retry-after"]) >= 1
    ids = facts(answer)["event_ids"]
    assert len(ids) == 2
    assert ids[0] == named["event_id"]
    traffic.later([{"event_type": traffic.chapter, "event_id": event_id} for event_id in ids])
    assert (await ground.look("/api/v1/ready")).status_code == 503
    assert await ground.counted(traffic.chapter) >= 0
