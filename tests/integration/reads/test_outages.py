"""PostgreSQL cut off, frozen, stopping, full or slow: an honest 503, soon, and answers again afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.database import create_engine
from app.errors import PROBLEM_JSON, UnavailableError
from tenants.session import tenant_session
from tests.integration.reads.proxy import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.conftest import Database
    from tests.integration.reads.conftest import Gateway

PATHS = ["user/u1", "count", "trend", "stats"]


@pytest.fixture
async def relay(database: Database) -> AsyncIterator[Relay]:
    made = Relay(database.app_url)
    await made.mend()
    yield made
    await made.cut()


@pytest.fixture
async def relayed(relay: Relay) -> AsyncIterator[AsyncEngine]:
    """One connection at most, so that one that is not given back shows."""
    engine = create_engine(relay.url, pool_size=1)
    yield engine
    await engine.dispose()


async def one(engine: AsyncEngine, *, seconds: float = 10) -> int:
    async with tenant_session(engine, uuid4(), seconds=seconds) as connection:
        return int(await connection.scalar(text("select 1")) or 0)


async def test_without_postgresql_reads_answer_503_and_again_200_when_it_is_back(
    gateway: Gateway, relay: Relay, relayed: AsyncEngine
) -> None:
    _, token = await gateway.token()
    async with gateway.client(gateway.over(relayed), token) as client:
        for _ in range(2):
            for path in PATHS:
                assert (await client.get(f"/api/v1/events/{path}")).status_code == 200
            await relay.cut()
            for path in PATHS:
                response = await client.get(f"/api/v1/events/{path}")
                assert response.status_code == 503
                assert response.headers["content-type"] == PROBLEM_JSON
                assert int(response.headers["retry-after"]) >= 1
                assert "127.0.0.1" not in response.text
            await relay.mend()


async def test_a_frozen_connection_ends_the_session_in_time_and_is_given_up(relay: Relay, relayed: AsyncEngine) -> None:
    assert await one(relayed) == 1
    relay.freeze()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await one(relayed, seconds=1)
        assert time.monotonic() - began < 4
    await relay.mend()
    assert await one(relayed) == 1


async def test_a_connection_that_freezes_within_a_transaction_is_given_up_too(
    relay: Relay, relayed: AsyncEngine
) -> None:
    async def freezing() -> None:
        async with tenant_session(relayed, uuid4(), seconds=1) as connection:
            await connection.execute(text("select 1"))
            relay.freeze()
            await connection.execute(text("select 2"))

    began = time.monotonic()
    with pytest.raises(UnavailableError):
        await freezing()
    assert time.monotonic() - began < 4
    await relay.mend()
    assert await one(relayed) == 1


async def test_a_connection_cut_within_a_transaction_is_503_and_replaced(relay: Relay, relayed: AsyncEngine) -> None:
    async def cutting() -> None:
        async with tenant_session(relayed, uuid4()) as connection:
            await connection.execute(text("select 1"))
            await relay.cut()
            await connection.execute(text("select 2"))

    with pytest.raises(UnavailableError):
        await cutting()
    await relay.mend()
    assert await one(relayed) == 1


async def test_a_session_that_the_server_ends_is_503(relayed: AsyncEngine, database: Database) -> None:
    admin = await asyncpg.connect(database.admin_url)

    async def ended() -> None:
        async with tenant_session(relayed, uuid4()) as connection:
            pid = await connection.scalar(text("select pg_backend_pid()"))
            await admin.execute("select pg_terminate_backend($1)", pid)
            await connection.execute(text("select pg_sleep(5)"))

    with pytest.raises(UnavailableError):
        await ended()
    await admin.close()
    assert await one(relayed) == 1


async def test_a_question_that_takes_too_long_is_cancelled_by_the_server_and_says_so(database: Database) -> None:
    engine = create_engine(database.app_url, pool_size=1, statement_timeout_seconds=0.2)
    with pytest.raises(UnavailableError, match="too long"):
        async with tenant_session(engine, uuid4()) as connection:
            await connection.execute(text("select pg_sleep(5)"))
    assert await one(engine) == 1
    await engine.dispose()


async def test_a_server_without_a_free_connection_is_503(
    new_database: Callable[[], AbstractAsyncContextManager[Database]],
) -> None:
    async with new_database() as database:
        admin = await asyncpg.connect(database.admin_url)
        await admin.execute(f"alter database {await admin.fetchval('select current_database()')} connection limit 0")
        engine = create_engine(database.app_url, pool_size=1)
        with pytest.raises(UnavailableError):
            await one(engine)
        await engine.dispose()
        await admin.close()


async def test_a_pool_without_a_free_connection_is_503(relayed: AsyncEngine) -> None:
    async with tenant_session(relayed, uuid4()):
        with pytest.raises(UnavailableError):
            await one(relayed)
    assert await one(relayed) == 1


async def test_a_caller_that_gives_up_leaves_the_connection_usable(relayed: AsyncEngine) -> None:
    async def slow() -> None:
        async with tenant_session(relayed, uuid4()) as connection:
            await connection.execute(text("select pg_sleep(20)"))

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.3)
        assert await one(relayed) == 1


async def test_a_fault_of_ours_is_not_called_an_outage(relayed: AsyncEngine) -> None:
    with pytest.raises(ProgrammingError):
        async with tenant_session(relayed, uuid4()) as connection:
            await connection.execute(text("select no_such_column"))


async def test_a_snapshot_sees_one_moment_and_writes_nothing(relayed: AsyncEngine) -> None:
    async with tenant_session(relayed, uuid4(), snapshot=True) as connection:
        level = await connection.scalar(text("show transaction_isolation"))
        assert (level, await connection.scalar(text("show transaction_read_only"))) == ("repeatable read", "on")
    async with tenant_session(relayed, uuid4()) as connection:
        assert await connection.scalar(text("show transaction_isolation")) == "read committed"
        assert await connection.scalar(text("show transaction_read_only")) == "off"
