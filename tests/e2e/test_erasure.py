"""A user is erased over HTTP and by command, and events expire: what every reading route then says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from tests.integration.workers.removing import Site
from tests.system import ROOT, MadeTenant, System, until
from workers.usage import hour_of

USER = "a/b c@example.com"
AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@pytest.fixture
async def site(system: System) -> AsyncIterator[Site]:
    async with Site.of(system) as made:
        yield made


async def sent(client: httpx.AsyncClient, user: str, count: int) -> None:
    """So many events of the user, searchable."""
    before = (await client.get("/api/v1/events/search")).json()["total"]
    events = [
        {"event_type": "click" if number % 2 else "view", "user_id": user, "timestamp": AT.isoformat()}
        for number in range(count)
    ]
    assert (await client.post("/api/v1/events/batch", json=events)).status_code == 202

    async def found() -> int:
        return int((await client.get("/api/v1/events/search")).json()["total"])

    await until(found, lambda total: total == before + count)


async def told(client: httpx.AsyncClient, user: str) -> dict[str, Any]:
    """What each reading route says: counts, the days of the trend, types, users, and the user's own events."""

    async def get(path: str, **parameters: str) -> Any:
        answer = await client.get(f"/api/v1/events/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    stats = await get("stats")
    range_ = {"started_at": "2020-01-01", "ended_at": "2100-01-01"}
    return {
        "count": (await get("count"))["count"],
        "trend": sum(point["count"] for point in (await get("trend"))["series"]),
        "total": stats["total"],
        "users": stats["unique_users"],
        "found": (await get("search"))["total"],
        "timeline": len((await get(f"user/{quote(user, safe='')}", **range_))["events"]),
        # Its edges are within a quarter of an hour, so it is counted from the events themselves.
        "of the minute": (
            await get("count", started_at=AT.isoformat(), ended_at=(AT + timedelta(seconds=61)).isoformat())
        )["count"],
    }


@contextlib.asynccontextmanager
async def erasing(site: Site) -> AsyncIterator[None]:
    """The worker's duty, turned while the body runs."""

    async def turn() -> None:
        async with site.erasures() as duty:
            while True:
                await duty.turn()
                await asyncio.sleep(0.05)

    turning = asyncio.create_task(turn())
    try:
        yield
    finally:
        turning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turning


async def test_an_erased_user_is_in_no_answer_any_more_and_what_comes_later_is(system: System, site: Site) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        await sent(client, USER, 6)
        await sent(client, "other", 4)
        assert await told(client, USER) == {
            "count": 10, "trend": 10, "total": 10, "users": 2, "found": 10, "timeline": 6, "of the minute": 10,
        }  # fmt: skip
        answer = await client.delete(f"/api/v1/users/{quote(USER, safe='')}")
        assert answer.status_code == 202, answer.text
        receipt = answer.json()
        assert answer.headers["location"] == f"/api/v1/erasures/{receipt['erasure_id']}"
        assert (receipt["step"], receipt["finished_at"], receipt["deleted"]) == ("requested", None, {})
        again = await client.delete(f"/api/v1/users/{USER}")  # a slash as it is
        assert again.json()["erasure_id"] == receipt["erasure_id"]

        async def look() -> Any:
            return (await client.get(answer.headers["location"])).json()

        async with erasing(site):
            receipt = await until(look, lambda seen: seen["finished_at"] is not None)
        assert (receipt["step"], receipt["deleted"]) == ("done", {"events": 6, "search": 6})
        assert await told(client, USER) == {
            "count": 4, "trend": 4, "total": 4, "users": 1, "found": 4, "timeline": 0, "of the minute": 4,
        }  # fmt: skip
        await sent(client, USER, 1)
        assert (await told(client, USER))["timeline"] == 1
        await client.delete("/api/v1/users/other")
        listed = (await client.get("/api/v1/erasures", params={"limit": 1})).json()
        rest = (await client.get("/api/v1/erasures", params={"limit": 1, "cursor": listed["next_cursor"]})).json()
        assert [each["step"] for each in listed["erasures"] + rest["erasures"]] == ["requested", "done"]
        assert rest["next_cursor"] is None
        usage = (await client.get("/api/v1/usage")).json()
        assert usage["totals"]["stored"] == 11, "what was stored was stored"
        assert USER not in (await client.get("/api/v1/audit")).text


async def test_what_retention_has_removed_stays_counted_by_whole_quarters_and_is_found_no_more(
    system: System, site: Site
) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        await sent(client, USER, 6)
        async with site.retention() as duty:
            while await duty.remove_of(UUID(tenant.tenant_id), hour_of(datetime.now(UTC)) + timedelta(hours=1)):
                pass
        after = await told(client, USER)
        assert after == {
            "count": 6, "trend": 6, "total": 6, "users": 0, "found": 0, "timeline": 0, "of the minute": 0,
        }  # fmt: skip
    assert (await site.verify(UUID(tenant.tenant_id))).agrees


async def erase(system: System, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli.main", "erase", *arguments, cwd=ROOT,
        env=os.environ | system.environment | {"SLUICE_HOME": str(system.folder / "none"), "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_waits_until_the_user_is_gone_and_lists_receipts(system: System, site: Site) -> None:
    tenant: MadeTenant = await system.tenant()
    async with system.client(tenant) as client:
        await sent(client, USER, 3)
    async with erasing(site):
        status, out, err = await erase(system, USER, "--tenant", tenant.tenant_id, "--wait")
    assert (status, err) == (0, "")
    assert f"{USER} is erased: events 3, search 3." in out
    assert "Kafka may hold the records until 20" in out
    status, out, _ = await erase(system, "another", "--tenant", tenant.tenant_id, "--json")
    asked = json.loads(out)
    assert (status, asked["step"]) == (0, "requested")
    status, out, _ = await erase(system, "--list", "--tenant", tenant.tenant_id, "--json")
    assert status == 0
    assert [(each["step"], each["deleted"]) for each in json.loads(out)] == [
        ("requested", {}), ("done", {"events": 3, "search": 3}),
    ]  # fmt: skip
    status, out, _ = await erase(system, "--list", "--tenant", tenant.tenant_id)
    assert asked["erasure_id"] in out
    entries = await system.fetch("select actor_kind from audit_log where subject = $1", asked["erasure_id"])
    assert [row["actor_kind"] for row in entries] == ["operator"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tenant", "{tenant}"], "--list"),
        (["u", "--list", "--tenant", "{tenant}"], "--list"),
        (["u" * 201, "--tenant", "{tenant}"], "200 characters"),
        (["u", "--tenant", "00000000-0000-4000-8000-000000000000"], "no tenant"),
        (["u"], "--tenant"),
    ],
)
async def test_wrong_use_of_the_command_is_one_line_and_status_2(
    system: System, arguments: list[str], said: str
) -> None:
    tenant = await system.tenant()
    status, out, err = await erase(system, *(each.format(tenant=tenant.tenant_id) for each in arguments))
    assert (status, out) == (2, "")
    assert said in err
