"""A tenant is deleted everywhere, whoever is killed meanwhile, and its neighbour keeps everything."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest_asyncio
from redis.asyncio import Redis

from app.settings import MaintainSettings
from search.bulk import bulk_write
from search.client import make_client
from search.execute import refresh
from search.verify import tenant_total
from tests.integration.tenants.managing import administrator_of
from tests.integration.tenants.seeded import DEAD, OF_CLIENT, OF_TENANT
from tests.system import ROOT, MadeTenant, System, until
from workers.tables import KEPT

TENANTS = "/api/v1/admin/tenants"
OF_TENANTS = """
    select format('%I.%I', n.nspname, c.relname) as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where c.relkind in ('r', 'p') and n.nspname in ('public', 'partitions') and c.relname <> all ($1::text[])
"""
ROWS = 30_000
DOCUMENTS = 20_000
OF_EVERY_KIND = {
    f"public.{table}"
    for table in (
        "events", "aggregated_events", "dead_letters", "usage", "monthly_usage", "quota_notices", "oauth_clients",
        "client_secrets", "client_uses", "client_assertions", "token_revocations",
    )
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(system: System) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator's client."""
    async with system.client(await administrator_of(system)) as client:
        yield client


@pytest_asyncio.fixture
async def maintain(system: System) -> AsyncIterator[str]:
    """The name of a running maintain worker, for this test."""
    await system.start("maintain")
    yield "maintain"
    system.kill("maintain")


async def rows_of(system: System, tenant: MadeTenant) -> dict[str, int]:
    """How many rows of the tenant each table and partition holds, but for what is kept."""
    tables = [row["name"] for row in await system.fetch(OF_TENANTS, list(KEPT))]
    assert len(tables) > 20
    counts = " union all ".join(
        f"select '{table}' as name, count(*) as count from {table} where tenant_id = $1"  # noqa: S608
        for table in tables
    )
    return {
        row["name"]: row["count"] for row in await system.fetch(counts, uuid.UUID(tenant.tenant_id)) if row["count"]
    }


async def documents_of(system: System, tenant: MadeTenant) -> int:
    settings = system.settings(MaintainSettings)
    client = make_client(settings.elasticsearch_url.get_secret_value())
    try:
        await refresh(client, settings.index_prefix)
        return await tenant_total(client, settings.index_prefix, uuid.UUID(tenant.tenant_id))
    finally:
        await client.close()


async def keys_of(system: System, tenant: MadeTenant) -> list[bytes]:
    settings = system.settings(MaintainSettings)
    redis = Redis.from_url(settings.redis_url.get_secret_value())
    try:
        return [key async for key in redis.scan_iter(f"{settings.redis_prefix}:*{tenant.tenant_id}*")]
    finally:
        await redis.aclose()


async def receipt(platform: httpx.AsyncClient, tenant: MadeTenant) -> Any:
    answer = await platform.get(f"{TENANTS}/{tenant.tenant_id}/deletion")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def finished(platform: httpx.AsyncClient, tenant: MadeTenant) -> Any:
    return await until(lambda: receipt(platform, tenant), lambda told: told["finished_at"] is not None, seconds=60)


async def used(system: System) -> MadeTenant:
    """A tenant with something in every place."""
    tenant = await system.tenant(rate=1, burst=1000)  # so slow that its bucket is there for a minute
    async with system.client(tenant) as client:
        events = [{"event_type": "click", "user_id": f"u{number}"} for number in range(50)]
        assert (await client.post("/api/v1/events/batch", json=events)).status_code == 202
        assert (await client.post("/api/v1/clients", json={"name": "second"})).status_code == 201

        async def found() -> int:
            return int((await client.get("/api/v1/events/search")).json()["total"])

        await until(found, lambda total: total == 50)
    for statement in (DEAD, *OF_TENANT):
        if not any(table in statement for table in ("usage", *KEPT)):
            await system.fetch(statement, uuid.UUID(tenant.tenant_id))
    for statement in OF_CLIENT:
        await system.fetch(statement.replace("'k'", "'other'"), uuid.UUID(tenant.tenant_id), tenant.client_id)
    return tenant


async def test_a_deleted_tenant_is_gone_from_every_place_and_its_neighbour_keeps_everything(
    system: System, platform: httpx.AsyncClient, maintain: str
) -> None:
    assert maintain in system.processes
    victim, neighbour = await used(system), await used(system)
    before = await rows_of(system, neighbour)
    assert (await rows_of(system, victim)).keys() >= OF_EVERY_KIND
    assert await keys_of(system, victim)
    async with system.client(victim) as client:
        assert (await client.get("/api/v1/events/count")).json()["count"] == 50
        answer = await platform.delete(f"{TENANTS}/{victim.tenant_id}")
        assert (answer.status_code, answer.headers["location"]) == (202, f"{TENANTS}/{victim.tenant_id}/deletion")
        assert (await client.get("/api/v1/events/count")).status_code == 401
        assert (await client.post("/api/v1/events", json={"event_type": "late"})).status_code == 401
    told = await finished(platform, victim)

    assert (told["step"], told["problem"]) == ("done", None)
    assert (told["deleted"]["events"], told["deleted"]["search"]) == (50, 50)
    assert told["deleted"]["oauth_clients"] == told["deleted"]["client_secrets"] == 2
    assert told["total"] == sum(told["deleted"].values())
    days = datetime.fromisoformat(told["kafka_until"]) - datetime.now(UTC)
    assert timedelta(days=7) < days < timedelta(days=9)
    assert await rows_of(system, victim) == {}
    assert await documents_of(system, victim) == 0
    assert await keys_of(system, victim) == []
    shown = (await platform.get(f"{TENANTS}/{victim.tenant_id}")).json()
    assert (shown["name"], shown["status"], shown["clients"]) == ("deleted", "deleted", [])
    (entry,) = (
        await platform.get("/api/v1/admin/audit", params={"tenant_id": victim.tenant_id, "action": "tenant.deleted"})
    ).json()["entries"]
    assert (entry["actor"]["kind"], entry["actor"]["name"]) == ("worker", "maintain")
    assert entry["detail"]["deleted"] == told["deleted"]
    assert sum(month["stored"] for month in entry["detail"]["usage"].values()) == 50

    assert await rows_of(system, neighbour) == before
    assert await documents_of(system, neighbour) == 50
    assert await keys_of(system, neighbour)
    async with system.client(neighbour) as client:
        assert (await client.post("/api/v1/events", json={"event_type": "more"})).status_code == 202


async def large(system: System) -> MadeTenant:
    """A tenant whose rows and documents take many pieces to remove."""
    tenant = await system.tenant()
    tenant_id = uuid.UUID(tenant.tenant_id)
    await system.fetch(
        """
        insert into events (tenant_id, event_id, event_type, client_id, timestamp, received_at, index_slice,
                            source_partition, source_offset, metadata)
        select $1, n::text, 'click', 'c', now(), now(), 202601, 0, 0, '{}' from generate_series(1, $2::int) as n
        """,
        tenant_id,
        ROWS,
    )
    await system.fetch("insert into aggregated_events values ($1, '2026-01-01Z', 'click', 'c', $2)", tenant_id, ROWS)
    settings = system.settings(MaintainSettings)
    client = make_client(settings.elasticsearch_url.get_secret_value(), timeout=60)
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {
            "tenant_id": tenant_id, "event_id": str(number), "event_type": "click", "user_id": None, "client_id": "c",
            "timestamp": now, "received_at": now, "index_slice": 202601, "metadata": "{}",
        }
        for number in range(DOCUMENTS)
    ]  # fmt: skip
    assert (await bulk_write(client, settings.index_prefix, rows)).written == DOCUMENTS
    await client.close()
    return tenant


async def test_a_worker_that_is_killed_again_and_again_ends_in_the_same_state(
    system: System, platform: httpx.AsyncClient
) -> None:
    tenant = await large(system)
    await platform.delete(f"{TENANTS}/{tenant.tenant_id}")
    for place, count in (("events", 1), ("events", ROWS), ("search", 1)):
        await system.start("maintain-mortal")
        told = await until(
            lambda: receipt(platform, tenant),
            lambda told: told["deleted"].get(place, 0) >= count,  # noqa: B023
            seconds=60,
        )
        system.kill("maintain-mortal")
    await system.start("maintain-mortal")
    told = await finished(platform, tenant)
    system.kill("maintain-mortal")
    assert (told["deleted"]["events"], told["deleted"]["aggregated_events"]) == (ROWS, 1)
    assert told["deleted"]["search"] <= DOCUMENTS
    assert await rows_of(system, tenant) == {}
    assert await documents_of(system, tenant) == 0
    entries = await system.fetch(
        "select 1 from audit_log where tenant_id = $1 and action = 'tenant.deleted'", uuid.UUID(tenant.tenant_id)
    )
    assert len(entries) == 1


async def test_the_command_waits_until_all_is_gone_and_prints_what_was_removed(
    system: System, platform: httpx.AsyncClient, maintain: str
) -> None:
    assert maintain in system.processes
    tenant = await used(system)
    environment = os.environ | system.environment | {"SLUICE_HOME": str(system.folder / "none")}
    command = [sys.executable, "-m", "app.cli.main", "tenants", "delete", tenant.tenant_id, "--yes"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "events 50" in done.stdout
    assert "Kafka may hold its records until" in done.stdout
    assert (await receipt(platform, tenant))["finished_at"] is not None
