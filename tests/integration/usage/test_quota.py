"""The monthly quota, end to end: warnings, refusal until the month ends, and a larger plan."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.events.timestamps import parse_rfc3339
from tenants.usage.reading import end_of_month
from tests.integration.usage.plans import on_plan
from tests.system import Say, System, until

SINGLE, BATCH, USAGE, LIMITS = "/api/v1/events", "/api/v1/events/batch", "/api/v1/usage", "/api/v1/limits"


async def send(client: httpx.AsyncClient, count: int = 1) -> httpx.Response:
    return await client.post(BATCH, json=[{"event_type": "a"}] * count)


async def usage(client: httpx.AsyncClient) -> Any:
    return (await client.get(USAGE)).json()


def percents(found: Any) -> list[int]:
    return [warning["percent"] for warning in found["warnings"]]


async def on_quota(system: System, client: httpx.AsyncClient, tenant: Any, quota: int, at_quota: str) -> str:
    """Put the tenant on such a plan, and wait until the gateway knows."""
    plan_id = await on_plan(system, tenant, monthly_quota=quota, at_quota=at_quota)
    await until(lambda: client.get(LIMITS), lambda answer: answer.json()["plan"] == plan_id, seconds=5)
    return plan_id


async def test_events_beyond_a_quota_that_refuses_are_refused_until_the_month_ends_and_reads_go_on(
    system: System, say: Say
) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        plan_id = await on_quota(system, client, tenant, 50, "refuse")
        assert (await send(client, 40)).status_code == 202
        found = await until(lambda: usage(client), lambda seen: bool(percents(seen)))
        assert percents(found) == [80]
        assert found["quota"] | {"resets_at": ""} == {
            "limit": 50, "used": 40, "percent": 80.0, "at_quota": "refuse", "resets_at": "",
        }  # fmt: skip
        assert (await send(client, 10)).status_code == 202
        refused = await until(lambda: send(client), lambda answer: answer.status_code == 429)
        now = datetime.now(UTC)
        assert refused.json()["type"] == "urn:sluice:problem:quota-exceeded"
        assert refused.json()["quota"] == 50
        assert parse_rfc3339(refused.json()["resets_at"]) == end_of_month(now)
        left = (end_of_month(now) - now).total_seconds()
        assert left - 1 <= int(refused.headers["retry-after"]) <= left + 5
        assert refused.headers["ratelimit"] == f'"month";r=0;t={refused.headers["retry-after"]}'
        assert '"month";q=50;w=' in refused.headers["ratelimit-policy"]
        assert (await client.post(SINGLE, json={"event_type": "a"})).status_code == 429
        assert (await client.get("/api/v1/events/count")).status_code == 200
        assert (await client.get(LIMITS)).json()["refused_until"] == refused.json()["resets_at"]
        found = await until(lambda: usage(client), lambda seen: seen["totals"]["throttled"] >= 2)
        assert percents(found) == [80, 100]
        # What was taken between the batch that reached it and the gateway's learning of that.
        say(f"quota 50: {found['quota']['used'] - 50} events beyond it")

        await system.fetch("update plans set monthly_quota = 5000 where plan_id = $1", plan_id)
        raised = time.monotonic()
        await until(lambda: send(client), lambda answer: answer.status_code == 202, seconds=5)
        assert time.monotonic() - raised < 1


async def test_a_quota_that_only_warns_never_refuses(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        await on_quota(system, client, tenant, 20, "warn")
        for _ in range(6):
            assert (await send(client, 10)).status_code == 202
        found = await until(lambda: usage(client), lambda seen: seen["quota"]["used"] == 60)
        assert percents(found) == [80, 100]
        assert found["quota"]["percent"] == 300
        assert (await send(client)).status_code == 202


@pytest.mark.parametrize("at_quota", ["refuse", "warn"])
async def test_a_plan_below_what_is_stored_already_refuses_at_once_or_warns_with_the_next_event(
    system: System, at_quota: str
) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        assert (await send(client, 30)).status_code == 202
        await until(lambda: usage(client), lambda seen: seen["quota"]["used"] == 30)
        await on_quota(system, client, tenant, 10, at_quota)
        answer = await send(client)
        if at_quota == "refuse":
            assert answer.status_code == 429
        else:
            assert answer.status_code == 202
            assert percents(await until(lambda: usage(client), lambda seen: bool(percents(seen)))) == [80, 100]


async def test_no_quota_says_so(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        await on_plan(system, tenant)
        await until(lambda: client.get(LIMITS), lambda answer: answer.json()["monthly_quota"] is None, seconds=5)
        quota = (await usage(client))["quota"]
        assert (quota["limit"], quota["percent"], quota["used"]) == (None, None, 0)
