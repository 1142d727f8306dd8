"""What every start of the stack makes sure of."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import text

from app.database import create_engine
from auth.clients import find_client
from auth.credentials import key_bytes
from auth.keys import KeyRing
from tenants.audit import Action, Actor, record
from tenants.bootstrap import ensure_platform
from tenants.platform import PLATFORM_TENANT_ID
from tenants.records import show
from tests.system import until

if TYPE_CHECKING:
    from tests.integration.conftest import Database

WAITING = """
    select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""
COUNTS = """
    select (select count(*) from signing_keys) as keys, (select count(*) from tenants) as tenants,
           (select count(*) from oauth_clients) as clients
"""


async def counts(database: Database) -> tuple[int, int, int]:
    connection = await asyncpg.connect(database.admin_url)
    try:
        return tuple(await connection.fetchrow(COUNTS))  # type: ignore[arg-type]
    finally:
        await connection.close()


async def execute(database: Database, sql: str, *values: Any) -> None:
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute(sql, *values)
    finally:
        await connection.close()


async def test_the_first_start_makes_a_key_an_administrator_and_a_demo_tenant(empty: Database) -> None:
    settings = empty.settings()
    made = await ensure_platform(settings, None)
    assert made.keys() == {"admin", "demo"}
    assert made["admin"].keys() == {"client_id", "client_secret"}
    assert made["demo"].keys() == {"tenant_id", "client_id", "client_secret"}
    assert await counts(empty) == (1, 2, 2)
    engine = create_engine(empty.auth_url, pool_size=1)
    await KeyRing.load(engine, settings)
    async with engine.connect() as connection:
        admin = await find_client(connection, made["admin"]["client_id"])
        demo = await find_client(connection, made["demo"]["client_id"])
    (tenant, _) = await show(engine, demo.tenant_id)  # type: ignore[union-attr]
    await engine.dispose()
    assert admin is not None
    assert demo is not None
    assert (admin.tenant_id, admin.scopes) == (PLATFORM_TENANT_ID, ("platform:admin",))
    assert str(demo.tenant_id) == made["demo"]["tenant_id"]
    assert demo.scopes == ("events:write", "events:read", "tenant:admin")
    assert demo.matching_secret(key_bytes(settings.secret_hash_key), made["demo"]["client_secret"])
    assert (tenant.name, tenant.plan) == ("demo", "enterprise")


async def test_a_later_start_changes_nothing_and_returns_the_same(empty: Database) -> None:
    settings = empty.settings()
    made = await ensure_platform(settings, None)
    before = await counts(empty)
    assert await ensure_platform(settings, made) == made
    assert await counts(empty) == before


@pytest.mark.parametrize("previous", [None, {}, {"admin": None, "demo": "x"}, {"admin": {"client_id": 1}, "demo": {}}])
async def test_when_the_secrets_are_lost_new_ones_are_made_for_the_same_tenants(
    empty: Database, previous: dict[str, Any] | None
) -> None:
    settings = empty.settings()
    made = await ensure_platform(settings, None)
    again = await ensure_platform(settings, previous)
    assert again["demo"]["tenant_id"] == made["demo"]["tenant_id"]
    assert again["admin"]["client_id"] != made["admin"]["client_id"]
    assert await counts(empty) == (1, 2, 4)
    assert await ensure_platform(settings, again) == again


async def test_credentials_that_no_longer_work_are_replaced_and_the_others_kept(empty: Database) -> None:
    settings = empty.settings()
    made = await ensure_platform(settings, None)
    client_id = made["admin"]["client_id"]
    await execute(empty, "update oauth_clients set revoked_at = now() where client_id = $1", client_id)
    again = await ensure_platform(settings, made)
    assert again["admin"] != made["admin"]
    assert again["demo"] == made["demo"]


async def test_the_demo_clients_credentials_are_not_taken_for_an_administrators(empty: Database) -> None:
    settings = empty.settings()
    made = await ensure_platform(settings, None)
    again = await ensure_platform(settings, {"admin": made["demo"], "demo": made["demo"]})
    assert again["admin"]["client_id"] not in {made["demo"]["client_id"], made["admin"]["client_id"]}


async def test_with_new_keys_in_the_settings_all_is_made_anew_and_works(empty: Database) -> None:
    made = await ensure_platform(empty.settings(), None)
    settings = empty.settings()
    again = await ensure_platform(settings, made)
    assert again["admin"] != made["admin"]
    assert await ensure_platform(settings, again) == again


async def test_starts_at_the_same_time_make_one_key_and_one_tenant_each(empty: Database) -> None:
    settings = empty.settings()
    made = await asyncio.gather(*(ensure_platform(settings, None) for _ in range(5)))
    assert len({entry["demo"]["tenant_id"] for entry in made}) == 1
    keys, tenants, _ = await counts(empty)
    assert (keys, tenants) == (1, 2)


@pytest.mark.parametrize("status", ["deleting", "deleted"])
async def test_a_demo_tenant_that_was_deleted_stays_so_and_another_takes_its_place(
    empty: Database, status: str
) -> None:
    settings = empty.settings()
    made = await ensure_platform(settings, None)
    await execute(empty, "update tenants set status = $1 where name = 'demo'", status)
    again = await ensure_platform(settings, made)
    assert again["demo"]["tenant_id"] != made["demo"]["tenant_id"]
    assert again["admin"] == made["admin"]
    assert await ensure_platform(settings, again) == again


async def test_a_start_and_a_change_of_a_plan_at_the_same_time_do_not_lock_each_other_out(empty: Database) -> None:
    settings = empty.settings()
    await ensure_platform(settings, None)
    engine = create_engine(empty.auth_url, pool_size=1)
    admin = await asyncpg.connect(empty.admin_url)

    async def waiting() -> Any:
        return await admin.fetchval(WAITING)

    async with engine.begin() as connection:
        await connection.execute(text("update plans set burst = burst + 1 where plan_id = 'free'"))
        starting = asyncio.create_task(ensure_platform(settings, None))
        await until(waiting, lambda count: count == 1)
        # As `set_plan` goes on; the entry refers to the platform's tenant.
        await record(connection, PLATFORM_TENANT_ID, Actor("operator", "ops"), Action("plan.set", "free"))
    assert (await starting)["admin"]["client_id"]
    await admin.close()
    await engine.dispose()


async def test_what_it_makes_is_in_the_audit_log(empty: Database) -> None:
    made = await ensure_platform(empty.settings(), None)
    connection = await asyncpg.connect(empty.admin_url)
    rows = await connection.fetch("select tenant_id, actor_kind, action, subject from audit_log order by at")
    await connection.close()
    demo = made["demo"]
    assert {tuple(row) for row in rows} == {
        (PLATFORM_TENANT_ID, "operator", "client.created", made["admin"]["client_id"]),
        (uuid.UUID(demo["tenant_id"]), "operator", "tenant.created", demo["tenant_id"]),
        (uuid.UUID(demo["tenant_id"]), "operator", "client.created", demo["client_id"]),
    }
