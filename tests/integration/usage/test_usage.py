"""`GET /api/v1/usage` and `/limits` over HTTP: what was counted, for whom, and what may be sent now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.events.timestamps import format_utc
from tenants.usage.reading import end_of_month, this_month
from tests.integration.usage.plans import on_plan, own_bucket
from tests.system import System, until
from workers.usage import BYTES

SINGLE, BATCH, USAGE, LIMITS = "/api/v1/events", "/api/v1/events/batch", "/api/v1/usage", "/api/v1/limits"


async def usage(client: httpx.AsyncClient, **parameters: str) -> Any:
    answer = await client.get(USAGE, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stored(client: httpx.AsyncClient, count: int) -> Any:
    return await until(lambda: usage(client), lambda found: found["totals"]["stored"] == count)


async def test_usage_is_what_was_stored_sent_again_and_refused_by_client_and_hour(system: System) -> None:
    tenant = await system.tenant()
    before = datetime.now(UTC)
    async with system.client(tenant) as client:
        batch = [{"event_type": "é", "event_id": f"{n}", "user_id": "u", "metadata": {"n": n}} for n in range(5)]
        assert (await client.post(BATCH, json=[*batch, {"event_type": ""}])).status_code == 202
        assert (await client.post(BATCH, json=batch[:2])).status_code == 202
        assert (await client.post(SINGLE, json={"event_type": 5})).status_code == 422
        assert (await client.post(BATCH, content=b"[", headers={"Content-Type": "application/json"})).status_code == 400
        expected = {"stored": 5, "duplicates": 2, "rejected": 3, "throttled": 0}

        def complete(found: Any) -> bool:
            return {name: found["totals"][name] for name in expected} == expected

        found = await until(lambda: usage(client, interval="hour"), complete)
    size = await system.fetch(f"select sum({BYTES})::bigint from events where tenant_id = $1", tenant.tenant_id)  # noqa: S608
    assert found["totals"]["bytes"] == size[0][0] > 0
    month = this_month(before)
    assert (found["started_at"], found["ended_at"]) == (format_utc(month.started_at), format_utc(month.ended_at))
    assert {point["client_id"] for point in found["series"]} == {tenant.client_id}
    hours = {format_utc(moment.replace(minute=0, second=0, microsecond=0)) for moment in (before, datetime.now(UTC))}
    assert {point["bucket"] for point in found["series"]} <= hours
    for name, total in found["totals"].items():
        assert sum(point[name] for point in found["series"]) == total


async def test_usage_is_cut_by_time_interval_and_client(system: System) -> None:
    tenant = await system.tenant()
    moments = [datetime(2026, 3, day, hour, tzinfo=UTC) for day in (30, 31) for hour in (0, 23)]
    moments.append(datetime(2026, 4, 1, tzinfo=UTC))
    for moment in moments:
        for client_id, count in (("a", 1), ("b", 10)):
            await system.fetch(
                "insert into usage (tenant_id, hour, client_id, stored) values ($1, $2, $3, $4)",
                tenant.tenant_id, moment, client_id, count,
            )  # fmt: skip
    async with system.client(tenant) as client:
        wide = {"started_at": "2026-03-01", "ended_at": "2026-05-01"}
        for interval, buckets in (("hour", 5), ("day", 3), ("month", 2)):
            found = await usage(client, interval=interval, **wide)
            assert found["totals"]["stored"] == 55
            assert len(found["series"]) == 2 * buckets
            assert [(point["bucket"], point["client_id"]) for point in found["series"]] == sorted(
                (point["bucket"], point["client_id"]) for point in found["series"]
            )
        (march, april) = (await usage(client, interval="month", client_id="b", **wide))["series"]
        assert (march["bucket"], march["stored"]) == ("2026-03-01T00:00:00Z", 40)
        assert (april["bucket"], april["stored"]) == ("2026-04-01T00:00:00Z", 10)
        part = await usage(client, startedAt="2026-03-30T23:00:00Z", endedAt="2026-04-01", clientId="a")
        assert part["totals"]["stored"] == 3
        assert (await usage(client))["totals"]["stored"] == 0  # this month


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"interval": "week"}, "/query/interval"),
        ({"started_at": "yesterday"}, "/query/started_at"),
        ({"started_at": "2026-02-01", "ended_at": "2026-01-01"}, "/query/ended_at"),
        ({"started_at": "2026-02-01", "startedAt": "2026-02-01"}, "/query/startedAt"),
        ({"tenant_id": "x"}, "/query/tenant_id"),
        ({"client_id": ""}, "/query/client_id"),
    ],
)
async def test_a_wrong_parameter_is_named(system: System, parameters: dict[str, str], pointer: str) -> None:
    async with system.client(await system.tenant()) as client:
        answer = await client.get(USAGE, params=parameters)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("path", [USAGE, LIMITS])
async def test_usage_and_limits_want_a_token_with_their_scope(system: System, path: str) -> None:
    async with system.client() as nobody:
        assert (await nobody.get(path)).status_code == 401
    async with system.client(await system.tenant(), scope="events:read events:write") as reader:
        answer = await reader.get(path)
        assert answer.status_code == 403
        assert 'scope="tenant:admin"' in answer.headers["www-authenticate"]


async def test_no_tenant_sees_another_s_usage(system: System) -> None:
    busy, quiet = await system.tenant(), await system.tenant()
    async with system.client(busy) as client:
        assert (await client.post(SINGLE, json={"event_type": "a"})).status_code == 202
        await stored(client, 1)
    async with system.client(quiet) as client:
        for parameters in ({}, {"client_id": busy.client_id}):
            found = await usage(client, **parameters)
            assert (found["totals"]["stored"], found["series"], found["quota"]["used"]) == (0, [], 0)


async def test_limits_are_the_effective_ones_and_a_change_of_plan_shows_within_a_second(system: System) -> None:
    tenant = await system.tenant()
    await on_plan(system, tenant, events_per_second=0.001, burst=100, max_event_bytes=2000, monthly_quota=7)
    await own_bucket(system, tenant, 0.001, 10)

    async def limits(client: httpx.AsyncClient) -> Any:
        answer = await client.get(LIMITS)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async with system.client(tenant) as client:
        found = await until(lambda: limits(client), lambda seen: (seen["burst"], seen["client"]["burst"]) == (100, 10))
        assert found["client"] == {
            "client_id": tenant.client_id, "events_per_second": 0.001, "burst": 10, "remaining": 10, "networks": [],
        }  # fmt: skip
        assert (found["max_event_bytes"], found["monthly_quota"], found["at_quota"]) == (2000, 7, "warn")
        assert found["retention_days"] is None
        assert found["refused_until"] is None
        sent = await client.post(BATCH, json=[{"event_type": "a"}] * 4)
        assert sent.status_code == 202
        found = await limits(client)
        assert (found["remaining"], found["client"]["remaining"]) == (96, 6)
        changed = datetime.now(UTC)
        plan_id = await on_plan(system, tenant, events_per_second=0.001, burst=50)
        await until(lambda: limits(client), lambda seen: (seen["plan"], seen["remaining"]) == (plan_id, 50), seconds=5)
        assert datetime.now(UTC) - changed < timedelta(seconds=1)


async def test_the_month_ends_where_the_next_begins() -> None:
    assert end_of_month(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    leap = this_month(datetime(2028, 2, 29, tzinfo=UTC))
    assert (leap.started_at, leap.ended_at) == (datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC))
