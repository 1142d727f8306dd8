"""Straight SQL as each runtime role, with no tenant, a blank one, a garbage one: nothing of anyone is to be seen."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from migrations.roles import OWNER, RUNTIME_ROLES
from tenants.lifecycle import CreatedTenant, create_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database

# The tables that are sluice_auth's task: it finds clients before it knows their tenant.
OPEN = {("sluice_auth", "tenants"), ("sluice_auth", "oauth_clients")}
SETTINGS = ("app.tenant_id", "app.tenant_ids")
GARBAGE = ("", " ", "garbage", "{}", "{garbage}", "*", "null", "' or true --", "00000000-0000-0000-0000-00000000000g")

SEED = """
    insert into events (tenant_id, event_id, event_type, user_id, client_id, timestamp, received_at, index_slice,
                        source_partition, source_offset, metadata)
    values ($1, $2, 'click', 'u', 'c', now(), now(), 202601, 0, 0, '{}')
"""
AGGREGATE = "insert into aggregated_events values ($1, date_trunc('hour', now()), 'click', 'c', 1)"
DEAD = """
    insert into dead_letters (tenant_id, reason, detail, topic, source_partition, source_offset, record_index, payload)
    values ($1, 'r', 'd', 't', 0, 0, 0, 'x')
"""


@pytest.fixture(scope="module")
async def admin(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def tenants(
    admin: asyncpg.Connection, auth_engine: AsyncEngine, settings: GatewaySettings
) -> list[CreatedTenant]:
    """Two tenants with a row in each table that holds tenants' rows."""
    made = [await create_tenant(auth_engine, settings, "acme", "free") for _ in range(2)]
    for tenant in made:
        await admin.execute(SEED, tenant.tenant_id, str(uuid.uuid4()))
        await admin.execute(AGGREGATE, tenant.tenant_id)
        await admin.execute(DEAD, tenant.tenant_id)
    await admin.execute("analyze")
    return made


@pytest.fixture(scope="module")
async def relations(admin: asyncpg.Connection, tenants: list[CreatedTenant]) -> list[str]:
    """Every table, partition and view with a tenant_id; those that hold rows do so in this test."""
    rows = await admin.fetch("""
        select distinct format('%I.%I', n.nspname, c.relname) as name
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where a.attname = 'tenant_id' and c.relkind in ('r', 'p', 'v') and n.nspname <> 'pg_catalog'
    """)
    names = [row["name"] for row in rows]
    for name in names:
        if not name.startswith("partitions."):
            ids = [tenant.tenant_id for tenant in tenants]
            count = await admin.fetchval(f"select count(*) from {name} where tenant_id = any ($1)", ids)  # noqa: S608
            assert count >= 2, f"{name} holds nothing that could be seen: seed it here"
    return names


@contextlib.asynccontextmanager
async def connected(database: Database, role: str) -> AsyncIterator[asyncpg.Connection]:
    url = {
        "sluice_app": database.app_url,
        "sluice_worker": database.worker_url,
        "sluice_auth": database.auth_url,
    }[role]
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def batch(tenant_id: uuid.UUID) -> str:
    """The setting of a worker whose batch is of this tenant."""
    return f"{{{tenant_id}}}"


async def seen(connection: asyncpg.Connection, relation: str) -> set[Any]:
    """Whose rows the connection can see; a refusal shows none."""
    try:
        rows = await connection.fetch(f"select tenant_id from {relation}")  # noqa: S608
    except asyncpg.InsufficientPrivilegeError:
        return set()
    except asyncpg.DataError as error:
        # A value that is no tenant at all may fail as such, if its text is all that is told.
        assert "invalid input syntax" in str(error) or "malformed array" in str(error)
        return set()
    return {row["tenant_id"] for row in rows}


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_without_a_tenant_nothing_is_seen(database: Database, relations: list[str], role: str) -> None:
    async with connected(database, role) as connection:
        for relation in relations:
            if (role, relation.removeprefix("public.")) not in OPEN:
                assert await seen(connection, relation) == set(), relation


@pytest.mark.parametrize("role", RUNTIME_ROLES)
@pytest.mark.parametrize("value", GARBAGE)
async def test_with_a_blank_or_garbage_tenant_nothing_is_seen(
    database: Database, relations: list[str], role: str, value: str
) -> None:
    async with connected(database, role) as connection:
        for setting in SETTINGS:
            await connection.execute("select set_config($1, $2, false)", setting, value)
        for relation in relations:
            if (role, relation.removeprefix("public.")) not in OPEN:
                assert await seen(connection, relation) == set(), relation


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_with_one_tenant_only_its_rows_are_seen(
    database: Database, relations: list[str], tenants: list[CreatedTenant], role: str
) -> None:
    one, other = (tenant.tenant_id for tenant in tenants)
    visible = set()
    async with connected(database, role) as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(one))
        await connection.execute("select set_config('app.tenant_ids', $1, false)", batch(one))
        for relation in relations:
            if (role, relation.removeprefix("public.")) in OPEN:
                continue
            whose = await seen(connection, relation)
            assert other not in whose, relation
            assert whose <= {one}, relation
            visible |= {relation.removeprefix("public.")} if whose else set()
    assert (
        visible
        == {
            "sluice_app": {"events", "aggregated_events", "event_count_by_day"},
            "sluice_worker": {"events", "aggregated_events", "dead_letters", "tenants"},
            "sluice_auth": set(),
        }[role]
    )


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_a_setting_of_an_earlier_transaction_shows_nothing_in_the_next(
    database: Database, relations: list[str], tenants: list[CreatedTenant], role: str
) -> None:
    async with connected(database, role) as connection:
        async with connection.transaction():
            await connection.execute("select set_config('app.tenant_id', $1, true)", str(tenants[0].tenant_id))
            await connection.execute("select set_config('app.tenant_ids', $1, true)", batch(tenants[0].tenant_id))
        for relation in relations:
            if (role, relation.removeprefix("public.")) not in OPEN:
                assert await seen(connection, relation) == set(), relation


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_row_security_can_not_be_switched_off(database: Database, relations: list[str], role: str) -> None:
    async with connected(database, role) as connection:
        await connection.execute("set row_security = off")
        for relation in relations:
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                assert await seen(connection, relation) == set(), relation


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_no_role_can_become_another(database: Database, admin: asyncpg.Connection, role: str) -> None:
    others = [row[0] for row in await admin.fetch("select rolname from pg_roles where rolname <> $1", role)]
    assert {OWNER, *RUNTIME_ROLES} - {role} <= set(others)
    async with connected(database, role) as connection:
        for other in others:
            for attempt in (f'set role "{other}"', f'set session authorization "{other}"'):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(attempt)


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_statistics_tell_no_values_of_tenants_rows(database: Database, relations: list[str], role: str) -> None:
    tables = [relation.rpartition(".")[2] for relation in relations]
    async with connected(database, role) as connection:
        rows = await connection.fetch("select distinct tablename from pg_stats where tablename = any ($1)", tables)
    told = {row["tablename"] for row in rows}
    assert told <= {table for owner, table in OPEN if owner == role}


async def test_a_worker_can_write_no_row_of_a_tenant_outside_its_batch(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    one, other = (tenant.tenant_id for tenant in tenants)
    async with connected(database, "sluice_worker") as connection:
        await connection.execute("select set_config('app.tenant_ids', $1, false)", batch(one))
        await connection.execute(SEED, one, str(uuid.uuid4()))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(SEED, other, str(uuid.uuid4()))
        changed = await connection.execute("update aggregated_events set count = 9 where tenant_id = $1", other)
        assert changed == "UPDATE 0"


async def test_the_same_event_id_in_two_tenants_is_two_events_and_no_error_tells_of_the_other(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    event_id = str(uuid.uuid4())
    async with connected(database, "sluice_worker") as connection:
        for tenant in tenants:
            await connection.execute("select set_config('app.tenant_ids', $1, false)", batch(tenant.tenant_id))
            assert await connection.execute(SEED, tenant.tenant_id, event_id) == "INSERT 0 1"


async def test_the_gateways_own_role_can_not_read_clients_keys_or_plans(database: Database) -> None:
    async with connected(database, "sluice_app") as connection:
        for table in ("oauth_clients", "signing_keys", "tenants", "plans", "control_version", "dead_letters"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from {table}")  # noqa: S608


async def test_the_role_of_the_token_endpoint_can_not_read_events(database: Database) -> None:
    async with connected(database, "sluice_auth") as connection:
        for table in ("events", "aggregated_events", "event_count_by_day", "dead_letters", "stream_offsets"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from {table}")  # noqa: S608
