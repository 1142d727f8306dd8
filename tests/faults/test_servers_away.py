"""A dependency that is down is an honest error, for what needs it and for nothing else; then all goes on by itself."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import asyncpg
import httpx

from deploy.local.servers import LocalServers
from tests.system import System, until


async def counted(client: httpx.AsyncClient, **filters: str) -> int:
    answer = await client.get("/api/v1/events/count", params=filters)
    return int(answer.json().get("count", -1))


async def dependencies(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/v1/health")
    found: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if found["status"] == "ok" else 503)
    return found


async def test_kafka_frozen_past_the_deadline_is_503_with_the_ids_and_sent_again_they_count_once(
    mortal: LocalServers, fragile: System
) -> None:
    async with fragile.client(await fragile.tenant()) as client:
        kafka = mortal.pid("kafka")
        os.kill(kafka, signal.SIGSTOP)
        try:
            started = time.monotonic()
            batch = [{"event_type": "a", "event_id": "mine"}, {"event_type": "a"}]
            answer = await client.post("/api/v1/events/batch", json=batch)
            assert answer.status_code == 503
            assert time.monotonic() - started < 10
            assert int(answer.headers["retry-after"]) >= 1
            ids = answer.json()["event_ids"]
            assert ids[0] == "mine"
            assert len(ids) == 2
            assert (await client.get("/api/v1/ready")).status_code == 503
            assert await counted(client) == 0
        finally:
            os.kill(kafka, signal.SIGCONT)
        again = [{"event_type": "a", "event_id": event_id} for event_id in ids]

        async def send() -> int:
            return (await client.post("/api/v1/events/batch", json=again)).status_code

        await until(send, lambda status: status == 202)
        await client.post("/api/v1/events", json={"event_type": "last"})
        await until(lambda: counted(client, event_type="last"), lambda found: found == 1)
        assert await counted(client, event_type="a") == 2


async def test_redis_away_events_are_still_taken_and_a_metric_says_so(mortal: LocalServers, fragile: System) -> None:
    async with fragile.client(await fragile.tenant()) as client:
        await mortal.stop_server("redis")
        try:
            assert (await client.post("/api/v1/events", json={"event_type": "a"})).status_code == 202
            await until(lambda: counted(client), lambda found: found == 1)
            assert (await dependencies(client))["dependencies"]["redis"] == "down"
        finally:
            await mortal.start_server("redis")
        async with httpx.AsyncClient() as plain:
            page = (await plain.get(f"http://127.0.0.1:{fragile.environment['SLUICE_METRICS_PORT']}/metrics")).text
        line = next(line for line in page.splitlines() if line.startswith("sluice_limiter_fallback_total "))
        assert float(line.split()[1]) >= 1
        await until(lambda: dependencies(client), lambda found: found["status"] == "ok")


async def test_elasticsearch_away_stops_search_only_and_later_finds_what_came_meanwhile(
    mortal: LocalServers, fragile: System
) -> None:
    async with fragile.client(await fragile.tenant()) as client:
        await mortal.stop_server("elasticsearch")
        try:
            assert (await client.post("/api/v1/events", json={"event_type": "meanwhile"})).status_code == 202
            await until(lambda: counted(client), lambda found: found == 1)
            answer = await client.get("/api/v1/events/search")
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            assert answer.headers["content-type"] == "application/problem+json"
        finally:
            await mortal.start_server("elasticsearch")

        async def hits() -> int:
            return int((await client.get("/api/v1/events/search")).json().get("total", -1))

        await until(hits, lambda total: total == 1, seconds=60)


async def test_postgres_away_leaves_known_tokens_sending_and_nothing_is_lost(
    mortal: LocalServers, fragile: System
) -> None:
    async with fragile.client(await fragile.tenant()) as client:
        assert (await client.post("/api/v1/events", json={"event_type": "before"})).status_code == 202
        await mortal.stop_server("postgres")
        try:
            for _ in range(5):
                assert (await client.post("/api/v1/events", json={"event_type": "during"})).status_code == 202
            answer = await client.get("/api/v1/events/count")
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
        finally:
            await mortal.start_server("postgres")
        await until(lambda: counted(client, event_type="during"), lambda found: found == 5, seconds=60)
        assert await counted(client, event_type="before") == 1


async def test_each_server_killed_comes_back_and_no_acknowledged_event_is_lost(
    mortal: LocalServers, fragile: System
) -> None:
    async with fragile.client(await fragile.tenant()) as client:
        acknowledged: set[str] = set()
        number = 0
        for name in ("kafka", "postgres", "redis", "elasticsearch"):
            os.kill(mortal.pid(name), signal.SIGKILL)
            deadline = time.monotonic() + 60
            # Until twenty in a row were taken after the kill: whatever was answered 202 has to be there in the end.
            run = 0
            while run < 20:
                assert time.monotonic() < deadline, f"not well again after {name} was killed"
                number += 1
                event_id = f"{name}-{number}"
                answer = await client.post("/api/v1/events", json={"event_type": "a", "event_id": event_id})
                assert answer.status_code in {202, 503}, answer.text
                if answer.status_code == 202:
                    acknowledged.add(event_id)
                run = run + 1 if answer.status_code == 202 else 0
        tenant_rows = "select event_id from events where event_type = 'a' and event_id = any($1::text[])"

        async def stored() -> int:
            try:
                return len(await fragile.fetch(tenant_rows, sorted(acknowledged)))
            except (OSError, asyncpg.PostgresError):
                return -1

        await until(stored, lambda found: found == len(acknowledged), seconds=90)

        async def hits() -> int:
            return int((await client.get("/api/v1/events/search", params={"limit": 1})).json().get("total", -1))

        everything = await counted(client)
        assert len(acknowledged) <= everything <= number
        await until(hits, lambda total: total == everything, seconds=90)
