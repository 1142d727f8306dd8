"""What gateways refused: counted in memory, written now and then, kept while PostgreSQL is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.database import create_engine
from app.metrics import USAGE_UNWRITTEN
from deploy.local.servers import Endpoints
from tenants.usage import refusals
from tenants.usage.refusals import Refusals
from tests.integration.conftest import Database
from tests.integration.reads.proxy import Relay
from tests.system import System, until


async def made_tenant(database: Database, status: str = "active") -> UUID:
    tenant_id = uuid4()
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(
        "insert into tenants (tenant_id, name, plan_id, status) values ($1, 't', 'free', $2)", tenant_id, status
    )
    await connection.close()
    return tenant_id


async def written(database: Database, tenant_id: UUID) -> dict[str, tuple[int, int]]:
    connection = await asyncpg.connect(database.admin_url)
    rows = await connection.fetch(
        "select client_id, sum(rejected)::int, sum(throttled)::int from usage where tenant_id = $1 group by 1",
        tenant_id,
    )
    await connection.close()
    return {row[0]: (row[1], row[2]) for row in rows}


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[Refusals]:
    engine = create_engine(url, pool_size=1)
    try:
        yield Refusals(engine)
    finally:
        await engine.dispose()


async def test_what_two_processes_refused_is_added_up_by_client(database: Database) -> None:
    tenant_id = await made_tenant(database)
    async with counting(database.auth_url) as first, counting(database.auth_url) as second:
        for process in (first, second):
            process.rejected(tenant_id, "a", 2)
            process.throttled(tenant_id, "a", 5)
            process.throttled(tenant_id, "b", 1)
            process.throttled(tenant_id, "b", 1)
        await asyncio.gather(first.flush(), second.flush())
        await first.flush()  # nothing is counted twice
    assert await written(database, tenant_id) == {"a": (4, 10), "b": (0, 4)}


async def test_processes_that_write_the_same_rows_at_once_do_not_deadlock(database: Database) -> None:
    tenants = [await made_tenant(database) for _ in range(8)]
    async with counting(database.auth_url) as first, counting(database.auth_url) as second:
        for _ in range(20):
            for process, order in ((first, tenants), (second, tenants[::-1])):
                for tenant_id in order:
                    process.rejected(tenant_id, "a", 1)
            # A deadlock would be put back, and be missing below.
            await asyncio.gather(first.flush(), second.flush())
    for tenant_id in tenants:
        assert await written(database, tenant_id) == {"a": (40, 0)}


async def test_while_postgres_is_away_or_frozen_counts_are_kept_and_written_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "ANSWER_TIMEOUT_SECONDS", 0.3)
    tenant_id = await made_tenant(database)
    relay = Relay(database.auth_url)
    await relay.mend()
    try:
        async with counting(relay.url) as process:
            process.rejected(tenant_id, "a", 1)
            await process.flush()
            await relay.cut()
            process.rejected(tenant_id, "a", 10)
            await process.flush()
            await relay.mend()
            relay.freeze()
            process.throttled(tenant_id, "a", 100)
            async with asyncio.timeout(10):
                await process.flush()
            assert await written(database, tenant_id) == {"a": (1, 0)}
            await relay.cut()
            await relay.mend()
            await process.flush()
            assert await written(database, tenant_id) == {"a": (11, 100)}
    finally:
        await relay.cut()


@pytest.mark.parametrize(("status", "kept"), [("suspended", True), ("deleting", False), ("deleted", False)])
async def test_a_tenant_that_is_being_deleted_gets_no_more_usage(database: Database, status: str, kept: bool) -> None:
    tenant_id, other = await made_tenant(database, status), await made_tenant(database)
    async with counting(database.auth_url) as process:
        for each in (tenant_id, other):
            process.rejected(each, "a", 1)
        await process.flush()
    assert bool(await written(database, tenant_id)) is kept
    assert await written(database, other) == {"a": (1, 0)}


async def test_what_can_not_be_written_is_bounded_and_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MOST_KEYS", 3)
    tenant_id = await made_tenant(database)
    unwritten = USAGE_UNWRITTEN._value.get()
    async with counting(database.auth_url) as process:
        for number in range(5):
            process.throttled(tenant_id, f"c{number}", 7)
        process.throttled(tenant_id, "c0", 1)
        await process.flush()
    assert await written(database, tenant_id) == {"c0": (0, 8), "c1": (0, 7), "c2": (0, 7)}
    assert USAGE_UNWRITTEN._value.get() - unwritten == 14


async def test_a_gateway_that_is_stopped_writes_what_it_had_counted(endpoints: Endpoints, tmp_path: Path) -> None:
    own = await System.create(endpoints, tmp_path)
    try:
        await own.start("api")
        tenant = await own.tenant()
        async with own.client(tenant) as client:
            assert (await client.post("/api/v1/events", json={"event_type": ""})).status_code == 422
    finally:
        own.stop()

    async def rows() -> list[tuple[str, int]]:
        found = await own.fetch("select client_id, rejected from usage where tenant_id = $1", tenant.tenant_id)
        return [tuple(row) for row in found]

    assert await until(rows, bool, seconds=5) == [(tenant.client_id, 1)]
