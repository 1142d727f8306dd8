"""Limits over HTTP: of the tenant and of a client, named as they are, kept over a restart, changed within a second."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import httpx

from deploy.local.servers import Endpoints
from tests.integration.usage.plans import on_plan, own_bucket
from tests.system import MadeTenant, System, until

SINGLE, BATCH, LIMITS = "/api/v1/events", "/api/v1/events/batch", "/api/v1/limits"
STILL = 0.001


async def send(client: httpx.AsyncClient, count: int = 1) -> httpx.Response:
    return await client.post(BATCH, json=[{"event_type": "a"}] * count)


async def known(client: httpx.AsyncClient, burst: int | None) -> None:
    """Wait until the gateway knows of the client's own bucket."""
    await until(lambda: client.get(LIMITS), lambda answer: answer.json()["client"]["burst"] == burst, seconds=5)


async def test_a_client_s_own_bucket_bounds_it_and_nobody_else(system: System) -> None:
    tenant = await system.tenant(rate=STILL, burst=100)
    async with system.client(tenant) as client:
        made = (await client.post("/api/v1/clients", json={"name": "second"})).json()
        second = MadeTenant(tenant.tenant_id, made["client_id"], made["client_secret"])
        await own_bucket(system, tenant, STILL, 10)
        await known(client, 10)
        taken = await send(client, 8)
        assert taken.status_code == 202
        assert taken.headers["ratelimit-policy"] == '"events";q=100;w=100000, "client";q=10;w=10000'
        assert taken.headers["ratelimit"] == '"events";r=92;t=8000, "client";r=2;t=8000'
        refused = await send(client, 3)
        assert refused.status_code == 429
        assert refused.headers["ratelimit"].startswith('"events";r=92;t=')
        too_large = await send(client, 11)
        assert (too_large.status_code, too_large.json()["bucket_size"]) == (413, 10)
        async with system.client(second) as other:
            # The refused ones were taken from neither bucket.
            answer = await send(other, 92)
            assert answer.status_code == 202
            assert answer.headers["ratelimit-policy"] == '"events";q=100;w=100000'
            assert (await send(other, 1)).status_code == 429
        assert (await send(client, 2)).status_code == 429  # there is room in its own, but not in the tenant's
        await own_bucket(system, tenant, None, None)
        await known(client, None)
        assert (await send(client, 11)).status_code == 429  # no longer 413


async def test_a_lone_client_that_waits_as_long_as_it_is_told_is_admitted(system: System) -> None:
    async def obey(path: str, size: int, *, is_own: bool) -> None:
        tenant = await system.tenant(rate=1000 if is_own else 6, burst=1000 if is_own else 6)
        event = {"event_type": "a"}
        body = event if path == SINGLE else [event] * size
        async with system.client(tenant) as client:
            if is_own:
                await own_bucket(system, tenant, 6, 6)
                await known(client, 6)
            # Refused by the bucket at first, and then because it is known to be empty, before the body is read.
            for _ in range(2):
                refused = await until(lambda: client.post(path, json=body), lambda found: found.status_code == 429)
                wait = int(refused.headers["retry-after"])
                windows = [int(found) for found in re.findall(r"t=(\d+)", refused.headers["ratelimit"])]
                assert all(window <= wait for window in windows)
                await asyncio.sleep(wait)  # what the client is told to do is what is tested
                assert (await client.post(path, json=body)).status_code == 202

    await asyncio.gather(
        *(obey(path, size, is_own=is_own) for path, size in ((SINGLE, 1), (BATCH, 6)) for is_own in (False, True))
    )


async def test_a_change_of_plan_takes_effect_within_a_second(system: System) -> None:
    tenant = await system.tenant(rate=STILL, burst=5)
    async with system.client(tenant) as client:
        assert (await send(client, 5)).status_code == 202
        assert (await send(client)).status_code == 429
        await on_plan(system, tenant, events_per_second=1000, burst=500)
        changed = time.monotonic()
        await until(lambda: send(client), lambda answer: answer.status_code == 202, seconds=5)
        assert time.monotonic() - changed < 1
        await on_plan(system, tenant, events_per_second=STILL, burst=3)
        changed = time.monotonic()
        await until(lambda: send(client, 4), lambda answer: answer.status_code == 413, seconds=5)
        assert time.monotonic() - changed < 1


async def test_the_bucket_is_as_empty_after_a_restart_of_the_api(endpoints: Endpoints, tmp_path: Path) -> None:
    own = await System.create(endpoints, tmp_path)
    try:
        await own.start("api")
        tenant = await own.tenant(rate=STILL, burst=20)
        async with own.client(tenant) as client:
            assert (await send(client, 15)).status_code == 202
        own.kill("api")
        await own.start("api")
        async with own.client(tenant) as client:
            assert (await send(client, 6)).status_code == 429
            assert (await client.get(LIMITS)).json()["remaining"] == 5
            assert (await send(client, 5)).status_code == 202
    finally:
        own.stop()
