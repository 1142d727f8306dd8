"""`/api/v1/admin/…` as an administrator uses it, on a running system."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from app.database import create_engine
from app.settings import OperatorSettings
from tenants.directory import Directory
from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.tenants.managing import administrator_of, pointers
from tests.system import MadeTenant, System, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TENANTS = "/api/v1/admin/tenants"
PLANS = "/api/v1/admin/plans"
NOBODY = "7f000000-0000-4000-8000-000000000001"
STARTER = {
    "events_per_second": 5.0,
    "burst": 50,
    "max_event_bytes": 2048,
    "shards": 2,
    "retention_days": 7,
    "monthly_quota": 1000,
    "at_quota": "refuse",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(system: System) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator's client."""
    async with system.client(await administrator_of(system)) as client:
        yield client


async def made(platform: httpx.AsyncClient, **members: Any) -> Any:
    answer = await platform.post(TENANTS, json={"name": "acme", **members})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{TENANTS}/{answer.json()['tenant_id']}"
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


async def actions(platform: httpx.AsyncClient, tenant_id: str) -> list[str]:
    """What the log says was done to the tenant, the newest first."""
    answer = await platform.get("/api/v1/admin/audit", params={"tenant_id": tenant_id})
    assert answer.status_code == 200, answer.text
    return [entry["action"] for entry in answer.json()["entries"]]


def fresh_plan() -> str:
    return f"starter-{uuid.uuid4().hex[:12]}"


async def test_a_tenant_is_made_with_a_client_that_works_and_is_shown_without_its_secret(
    system: System, platform: httpx.AsyncClient
) -> None:
    told = await made(platform, plan="free", eventsPerSecond=2.5)
    assert (told["events_per_second"], told["burst"], told["plan"]) == (2.5, 1000, "free")
    assert told["overrides"] == {"events_per_second": 2.5, "burst": None}
    tenant = MadeTenant(told["tenant_id"], told["client_id"], told["client_secret"])
    async with system.client(tenant) as client:
        assert (await client.post("/api/v1/events", json={"event_type": "first"})).status_code == 202
    shown = await platform.get(f"{TENANTS}/{tenant.tenant_id}")
    assert told["client_secret"] not in shown.text
    assert [client["client_id"] for client in shown.json()["clients"]] == [tenant.client_id]
    assert (shown.json()["monthly_quota"], shown.json()["at_quota"]) == (1_000_000, "refuse")

    async def stored() -> int:
        return int((await platform.get(f"{TENANTS}/{tenant.tenant_id}")).json()["stored_this_month"])

    await until(stored, lambda count: count == 1)
    usage = await platform.get(f"{TENANTS}/{tenant.tenant_id}/usage")
    assert (usage.status_code, usage.json()["totals"]["stored"]) == (200, 1)
    assert await actions(platform, tenant.tenant_id) == ["client.created", "tenant.created"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"/name"}),
        ({"name": " "}, {"/name"}),
        ({"name": "a\nb", "plan": "gold"}, {"/name", "/plan"}),
        ({"name": "a", "events_per_second": 0, "burst": 0}, {"/events_per_second", "/burst"}),
        ({"name": "a", "eventsPerSecond": "5"}, {"/eventsPerSecond"}),
        ({"name": "a", "burst": 2**31}, {"/burst"}),
        ({"name": "a", "burst": True}, {"/burst"}),
        ({"name": "a", "events_per_second": 5, "eventsPerSecond": 5}, {"/events_per_second"}),
        ({"name": "a", "tenant_id": NOBODY}, {"/tenant_id"}),
        ({"name": "a", "plan": "a\0b"}, {"/plan"}),
        ([], {""}),
    ],
)
async def test_what_can_not_be_is_refused_with_its_place(
    platform: httpx.AsyncClient, body: Any, expected: set[str]
) -> None:
    assert pointers(await platform.post(TENANTS, json=body)) == expected


async def test_tenants_are_listed_by_age_in_pages_that_visit_each_once(platform: httpx.AsyncClient) -> None:
    mine = [(await made(platform))["tenant_id"] for _ in range(3)]
    seen: list[str] = []
    cursor = None
    while True:
        page = (await platform.get(TENANTS, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [tenant["tenant_id"] for tenant in page["tenants"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["tenants"]) == 2
    assert len(seen) == len(set(seen))
    assert [tenant_id for tenant_id in seen if tenant_id in mine] == mine
    assert str(PLATFORM_TENANT_ID) not in seen
    first = (await platform.get(TENANTS, params={"limit": 1})).json()["next_cursor"]
    assert pointers(await platform.get(TENANTS, params={"cursor": first, "status": "active"})) == {"/query/cursor"}
    assert pointers(await platform.get(TENANTS, params={"status": "gone", "page": 2})) == {
        "/query/status",
        "/query/page",
    }


async def test_a_suspended_tenant_is_refused_and_what_it_has_sent_is_still_stored(
    system: System, platform: httpx.AsyncClient
) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        system.kill("store")
        events = [{"event_type": "before"}] * 20
        assert (await client.post("/api/v1/events/batch", json=events)).status_code == 202
        answer = await platform.post(f"{TENANTS}/{tenant.tenant_id}/suspend")
        assert (answer.status_code, answer.json()["status"]) == (200, "suspended")
        assert (await client.post("/api/v1/events", json={"event_type": "after"})).status_code == 401
        assert (await client.get("/api/v1/events/count")).status_code == 401
        assert (await platform.post(f"{TENANTS}/{tenant.tenant_id}/suspend")).status_code == 200
        await system.start("store")
        await until(lambda: system.counted(tenant), lambda count: count == 20)
        listed = (await platform.get(TENANTS, params={"status": "suspended", "limit": 1000})).json()["tenants"]
        assert tenant.tenant_id in {entry["tenant_id"] for entry in listed}
        assert (await platform.post(f"{TENANTS}/{tenant.tenant_id}/resume")).json()["status"] == "active"
        assert (await client.get("/api/v1/events/count")).json()["count"] == 20
    assert await actions(platform, tenant.tenant_id) == [
        "tenant.resumed", "tenant.suspended", "client.created", "tenant.created",
    ]  # fmt: skip


@asynccontextmanager
async def watching(system: System) -> AsyncIterator[Directory]:
    """What a gateway of its own would know."""
    engine = create_engine(system.settings(OperatorSettings).postgres_auth_url.get_secret_value(), pool_size=2)
    directory = await Directory.load(engine)
    polling = asyncio.create_task(directory.run())
    yield directory
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    await engine.dispose()


async def test_a_change_of_plan_holds_within_a_second_in_every_gateway(
    system: System, platform: httpx.AsyncClient
) -> None:
    tenant_id = (await made(platform, plan="standard", burst=7))["tenant_id"]
    plan = fresh_plan()
    assert (await platform.put(f"{PLANS}/{plan}", json=STARTER)).status_code == 201
    async with watching(system) as one, watching(system) as other:
        changes = [
            (f"{TENANTS}/{tenant_id}/plan", {"plan": plan}, (5.0, 50)),
            (f"{TENANTS}/{tenant_id}/plan", {"plan": plan, "burst": 9}, (5.0, 9)),
            (f"{PLANS}/{plan}", STARTER | {"events_per_second": 6}, (6.0, 9)),
        ]
        for path, body, expected in changes:
            assert (await platform.put(path, json=body)).status_code == 200
            done = time.monotonic()
            for directory in (one, other):

                async def known(directory: Directory = directory) -> Any:
                    limits = directory.limits(uuid.UUID(tenant_id))
                    return limits and (limits.events_per_second, limits.burst)

                await until(known, lambda limits: limits == expected, seconds=5)  # noqa: B023
            assert time.monotonic() - done < 1.0
    shown = (await platform.get(f"{TENANTS}/{tenant_id}")).json()
    assert shown["overrides"] == {"events_per_second": None, "burst": 9}
    assert (await actions(platform, tenant_id))[:2] == ["tenant.plan_changed"] * 2


async def test_an_unknown_tenant_is_not_found_whatever_is_asked(platform: httpx.AsyncClient) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "/plan", {"plan": "free"}),
        ("POST", "/suspend", None),
        ("POST", "/resume", None),
        ("DELETE", "", None),
        ("GET", "/deletion", None),
        ("GET", "/usage", None),
    ):
        answer = await platform.request(method, f"{TENANTS}/{NOBODY}{path}", json=body)
        assert answer.status_code == 404, path
    assert pointers(await platform.get(f"{TENANTS}/acme")) == {"/path/tenant_id"}


async def test_the_platforms_own_tenant_can_not_be_changed(platform: httpx.AsyncClient) -> None:
    for method, path, body in (
        ("PUT", "/plan", {"plan": "free"}),
        ("POST", "/suspend", None),
        ("POST", "/resume", None),
        ("DELETE", "", None),
    ):
        answer = await platform.request(method, f"{TENANTS}/{PLATFORM_TENANT_ID}{path}", json=body)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:sluice:problem:conflict"), path


async def test_a_tenant_that_is_being_deleted_can_not_be_changed_or_resumed(
    system: System, platform: httpx.AsyncClient
) -> None:
    assert not any(name.startswith("maintain") for name in system.processes)
    tenant_id = (await made(platform))["tenant_id"]
    first = await platform.delete(f"{TENANTS}/{tenant_id}")
    assert (first.status_code, first.json()["step"]) == (202, "requested")
    assert (await platform.delete(f"{TENANTS}/{tenant_id}")).json() == first.json()
    assert (await platform.get(f"{TENANTS}/{tenant_id}/deletion")).json() == first.json()
    for method, path, body in (
        ("PUT", "/plan", {"plan": "free"}),
        ("POST", "/suspend", None),
        ("POST", "/resume", None),
    ):
        answer = await platform.request(method, f"{TENANTS}/{tenant_id}{path}", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (409, "The tenant is being deleted."), path
    assert (await actions(platform, tenant_id)).count("tenant.deletion_requested") == 1


async def test_plans_are_made_changed_and_deleted_but_not_while_a_tenant_has_them(platform: httpx.AsyncClient) -> None:
    plan = fresh_plan()
    first = await platform.put(f"{PLANS}/{plan}", json=STARTER)
    assert (first.status_code, first.json()) == (201, {"plan_id": plan, **STARTER})
    second = await platform.put(f"{PLANS}/{plan}", json={"events_per_second": 1, "burst": 1})
    assert second.status_code == 200
    assert second.json() == {
        "plan_id": plan, "events_per_second": 1, "burst": 1, "max_event_bytes": 65536, "shards": 1,
        "retention_days": None, "monthly_quota": None, "at_quota": "warn",
    }  # fmt: skip
    assert second.json() in (await platform.get(PLANS)).json()["plans"]
    tenant_id = (await made(platform, plan=plan))["tenant_id"]
    assert (await platform.delete(f"{PLANS}/{plan}")).status_code == 409
    assert (await platform.put(f"{TENANTS}/{tenant_id}/plan", json={"plan": "free"})).status_code == 200
    assert (await platform.delete(f"{PLANS}/{plan}")).status_code == 204
    assert (await platform.delete(f"{PLANS}/{plan}")).status_code == 404
    assert (await platform.delete(f"{PLANS}/free")).status_code == 409
    logged = (
        await platform.get("/api/v1/admin/audit", params={"tenant_id": str(PLATFORM_TENANT_ID), "limit": 1000})
    ).json()["entries"]
    mine = [(entry["action"], entry["actor"]["kind"]) for entry in logged if entry["subject"] == plan]
    assert mine == [("plan.deleted", "platform"), ("plan.set", "platform"), ("plan.set", "platform")]


@pytest.mark.parametrize(
    ("plan", "change", "expected"),
    [
        ("UPPER", {}, {"/plan_id"}),
        ("starter", {"events_per_second": 2e9}, {"/events_per_second"}),
        ("starter", {"burst": 0, "shards": 65}, {"/burst", "/shards"}),
        ("starter", {"max_event_bytes": 1023}, {"/max_event_bytes"}),
        (
            "starter",
            {"retention_days": 0, "monthlyQuota": 2**63},
            {"/retention_days", "/monthlyQuota", "/monthly_quota"},
        ),
        ("starter", {"retention_days": 6}, {"/retention_days"}),
        ("starter", {"retention_days": 36501}, {"/retention_days"}),
        ("starter", {"at_quota": "stop"}, {"/at_quota"}),
    ],
)
async def test_a_plan_that_can_not_be_is_refused_with_its_place(
    platform: httpx.AsyncClient, plan: str, change: dict[str, Any], expected: set[str]
) -> None:
    assert pointers(await platform.put(f"{PLANS}/{plan}", json=STARTER | change)) <= expected


async def test_the_audit_of_all_tenants_is_read_in_pages_newest_first(platform: httpx.AsyncClient) -> None:
    tenant_id = (await made(platform))["tenant_id"]
    for action in ("suspend", "resume", "suspend"):
        await platform.post(f"{TENANTS}/{tenant_id}/{action}")
    asked = {"tenant_id": tenant_id, "limit": 2}
    first = (await platform.get("/api/v1/admin/audit", params=asked)).json()
    second = (await platform.get("/api/v1/admin/audit", params=asked | {"cursor": first["next_cursor"]})).json()
    entries = first["entries"] + second["entries"]
    assert [e["action"] for e in entries] == [
        "tenant.suspended",
        "tenant.resumed",
        "tenant.suspended",
        "client.created",
    ]
    assert all(e["actor"]["kind"] == "platform" and e["actor"]["address"] == "127.0.0.1" for e in entries)
    only = (await platform.get("/api/v1/admin/audit", params={"action": "tenant.resumed", "limit": 1})).json()
    assert [entry["tenant_id"] for entry in only["entries"]] == [tenant_id]
    assert pointers(await platform.get("/api/v1/admin/audit", params={"tenantId": "acme"})) == {"/query/tenantId"}


async def test_a_tenants_token_may_do_none_of_it(system: System) -> None:
    async with system.client() as nobody, system.client(await system.tenant()) as client:
        for method, path in (("GET", TENANTS), ("POST", TENANTS), ("GET", PLANS), ("GET", "/api/v1/admin/audit")):
            assert (await nobody.request(method, path)).status_code == 401
            refused = await client.request(method, path)
            assert (refused.status_code, refused.json()["detail"]) == (403, "The token lacks the scope platform:admin.")
