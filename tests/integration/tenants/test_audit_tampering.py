"""Nobody changes, removes or forges an entry of the audit log: straight SQL as each runtime role and as the owner."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.roles import OWNER, RUNTIME_ROLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tenants.lifecycle import CreatedTenant
    from tests.integration.conftest import Database

ENTRY = """
    insert into audit_log (tenant_id, actor_kind, actor, action, subject) values ($1, 'client', 'a', 'test.kept', 'b')
"""
CHANGES = (
    "update audit_log set actor = 'somebody else'",
    "update audit_log set detail = '{}' where false",
    "delete from audit_log",
    "delete from audit_log where false",
    "truncate audit_log",
    "truncate audit_log, tenant_deletions",
    "truncate tenants cascade",
    """
    insert into audit_log (tenant_id, audit_id, actor_kind, actor, action, subject)
    select tenant_id, audit_id, actor_kind, 'x', action, subject from audit_log
    on conflict (tenant_id, audit_id) do update set actor = excluded.actor
    """,
    "merge into audit_log a using (select 1) s on true when matched then delete",
)
WAYS_AROUND = (
    "set session_replication_role = replica",
    "set session_replication_role = local",
    "alter table audit_log disable trigger keep_audit_log",
    "alter table audit_log disable trigger all",
    "alter table audit_log disable row level security",
    "alter table audit_log no force row level security",
    "drop trigger keep_audit_log on audit_log",
    "create or replace function keep_audit_log() returns trigger language plpgsql as 'begin return null; end'",
    "drop function keep_audit_log() cascade",
    "alter table audit_log rename to other_log",
    "drop table audit_log",
    "create trigger mine before update on audit_log execute function keep_audit_log()",
    "create policy mine on audit_log using (true)",
    "create rule mine as on insert to audit_log do instead nothing",
    "set role sluice_owner",
    "begin; lock table audit_log in access exclusive mode",
)
ONLY_WARNED = ("grant all on audit_log to public", "vacuum full audit_log")
PROTECTION = """
    select c.relacl::text, c.relrowsecurity, c.relforcerowsecurity, c.relfilenode, c.relowner,
           (select array_agg((tgname, tgenabled, tgfoid)::text) from pg_trigger where tgrelid = c.oid) as triggers,
           (select array_agg(polname::text) from pg_policy where polrelid = c.oid) as policies
    from pg_class c where c.oid = 'public.audit_log'::regclass
"""


@contextlib.asynccontextmanager
async def connected(database: Database, role: str, tenant_id: uuid.UUID) -> AsyncIterator[asyncpg.Connection]:
    """As this role, with the tenant set the way that the role's own programs set it."""
    urls = {
        "sluice_app": database.app_url,
        "sluice_worker": database.worker_url,
        "sluice_auth": database.auth_url,
        OWNER: database.admin_url,
    }
    connection = await asyncpg.connect(urls[role])
    try:
        if role == OWNER:
            await connection.execute(f"set role {OWNER}")
        await connection.execute(f"set app.tenant_id = '{tenant_id}'; set app.tenant_ids = '{{{tenant_id}}}'")
        yield connection
    finally:
        await connection.close()


async def kept(admin: asyncpg.Connection, tenant_id: uuid.UUID) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await admin.fetch(
        "select * from audit_log where tenant_id = $1 order by audit_id", tenant_id
    )
    return rows


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("role", [*RUNTIME_ROLES, OWNER])
async def test_no_role_changes_or_removes_an_entry(
    database: Database, admin: asyncpg.Connection, tenants: list[CreatedTenant], role: str, change: str
) -> None:
    tenant_id = tenants[0].tenant_id
    await admin.execute(ENTRY, tenant_id)
    before = await kept(admin, tenant_id)
    async with connected(database, role, tenant_id) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change)
    assert await kept(admin, tenant_id) == before


@pytest.mark.parametrize("attempt", WAYS_AROUND)
@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_what_would_lift_the_protection_is_out_of_a_runtime_roles_reach(
    database: Database, admin: asyncpg.Connection, tenants: list[CreatedTenant], role: str, attempt: str
) -> None:
    before = await admin.fetchrow(PROTECTION)
    async with connected(database, role, tenants[0].tenant_id) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(attempt)
    assert await admin.fetchrow(PROTECTION) == before


@pytest.mark.parametrize("attempt", ONLY_WARNED)
@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_what_the_server_only_warns_of_does_nothing(
    database: Database, admin: asyncpg.Connection, tenants: list[CreatedTenant], role: str, attempt: str
) -> None:
    before = await admin.fetchrow(PROTECTION)
    async with connected(database, role, tenants[0].tenant_id) as connection:
        # As a worker, who holds nothing on this table, it is refused.
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(attempt)
    assert await admin.fetchrow(PROTECTION) == before


async def test_the_gateways_role_adds_entries_to_its_own_tenants_log_only(
    database: Database, admin: asyncpg.Connection, tenants: list[CreatedTenant]
) -> None:
    own, other = (tenant.tenant_id for tenant in tenants)
    before = await kept(admin, other)
    async with connected(database, "sluice_app", own) as connection:
        await connection.execute(ENTRY, own)
        for foreign in (other, uuid.UUID(int=0), uuid.uuid4()):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(ENTRY, foreign)
        assert {row["tenant_id"] for row in await connection.fetch("select tenant_id from audit_log")} == {own}
    assert await kept(admin, other) == before


async def test_a_worker_neither_reads_nor_adds_entries(database: Database, tenants: list[CreatedTenant]) -> None:
    async with connected(database, "sluice_worker", tenants[0].tenant_id) as connection:
        for attempt in ("select * from audit_log", "select count(*) from audit_log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(attempt)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(ENTRY, tenants[0].tenant_id)


async def test_the_gateways_role_reads_no_hash_and_gives_a_secret_no_other_one(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    async with connected(database, "sluice_app", tenants[0].tenant_id) as connection:
        for attempt in (
            "select secret_hash from client_secrets",
            "select * from client_secrets",
            "select s from client_secrets s",
            "delete from client_secrets returning secret_hash",
            "update client_secrets set secret_hash = sha256('mine')",
            "update client_secrets set client_id = 'slc_other'",
            "update oauth_clients set tenant_id = tenant_id",
            "update oauth_clients set client_id = 'slc_other'",
            "delete from oauth_clients",
            "copy client_secrets to stdout",
        ):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
                await connection.execute(attempt)
