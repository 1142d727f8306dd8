"""Asking for a tenant's deletion: the cut, and what the audit entry keeps for the last bill."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest

from app.errors import NotFoundError
from tenants.audit import Actor
from tenants.deletion import Deletion, read_deletion, request_deletion
from tenants.lifecycle import create_tenant
from tests.system import until

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database

WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def asked(engine: AsyncEngine, tenant_id: uuid.UUID) -> Deletion:
    async with engine.begin() as connection:
        return await request_deletion(connection, tenant_id, Actor("operator", "ops"))


async def test_a_request_waits_for_what_the_store_worker_is_writing(
    database: Database, auth_engine: AsyncEngine, settings: GatewaySettings, admin: asyncpg.Connection
) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "free")
    store = await asyncpg.connect(database.worker_url)
    storing = store.transaction()
    await storing.start()
    await store.execute("select set_config('app.tenant_ids', $1, true)", f"{{{created.tenant_id}}}")
    lock = "select status from tenants where tenant_id = $1 for key share"
    assert await store.fetchval(lock, created.tenant_id) == "active"
    request = asyncio.create_task(asked(auth_engine, created.tenant_id))
    await until(lambda: admin.fetchval(WAITING), lambda count: count == 1)
    assert not request.done()
    await store.execute("insert into monthly_usage values ($1, '2026-05-01', 7)", created.tenant_id)
    await storing.commit()
    assert (await request).step == "requested"
    async with store.transaction():
        await store.execute("select set_config('app.tenant_ids', $1, true)", f"{{{created.tenant_id}}}")
        assert await store.fetchval(lock, created.tenant_id) == "deleting"
    await store.close()


async def test_the_entry_keeps_what_was_used_by_month_and_who_asked(
    auth_engine: AsyncEngine, settings: GatewaySettings, admin: asyncpg.Connection
) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "free")
    for hour, stored in (("2026-04-30T23:00Z", 3), ("2026-05-01T00:00Z", 4), ("2026-05-02T00:00Z", 5)):
        await admin.execute(
            f"insert into usage (tenant_id, hour, client_id, stored, bytes) values ($1, '{hour}', 'c', $2, 10)",  # noqa: S608
            created.tenant_id, stored,
        )  # fmt: skip
    first = await asked(auth_engine, created.tenant_id)
    assert await asked(auth_engine, created.tenant_id) == first
    rows = await admin.fetch(
        "select actor, detail from audit_log where tenant_id = $1 and action = 'tenant.deletion_requested'",
        created.tenant_id,
    )
    ((actor, detail),) = rows
    told = json.loads(detail)
    assert (actor, told["name"], told["plan"], told["was"]) == ("ops", "acme", "free", "active")
    assert {month: used["stored"] for month, used in told["usage"].items()} == {"2026-04": 3, "2026-05": 9}
    assert told["usage"]["2026-05"]["bytes"] == 20


async def test_without_a_request_there_is_no_receipt(auth_engine: AsyncEngine, settings: GatewaySettings) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "free")
    async with auth_engine.connect() as connection:
        with pytest.raises(NotFoundError):
            await read_deletion(connection, created.tenant_id)
