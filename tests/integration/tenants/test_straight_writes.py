"""Straight SQL as each runtime role where it writes, or reads what is not its own: refused, and no error tells more."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.roles import RUNTIME_ROLES
from tests.integration.tenants.seeded import EVENT, SETTINGS, batch, connected

if TYPE_CHECKING:
    from tenants.lifecycle import CreatedTenant
    from tests.integration.conftest import Database


async def test_a_worker_can_write_no_row_of_a_tenant_outside_its_batch(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    one, other = (tenant.tenant_id for tenant in tenants)
    async with connected(database, "sluice_worker") as connection:
        await connection.execute("select set_config('app.tenant_ids', $1, false)", batch(one))
        await connection.execute(EVENT, one, str(uuid.uuid4()))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(EVENT, other, str(uuid.uuid4()))
        changed = await connection.execute("update aggregated_events set count = 9 where tenant_id = $1", other)
        assert changed == "UPDATE 0"


async def test_the_same_event_id_in_two_tenants_is_two_events_and_no_error_tells_of_the_other(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    event_id = str(uuid.uuid4())
    async with connected(database, "sluice_worker") as connection:
        for tenant in tenants:
            await connection.execute("select set_config('app.tenant_ids', $1, false)", batch(tenant.tenant_id))
            assert await connection.execute(EVENT, tenant.tenant_id, event_id) == "INSERT 0 1"


async def test_the_gateways_own_role_can_write_no_row_of_another_tenant(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    one, other = tenants
    written = (
        ("insert into oauth_clients (tenant_id, client_id, name, scopes) values ($1, $2, 'n', '{}')", "forged"),
        (
            "insert into client_secrets (tenant_id, client_id, secret_hash) values ($1, $2, sha256('x'))",
            other.client_id,
        ),
        (
            "insert into audit_log (tenant_id, actor_kind, actor, action, subject) values ($1, 'client', $2, 'a', 's')",
            "x",
        ),
    )
    changed = (
        "update oauth_clients set revoked_at = now() where tenant_id = $1",
        "update client_secrets set expires_at = now() where tenant_id = $1",
        "delete from client_secrets where tenant_id = $1",
    )
    async with connected(database, "sluice_app") as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(one.tenant_id))
        for statement, value in written:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(statement, other.tenant_id, value)
        for statement in changed:
            assert (await connection.execute(statement, other.tenant_id)).endswith(" 0"), statement
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.execute("update oauth_clients set tenant_id = $1", other.tenant_id)


async def test_a_secret_for_another_tenants_client_is_refused_like_one_for_a_client_that_does_not_exist(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    one, other = tenants
    told = []
    async with connected(database, "sluice_app") as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(one.tenant_id))
        for client_id in (other.client_id, "nobody"):
            with pytest.raises(asyncpg.ForeignKeyViolationError) as caught:
                await connection.execute(
                    "insert into client_secrets (tenant_id, client_id, secret_hash) values ($1, $2, sha256('x'))",
                    one.tenant_id,
                    client_id,
                )
            told.append((str(caught.value), str(caught.value.detail).replace(client_id, "ID")))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "attempt",
    [
        "select secret_hash from client_secrets",
        "select client_secrets from client_secrets",
        "select secret_id from client_secrets where secret_hash > ''",
        "select secret_id from client_secrets order by secret_hash",
        "update client_secrets set expires_at = now() returning secret_hash",
        "delete from client_secrets where secret_hash > ''",
    ],
)
async def test_the_gateways_own_role_can_not_read_or_compare_the_hash_of_a_secret(
    database: Database, tenants: list[CreatedTenant], attempt: str
) -> None:
    async with connected(database, "sluice_app") as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(tenants[0].tenant_id))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.execute(attempt)


async def test_the_gateways_own_role_can_not_read_keys_plans_or_what_is_only_the_token_endpoints(
    database: Database,
) -> None:
    forbidden = (
        "signing_keys", "tenants", "plans", "control_version", "client_assertions",
        "token_revocations", "tenant_deletions", "stream_offsets",
    )  # fmt: skip
    async with connected(database, "sluice_app") as connection:
        for table in forbidden:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from {table}")  # noqa: S608


async def test_the_gateways_own_role_can_lock_its_tenants_row_and_change_nothing_of_it(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    one, other = tenants
    async with connected(database, "sluice_app") as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(one.tenant_id))
        locked = await connection.fetch("select tenant_id from tenants for update")
        assert [row["tenant_id"] for row in locked] == [one.tenant_id]
        changed = "update tenants set fence = 1 where tenant_id = $1"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(changed, one.tenant_id)
        assert await connection.execute(changed, other.tenant_id) == "UPDATE 0"


async def test_who_is_being_erased_is_not_the_token_endpoints_to_know(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    async with connected(database, "sluice_auth") as connection:
        assert await connection.fetch("select erasure_id from erasures where tenant_id = $1", tenants[0].tenant_id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.fetch("select user_id from erasures")


@pytest.mark.parametrize("role", RUNTIME_ROLES)
async def test_no_role_changes_or_empties_the_audit_log(
    database: Database, tenants: list[CreatedTenant], role: str
) -> None:
    async with connected(database, role) as connection:
        for setting, value in zip(SETTINGS, (str(tenants[0].tenant_id), batch(tenants[0].tenant_id)), strict=True):
            await connection.execute("select set_config($1, $2, false)", setting, value)
        for attempt in ("update audit_log set actor = 'x'", "delete from audit_log", "truncate audit_log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(attempt)


@pytest.mark.parametrize(("role", "kind"), [("sluice_app", "operator"), ("sluice_worker", "client")])
async def test_no_role_writes_an_entry_in_the_name_of_somebody_it_does_not_act_for(
    database: Database, tenants: list[CreatedTenant], role: str, kind: str
) -> None:
    entry = "insert into audit_log (tenant_id, actor_kind, actor, action, subject) values ($1, $2, 'a', 'b', 'c')"
    async with connected(database, role) as connection:
        for setting, value in zip(SETTINGS, (str(tenants[0].tenant_id), batch(tenants[0].tenant_id)), strict=True):
            await connection.execute("select set_config($1, $2, false)", setting, value)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(entry, tenants[0].tenant_id, kind)


async def test_a_tenant_can_not_change_what_its_dead_letters_say_went_wrong(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    async with connected(database, "sluice_app") as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(tenants[0].tenant_id))
        for column in ("reason", "detail", "attempts", "payload", "source_offset", "client_id", "received_at"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(f"update dead_letters set {column} = {column}")  # noqa: S608
        assert await connection.execute("update dead_letters set status = status") == "UPDATE 1"


async def test_the_gateway_can_not_write_the_exact_part_of_usage_nor_the_worker_the_rest(
    database: Database, tenants: list[CreatedTenant]
) -> None:
    refused = (
        ("sluice_auth", "stored"),
        ("sluice_auth", "bytes"),
        ("sluice_worker", "rejected"),
        ("sluice_app", "stored"),
    )
    for role, column in refused:
        async with connected(database, role) as connection:
            await connection.execute("select set_config('app.tenant_ids', $1, false)", batch(tenants[0].tenant_id))
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(f"update usage set {column} = 0")  # noqa: S608


async def test_the_role_of_the_token_endpoint_can_not_read_events(database: Database) -> None:
    async with connected(database, "sluice_auth") as connection:
        for table in ("events", "aggregated_events", "event_count_by_day", "dead_letters", "stream_offsets"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from {table}")  # noqa: S608
