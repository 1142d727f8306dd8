"""A database of an earlier version, with data in it, brought to this one."""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from app.database import create_engine
from auth.clients import find_client
from auth.credentials import hash_secret, new_client_id, new_secret
from migrations.roles import RUNTIME_ROLES
from migrations.run import migrate_postgres
from tenants.directory import Directory
from tests.integration.conftest import Database, _migration_settings
from tests.system import create_database, role_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.local.servers import Endpoints

KEY = secrets.token_bytes(32)
TABLES = ("plans", "tenants", "oauth_clients", "events", "aggregated_events", "signing_keys")


@pytest.fixture
async def empty(endpoints: Endpoints) -> AsyncIterator[Database]:
    """A database in which nothing was migrated yet."""
    name = f"test_{secrets.token_hex(6)}"
    admin_url = await create_database(endpoints.postgres_url, name)
    yield Database(admin_url, *(role_url(admin_url, role) for role in ("app", "worker", "auth")))
    server = await asyncpg.connect(endpoints.postgres_url)
    await server.execute(f"drop database {name} with (force)")
    await server.close()


async def counts(connection: asyncpg.Connection) -> dict[str, int]:
    return {table: await connection.fetchval(f"select count(*) from {table}") for table in TABLES}  # noqa: S608


async def structure(connection: asyncpg.Connection) -> list[Any]:
    """Every column, grant and policy."""
    return [
        *await connection.fetch(
            "select table_schema, table_name, column_name, data_type from information_schema.columns "
            "where table_schema in ('public', 'partitions') order by 1, 2, 3"
        ),
        *await connection.fetch(
            "select oid::regclass::text, relacl::text, relrowsecurity, relforcerowsecurity from pg_class "
            "where relnamespace in ('public'::regnamespace, 'partitions'::regnamespace) order by 1"
        ),
        *await connection.fetch("select * from pg_policies order by schemaname, tablename, policyname"),
    ]


async def test_what_an_earlier_version_holds_is_all_there_and_its_secrets_still_work(empty: Database) -> None:
    settings = _migration_settings(empty)
    assert await migrate_postgres(settings, "0001") == "0001"
    admin = await asyncpg.connect(empty.admin_url)
    clients = []
    for number in range(3):
        tenant_id, client_id, secret = uuid.uuid4(), new_client_id(), new_secret()
        clients.append((tenant_id, client_id, secret))
        plan = f"own-{number}"
        await admin.execute(
            "insert into plans (plan_id, events_per_second, burst) values ($1, $2, 9)", plan, number + 1
        )
        await admin.execute(
            "insert into tenants (tenant_id, name, plan_id, burst) values ($1, 'acme', $2, 7)", tenant_id, plan
        )
        await admin.execute(
            "insert into oauth_clients (tenant_id, client_id, name, secret_hash, scopes, revoked_at) "
            "values ($1, $2, 'c', $3, '{events:write,events:read}', case when $4 then now() end)",
            tenant_id, client_id, hash_secret(KEY, client_id, secret), number == 2,
        )  # fmt: skip
        await admin.execute(
            """
            insert into events (tenant_id, event_id, event_type, client_id, timestamp, received_at, index_slice,
                                source_partition, source_offset, metadata)
            select $1, n::text, 'click', $2, now(), now(), 202601, 0, n, '{}' from generate_series(1, 100) n
            """,
            tenant_id, client_id,
        )  # fmt: skip
        await admin.execute("insert into aggregated_events values ($1, '2026-01-01Z', 'click', 'c', 100)", tenant_id)
    before = await counts(admin)

    await migrate_postgres(settings)
    assert await counts(admin) == before
    engine = create_engine(empty.auth_url, pool_size=1)
    async with engine.connect() as connection:
        for tenant_id, client_id, secret in clients[:2]:
            client = await find_client(connection, client_id)
            assert client is not None
            assert (client.tenant_id, client.scopes) == (tenant_id, ("events:write", "events:read"))
            assert client.matching_secret(KEY, secret) is not None
            assert client.matching_secret(KEY, new_secret()) is None
        assert await find_client(connection, clients[2][1]) is None
    directory = await Directory.load(engine)
    await engine.dispose()
    for number, (tenant_id, client_id, _) in enumerate(clients[:2]):
        access = directory.access(client_id)
        assert access is not None
        assert access.tenant.tenant_id == tenant_id
        assert (access.tenant.limits.events_per_second, access.tenant.limits.burst) == (number + 1, 7)
        assert access.tenant.allowance.monthly_quota is None
    assert await admin.fetchval("select count(*) from client_secrets") == 3
    usage = "select tenant_id, stored, bytes, duplicates from usage order by client_id"
    size = sum(len(str(number)) for number in range(1, 101)) + 100 * len("click{}")
    found = [tuple(row) for row in await admin.fetch(usage)]
    assert sorted(found) == sorted((tenant_id, 100, size, 0) for tenant_id, _, _ in clients)
    assert await admin.fetchval("select sum(stored) from monthly_usage") == 300
    # The owner copied them past row security, and is under it again.
    forced = "select bool_and(relforcerowsecurity) from pg_class where relname in ('oauth_clients', 'events')"
    assert await admin.fetchval(forced)
    await admin.close()


async def test_migrating_again_changes_nothing(empty: Database) -> None:
    settings = _migration_settings(empty)
    first = await migrate_postgres(settings)
    admin = await asyncpg.connect(empty.admin_url)
    before = (await structure(admin), await counts(admin))
    assert await migrate_postgres(settings) == first
    assert (await structure(admin), await counts(admin)) == before
    assert len(before[0]) > 200
    await admin.close()


async def test_a_runtime_role_that_was_made_a_member_of_another_is_taken_out_of_it(empty: Database) -> None:
    settings = _migration_settings(empty)
    await migrate_postgres(settings)
    admin = await asyncpg.connect(empty.admin_url)
    stray = "select count(*) from pg_auth_members where member::regrole::text = any ($1::text[])"
    try:
        await admin.execute("grant sluice_auth to sluice_app with admin option")
        await admin.execute("grant sluice_owner to sluice_worker")
        assert await admin.fetchval(stray, list(RUNTIME_ROLES)) == 2
    finally:
        await migrate_postgres(settings)
    assert await admin.fetchval(stray, list(RUNTIME_ROLES)) == 0
    await admin.close()
    app = await asyncpg.connect(empty.app_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute("set role sluice_auth")
    await app.close()
