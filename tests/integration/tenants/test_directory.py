"""What a process knows without asking: kept current, and kept while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import event, text
from structlog.testing import capture_logs

from app.database import create_engine
from tenants.directory import Directory
from tenants.lifecycle import create_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database


@contextlib.asynccontextmanager
async def polling(directory: Directory) -> AsyncIterator[None]:
    task = asyncio.create_task(directory.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(happened: Callable[[], bool], seconds: float = 1.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)


async def execute(engine: AsyncEngine, sql: str, **values: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(sql), values)


async def test_a_tenant_made_later_is_known_within_a_second(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    directory = await Directory.load(auth_engine)
    async with polling(directory):
        created = await create_tenant(auth_engine, settings, "acme", "free", rate=5)
        await until(lambda: directory.access(created.client_id) is not None)
    limits = directory.limits(created.tenant_id)
    assert limits is not None
    assert limits.events_per_second == 5


async def test_a_changed_plan_and_a_changed_override_are_known_within_a_second(empty: Database) -> None:
    engine = create_engine(empty.auth_url, pool_size=2)
    created = await create_tenant(engine, empty.settings(), "acme", "free", burst=5)
    directory = await Directory.load(engine)
    async with polling(directory):
        await execute(engine, "update tenants set plan_id = 'enterprise', burst = null")
        await until(lambda: directory.tenant(created.tenant_id).plan_id == "enterprise")  # type: ignore[union-attr]
        limits = directory.limits(created.tenant_id)
        assert limits is not None
        assert limits.shards == 1, "the plan's only once the tenant has moved"
        owner = await asyncpg.connect(empty.admin_url)
        await owner.execute("update plans set burst = 77 where plan_id = 'enterprise'")
        await owner.close()
        await until(lambda: directory.limits(created.tenant_id).burst == 77)  # type: ignore[union-attr]
    await engine.dispose()


async def test_a_move_to_other_shards_is_known_within_a_second_and_heeded_for_a_minute_at_most(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "enterprise")
    directory = await Directory.load(auth_engine)

    def left() -> float:
        tenant = directory.tenant(created.tenant_id)
        assert tenant is not None
        assert tenant.limits.shards == 4
        return tenant.moves_until - time.monotonic()

    assert left() < 0
    begin = "update tenants set drain_started_at = now() - make_interval(secs => :ago) where tenant_id = :id"
    async with polling(directory):
        await execute(auth_engine, begin, ago=0, id=created.tenant_id)
        await until(lambda: 55 < left() <= 60.1)
        await execute(auth_engine, begin, ago=40, id=created.tenant_id)
        await until(lambda: 15 < left() <= 20.1)
        await execute(auth_engine, begin, ago=61, id=created.tenant_id)
        await until(lambda: left() < 0)


async def test_a_suspended_tenant_has_no_limits_and_none_of_its_clients_is_admitted(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "free")
    directory = await Directory.load(auth_engine)
    assert directory.access(created.client_id) is not None
    await execute(auth_engine, "update tenants set status = 'suspended' where tenant_id = :id", id=created.tenant_id)
    await directory.refresh()
    assert directory.limits(created.tenant_id) is None
    assert directory.access(created.client_id) is None


async def test_while_nothing_changes_a_look_is_one_statement(auth_engine: AsyncEngine) -> None:
    directory = await Directory.load(auth_engine)
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(auth_engine.sync_engine, "before_cursor_execute", record)
    try:
        await directory.refresh()
    finally:
        event.remove(auth_engine.sync_engine, "before_cursor_execute", record)
    assert statements == ["select version, revocations from control_version"]


async def test_all_who_ask_while_a_look_is_under_way_share_the_next(auth_engine: AsyncEngine) -> None:
    directory = await Directory.load(auth_engine)
    looks = 0

    def count(*_: Any) -> None:
        nonlocal looks
        looks += 1

    event.listen(auth_engine.sync_engine, "before_cursor_execute", count)
    try:
        under_way = asyncio.create_task(directory.refresh())
        await until(lambda: looks == 1)
        await asyncio.gather(under_way, *(directory.refresh() for _ in range(50)))
    finally:
        event.remove(auth_engine.sync_engine, "before_cursor_execute", count)
    assert looks == 2


async def test_a_look_knows_all_that_was_committed_before_it_was_asked_for(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    directory = await Directory.load(auth_engine)

    async def create_and_look() -> bool:
        created = await create_tenant(auth_engine, settings, "acme", "free")
        await directory.refresh()
        return directory.access(created.client_id) is not None

    assert all(await asyncio.gather(*(create_and_look() for _ in range(20))))


async def test_a_listener_that_fails_is_called_again_at_the_next_look(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    directory = await Directory.load(auth_engine)
    calls = 0

    async def fails_once() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("not now")

    directory.on_change(fails_once)
    with pytest.raises(OSError, match="not now"):
        await directory.refresh()
    await directory.refresh()
    await directory.refresh()
    assert calls == 2
    created = await create_tenant(auth_engine, settings, "acme", "free")
    await directory.refresh()
    assert directory.limits(created.tenant_id) is not None
    assert calls == 3


async def test_while_postgres_is_away_the_last_known_set_holds_and_one_line_says_so(empty: Database) -> None:
    engine = create_engine(empty.auth_url, pool_size=1)
    created = await create_tenant(engine, empty.settings(), "acme", "free")
    directory = await Directory.load(engine)
    name = empty.auth_url.rpartition("/")[2]
    server = await asyncpg.connect(empty.admin_url.rpartition("/")[0] + "/postgres")
    with capture_logs() as logs:
        async with polling(directory):
            await server.execute(f"alter database {name} allow_connections false")
            await server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
            await until(lambda: len(logs) == 1, 5)
            seen = directory.last_refreshed
            until_when = time.monotonic() + 1.0
            await until(lambda: time.monotonic() > until_when, 2)
            assert directory.last_refreshed == seen
            assert directory.access(created.client_id) is not None
            assert [entry["log_level"] for entry in logs] == ["warning"]
            await server.execute(f"alter database {name} allow_connections true")
            await until(lambda: directory.last_refreshed > seen, 5)
            await until(lambda: len(logs) == 2)
            another = await create_tenant(engine, empty.settings(), "later", "free")
            await until(lambda: directory.limits(another.tenant_id) is not None)
    await server.close()
    await engine.dispose()
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
