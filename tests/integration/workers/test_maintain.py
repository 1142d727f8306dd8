"""The `maintain` worker: which tables it empties, what it waits for, what it removes once it has expired."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from app.database import create_engine
from app.settings import MaintainSettings, OperatorSettings
from search.client import make_client
from tenants.audit import Actor
from tenants.deletion import Deletion, read_deletion, request_deletion
from tenants.lifecycle import create_tenant
from tests.integration.tenants.seeded import OF_CLIENT, OF_TENANT
from tests.integration.workers.conftest import Bench, event, record
from tests.system import MadeTenant, until
from workers.connections import Connections
from workers.main import run_until
from workers.purge import KEPT_DAYS, purge
from workers.search_rebuilds import claimed
from workers.tables import KEPT, delete_some, tenant_tables
from workers.tenant_deletion import Deletions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.integration.conftest import Database

ALL_TABLES = """
    select c.relname as name from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace
"""


async def emptied(database: Database) -> tuple[set[str], set[str]]:
    """The tables of tenants that must be emptied, and those that a deletion empties."""
    admin = await asyncpg.connect(database.admin_url)
    wanted = {row["name"] for row in await admin.fetch(ALL_TABLES)} - set(KEPT)
    await admin.close()
    found = set()
    for url in (database.worker_url, database.auth_url):
        connection = await asyncpg.connect(url)
        found |= {table.name for table in await tenant_tables(connection) if table.deletable}
        await connection.close()
    return wanted, found


async def test_a_deletion_empties_every_table_that_holds_tenants_rows(database: Database) -> None:
    wanted, found = await emptied(database)
    assert {"events", "usage", "oauth_clients"} <= wanted
    assert found == wanted


async def test_a_table_of_a_later_migration_that_nobody_may_empty_would_be_seen(
    new_database: Callable[[], AbstractAsyncContextManager[Database]],
) -> None:
    async with new_database() as database:
        admin = await asyncpg.connect(database.admin_url)
        await admin.execute("create table later (tenant_id uuid primary key)")
        wanted, found = await emptied(database)
        assert wanted - found == {"later"}
        await admin.execute("grant select, delete on later to sluice_auth")
        wanted, found = await emptied(database)
        assert wanted - found == set()
        await admin.close()


async def test_rows_go_in_pieces_in_the_order_of_their_key_and_nobody_elses(database: Database) -> None:
    admin = await asyncpg.connect(database.admin_url)
    mine, other = uuid.uuid4(), uuid.uuid4()
    for tenant_id in (mine, other):
        await admin.execute(
            "insert into aggregated_events select $1, now(), 'type ' || n % 7, 'client ' || n, 1 "
            "from generate_series(1, 100) n",
            tenant_id,
        )
    worker = await asyncpg.connect(database.worker_url)
    (table,) = [table for table in await tenant_tables(worker) if table.name == "aggregated_events"]
    assert table.keys == ("bucket", "event_type", "client_id")
    removed: list[int] = []
    after = None
    while not removed or after is not None:
        async with worker.transaction():
            await worker.execute("select set_config('app.tenant_ids', $1, true)", f"{{{mine}}}")
            count, after = await delete_some(worker, table, mine, after, 30)
        removed.append(count)
    assert removed == [30, 30, 30, 10]
    left = await admin.fetch(
        "select tenant_id, count(*) from aggregated_events where tenant_id = any ($1) group by 1", [mine, other]
    )
    assert [tuple(row) for row in left] == [(other, 100)]
    await worker.close()
    await admin.close()


EXPIRED = """
    with secret as (
        insert into client_secrets (tenant_id, client_id, secret_hash, expires_at)
        values ($1, $2, decode(repeat('00', 32), 'hex'), now() - $3::interval)
    ), assertion as (
        insert into client_assertions values ($1, $2, $4, now() - $3::interval)
    ), key as (
        insert into signing_keys (kid, algorithm, public_jwk, private_key, nonce, key_encryption_key_id, signs_from,
                                  retired_at)
        values ($4, 'RS256', '{}', 'x', decode(repeat('00', 12), 'hex'), 'k', now(), now() - $3::interval)
    ), replay as (
        insert into replays (tenant_id, target, requested_at, slot, total, total_estimated, state, finished_at)
        values ($1, 'kafka', now(), 1, 0, false, 'done', now() - $3::interval)
    )
    insert into token_revocations (tenant_id, jti, expires_at) values ($1, $4, now() - $3::interval)
"""


async def test_what_has_expired_is_removed_and_what_has_not_stays(
    new_database: Callable[[], AbstractAsyncContextManager[Database]],
) -> None:
    async with new_database() as database:
        engine = create_engine(database.auth_url, pool_size=2)
        created = await create_tenant(engine, database.settings(), "acme", "free")
        admin = await asyncpg.connect(database.admin_url)
        for age in ("-1 hour", "1 hour", f"{KEPT_DAYS - 1} days", f"{KEPT_DAYS + 1} days"):
            await admin.execute(
                EXPIRED.replace("$3::interval", f"interval '{age}'").replace("$4", "$3"),
                created.tenant_id,
                created.client_id,
                age,
            )
        assert await purge(engine) == {
            "client_assertions": 3, "token_revocations": 3, "client_secrets": 1, "signing_keys": 1,
            "client_uses": 0, "oauth_clients": 0, "replays": 1,
        }  # fmt: skip
        assert set((await purge(engine)).values()) == {0}
        # A revoked client goes with all that is its own, and others stay.
        gone = await create_tenant(engine, database.settings(), "acme", "free")
        kept = await create_tenant(engine, database.settings(), "acme", "free")
        for client, days in ((gone, KEPT_DAYS + 1), (kept, KEPT_DAYS - 1)):
            await admin.execute(
                "insert into client_uses values ($1, $2, 'credential', now())", client.tenant_id, client.client_id
            )
            for change in ("oauth_clients set revoked_at", "client_secrets set expires_at"):
                moment = f"now() - interval '{days} days'"
                await admin.execute(f"update {change} = {moment} where client_id = $1", client.client_id)
        found = {table: count for table, count in (await purge(engine)).items() if count}
        assert found == {"client_secrets": 1, "client_uses": 1, "oauth_clients": 1}
        clients = {row[0] for row in await admin.fetch("select client_id from oauth_clients")}
        assert clients == {created.client_id, kept.client_id}
        await admin.execute("delete from client_secrets where client_id = $1", kept.client_id)
        # The tenant's own secret never expires.
        assert await admin.fetchval("select count(*) from client_secrets") == 4
        assert [row["jti"] for row in await admin.fetch("select jti from token_revocations")] == ["-1 hour"]
        await admin.close()
        await engine.dispose()


def as_maintain(bench: Bench, **changes: Any) -> MaintainSettings:
    return bench.system.settings(MaintainSettings).model_copy(update=changes)


@asynccontextmanager
async def maintaining(settings: MaintainSettings) -> AsyncIterator[None]:
    """The worker in this process, stopped at the end."""
    stopping = asyncio.Event()
    task = asyncio.create_task(run_until(["maintain"], settings, stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


async def requested(bench: Bench, tenant: MadeTenant) -> Callable[[], Awaitable[Deletion]]:
    """Ask for the tenant's deletion; returns what reads its receipt."""
    tenant_id = uuid.UUID(tenant.tenant_id)

    async def look() -> Deletion:
        async with as_operator(bench) as connection:
            return await read_deletion(connection, tenant_id)

    async with as_operator(bench) as connection:
        await request_deletion(connection, tenant_id, Actor.operator())
    return look


@asynccontextmanager
async def as_operator(bench: Bench) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(bench.system.settings(OperatorSettings).postgres_auth_url.get_secret_value(), pool_size=1)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def test_documents_go_only_after_the_index_worker_has_passed_what_was_stored(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, *(record(tenant, event(f"e{number}")) for number in range(20)))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda count: count == 20)
        look = await requested(bench, tenant)
        # Accepted by a gateway before it knew.
        await bench.put(1, record(tenant, event("late")))
        async with maintaining(as_maintain(bench)):
            told = await until(look, lambda told: told.problem is not None)
            assert (told.step, told.problem) == (
                "index", "The index worker has yet to pass what was stored before the deletion.",
            )  # fmt: skip
            assert told.deleted["events"] == 20
            async with bench.running("index"):
                told = await until(look, lambda told: told.finished_at is not None)
    assert (told.step, told.problem) == ("done", None)
    assert await bench.system.counted(tenant) == 0
    assert await bench.dead_letters() == []


async def test_documents_wait_while_the_search_index_is_rebuilt(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    look = await requested(bench, tenant)
    async with maintaining(as_maintain(bench)):
        async with claimed(bench.settings.postgres_worker_url.get_secret_value()):
            told = await until(look, lambda told: told.problem is not None)
            assert (told.step, told.problem) == (
                "index", "The search index is being rebuilt; its documents are removed after that.",
            )  # fmt: skip
        told = await until(look, lambda told: told.finished_at is not None)
    assert told.problem is None


@pytest.mark.parametrize(
    ("away", "said"),
    [
        ({"elasticsearch_url": SecretStr("http://127.0.0.1:9")}, "IndexUnavailable"),
        ({"redis_url": SecretStr("redis://127.0.0.1:9/0")}, "ConnectionError"),
        ({"kafka_bootstrap": "127.0.0.1:9"}, "Kafka"),
    ],
)
async def test_a_server_that_is_away_is_named_in_the_receipt_and_waited_for(
    bench: Bench, away: dict[str, Any], said: str
) -> None:
    tenant = await bench.system.tenant()
    look = await requested(bench, tenant)
    async with maintaining(as_maintain(bench, **away)):
        told = await until(look, lambda told: told.problem is not None)
        assert said in (told.problem or "")
        assert told.finished_at is None
    async with maintaining(as_maintain(bench)):
        told = await until(look, lambda told: told.finished_at is not None)
    assert told.problem is None


async def test_two_workers_share_the_deletions_and_every_place_is_emptied(bench: Bench) -> None:
    admin = await asyncpg.connect(bench.system.admin_url)
    tenants = [await bench.system.tenant() for _ in range(3)]
    for tenant in tenants:
        for statement in OF_TENANT[:-2]:
            await admin.execute(statement, uuid.UUID(tenant.tenant_id))
        for statement in OF_CLIENT:
            await admin.execute(statement, uuid.UUID(tenant.tenant_id), tenant.client_id)
    looks = [await requested(bench, tenant) for tenant in tenants]
    async with maintaining(as_maintain(bench)), maintaining(as_maintain(bench)):
        for look in looks:
            told = await until(look, lambda told: told.finished_at is not None)
            assert told.deleted == {
                "usage": 1, "monthly_usage": 1, "quota_notices": 1, "client_uses": 1, "client_assertions": 1,
                "token_revocations": 1, "client_secrets": 1, "oauth_clients": 1, "erasures": 1, "replays": 1,
            }  # fmt: skip
    ends = await admin.fetchval("select count(*) from audit_log where action = 'tenant.deleted'")
    assert ends == 3
    await admin.close()


@asynccontextmanager
async def deletions_of(settings: MaintainSettings) -> AsyncIterator[Deletions]:
    """What the worker turns, to be turned by hand."""
    connections = Connections(settings)
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
    search = make_client(settings.elasticsearch_url.get_secret_value())
    redis = Redis.from_url(settings.redis_url.get_secret_value())
    try:
        yield Deletions(settings, connections, engine, search, redis)
    finally:
        await connections.close()
        await engine.dispose()
        await search.close()
        await redis.aclose()


async def test_what_a_request_under_way_wrote_late_is_removed_after_the_end_too(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    look = await requested(bench, tenant)
    async with maintaining(as_maintain(bench)):
        await until(look, lambda told: told.finished_at is not None)
    tenant_id = uuid.UUID(tenant.tenant_id)
    admin = await asyncpg.connect(bench.system.admin_url)
    late = "insert into oauth_clients (tenant_id, client_id, name, scopes) values ($1, 'late', 'late', '{}')"
    await admin.execute(late, tenant_id)
    async with deletions_of(as_maintain(bench)) as deletions:
        await deletions.sweep()
    assert await admin.fetchval("select count(*) from oauth_clients where tenant_id = $1", tenant_id) == 0
    await admin.close()


async def test_a_row_that_comes_late_for_a_client_whose_rows_were_removed_does_not_stop_the_deletion(
    bench: Bench,
) -> None:
    tenant = await bench.system.tenant()
    tenant_id = uuid.UUID(tenant.tenant_id)
    admin = await asyncpg.connect(bench.system.admin_url)
    await admin.execute(OF_CLIENT[0], tenant_id, tenant.client_id)
    look = await requested(bench, tenant)

    async with deletions_of(as_maintain(bench)) as deletions:

        async def turned() -> Deletion:
            await deletions.turn()
            return await look()

        told = await until(turned, lambda told: "client_uses" in told.deleted)
        assert "oauth_clients" not in told.deleted
        # A gateway that was frozen while it answered a request for a token, and is thawed.
        await admin.execute(OF_CLIENT[0], tenant_id, tenant.client_id)
        told = await until(turned, lambda told: told.finished_at is not None)
    assert (told.deleted["client_uses"], told.deleted["oauth_clients"], told.problem) == (2, 1, None)
    await admin.close()
