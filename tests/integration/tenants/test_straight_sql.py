"""Straight SQL as each runtime role, with no tenant, a blank one, a garbage one: nothing of anyone is to be seen."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from migrations.roles import OWNER, RUNTIME_ROLES
from tests.integration.tenants.seeded import SETTINGS, batch, connected

if TYPE_CHECKING:
    from tenants.lifecycle import CreatedTenant
    from tests.integration.conftest import Database

# The tables that are sluice_auth's task: it finds clients before it knows their tenant, and manages tenants.
OPEN = {
    ("sluice_auth", table)
    for table in (
        "tenants", "oauth_clients", "client_secrets", "client_uses", "client_assertions", "token_revocations",
        "usage", "monthly_usage", "quota_notices", "audit_log", "tenant_deletions", "replays", "dead_letters",
        "erasures",
    )
}  # fmt: skip
VISIBLE = {
    "sluice_app": {
        "events", "aggregated_events", "event_count_by_day", "oauth_clients", "client_secrets", "client_uses",
        "usage", "monthly_usage", "quota_notices", "replays", "audit_log", "dead_letters",
        "erasures", "tenants",
    },
    "sluice_worker": {
        "events", "aggregated_events", "dead_letters", "tenants", "usage", "monthly_usage", "quota_notices",
        "tenant_deletions", "erasures",
    },
    "sluice_auth": set(),
}  # fmt: skip
HEEDED = {"sluice_app": "app.tenant_id", "sluice_worker": "app.tenant_ids", "sluice_auth": None}
LOOKALIKES = (
    "app.tenant",
    "app.tenantid",
    "app.tenant_id_",
    "tenant.tenant_id",
    "sluice.tenant_id",
    "sluice.tenant_ids",
)
GARBAGE = ("", " ", "garbage", "{}", "{garbage}", "*", "null", "' or true --", "00000000-0000-0000-0000-00000000000g",
           "{00000000-0000-0000-0000-000000000001", "(select tenant_id from tenants limit 1)", "%")  # fmt: skip


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
    assert visible == VISIBLE[role]


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_a_setting_that_is_not_the_roles_own_shows_nothing(
    database: Database, relations: list[str], tenants: list[CreatedTenant], role: str
) -> None:
    one = tenants[0].tenant_id
    async with connected(database, role) as connection:
        for setting in {*SETTINGS, *LOOKALIKES} - {HEEDED[role]}:
            for value in (str(one), batch(one)):
                await connection.execute("select set_config($1, $2, false)", setting, value)
                for relation in relations:
                    if (role, relation.removeprefix("public.")) not in OPEN:
                        assert await seen(connection, relation) == set(), f"{relation} under {setting}"


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
