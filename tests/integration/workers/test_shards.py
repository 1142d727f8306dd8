"""Moving tenants to the number of shards that their plan wants: when it begins, how long it takes, and who gives up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from app.events.record import partition_key
from app.partitions import partition_of
from app.settings import MaintainSettings
from tests.integration.workers.conftest import Bench, event, record
from tests.system import MadeTenant, until
from workers import shards
from workers.connections import Connections
from workers.shards import Shards, of_tenant

PRODUCE_SECONDS = 0.3
SETTLE_SECONDS = 1.0 + PRODUCE_SECONDS
"""In which gateways have learnt of it, and what they had sent before has an answer."""


@pytest.fixture
async def moving(bench: Bench) -> AsyncIterator[Callable[[], Shards]]:
    """Makes a duty, as a process that has just started would."""
    settings = bench.system.settings(MaintainSettings).model_copy(update={"produce_timeout_seconds": PRODUCE_SECONDS})
    made: list[Connections] = []

    def make() -> Shards:
        made.append(Connections(settings))
        return Shards(settings, made[-1])

    yield make
    for connections in made:
        await connections.close()


@asynccontextmanager
async def turning(duty: Shards) -> AsyncIterator[None]:
    """The duty has its turns, one after the other."""

    async def turn() -> None:
        while True:
            await duty.turn()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(turn())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


async def want(bench: Bench, wanted: int) -> None:
    await bench.system.fetch("update plans set shards = $1 where plan_id = 'standard'", wanted)


async def state(bench: Bench) -> list[asyncpg.Record]:
    """Of each tenant of the plan, the shards in force and when its move began."""
    return await bench.system.fetch(
        "select shards, drain_started_at, tenant_id from tenants where plan_id = 'standard' order by name"
    )


async def moving_now(bench: Bench) -> list[UUID]:
    return [row["tenant_id"] for row in await state(bench) if row["drain_started_at"] is not None]


async def in_force(bench: Bench) -> list[int]:
    return [row["shards"] for row in await state(bench) if row["drain_started_at"] is None]


async def versions(bench: Bench) -> int:
    return int((await bench.system.fetch("select version from control_version"))[0][0])


def partition_of_tenant(tenant: MadeTenant, partitions: int = 4) -> int:
    return partition_of(partition_key(UUID(tenant.tenant_id), 0, 1), partitions)


async def test_a_tenant_begins_with_the_shards_of_its_plan_and_keeps_them_when_the_plan_changes(bench: Bench) -> None:
    await want(bench, 3)
    await bench.system.tenant()
    await want(bench, 5)
    await bench.system.tenant()
    assert sorted(await in_force(bench)) == [3, 5]


async def test_an_idle_tenant_has_moved_little_later_than_gateways_have_settled(
    bench: Bench, moving: Callable[[], Shards]
) -> None:
    await bench.system.tenant()
    await want(bench, 4)
    before = await versions(bench)
    async with turning(moving()):
        await until(lambda: moving_now(bench), lambda found: len(found) == 1)
        assert await versions(bench) == before + 1  # by which gateways learn of it
        began = time.monotonic()
        await until(lambda: in_force(bench), lambda found: found == [4])
        assert SETTLE_SECONDS < time.monotonic() - began + 0.2 < SETTLE_SECONDS + 10


async def test_a_move_ends_only_once_all_that_lay_in_the_old_partitions_is_stored(
    bench: Bench, moving: Callable[[], Shards]
) -> None:
    tenant, other = await bench.system.tenant(), await bench.system.tenant()
    while partition_of_tenant(other) == partition_of_tenant(tenant):
        other = await bench.system.tenant()
    two = [tenant.tenant_id, other.tenant_id]
    await bench.system.fetch("update tenants set plan_id = 'free' where not tenant_id = any ($1)", two)
    duty = moving()
    await want(bench, 2)
    await duty.turn()
    assert len(await moving_now(bench)) == 2
    await bench.put(partition_of_tenant(tenant), record(tenant, event("before")))
    async with turning(duty):
        # Only of one tenant anything waits.
        await until(lambda: in_force(bench), lambda found: found == [2])
        assert await moving_now(bench) == [UUID(tenant.tenant_id)]
        async with bench.running("store"):
            await until(lambda: in_force(bench), lambda found: found == [2, 2])
    assert await bench.system.counted(tenant) == 1


async def test_no_move_begins_while_the_store_is_behind(bench: Bench, moving: Callable[[], Shards]) -> None:
    tenant = await bench.system.tenant()
    await want(bench, 2)
    await bench.put(0, record(tenant, event("not stored yet")))
    duty = moving()
    for _ in range(3):
        await duty.turn()
    assert await moving_now(bench) == []
    async with turning(duty), bench.running("store"):
        await until(lambda: moving_now(bench), lambda found: len(found) == 1)


async def test_of_many_tenants_only_some_move_at_a_time_and_all_do_in_the_end(
    bench: Bench, moving: Callable[[], Shards], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "AT_ONCE", 3)
    for _ in range(5):
        await bench.system.tenant()
    await want(bench, 2)
    seen: list[int] = []

    async def look() -> list[int]:
        seen.append(len(await moving_now(bench)))
        return await in_force(bench)

    async with turning(moving()), turning(moving()):  # in two processes
        await until(look, lambda found: found == [2] * 5)
    assert 3 <= max(seen) < 5


async def test_a_move_that_nobody_wants_any_more_ends_at_once(bench: Bench, moving: Callable[[], Shards]) -> None:
    await bench.system.tenant()
    await want(bench, 2)
    duty = moving()
    await duty.turn()
    assert len(await moving_now(bench)) == 1
    await want(bench, 1)
    await duty.turn()
    assert await in_force(bench) == [1]


async def test_a_move_whose_worker_died_begins_anew_and_ends(bench: Bench, moving: Callable[[], Shards]) -> None:
    await bench.system.tenant()
    await want(bench, 2)
    await moving().turn()
    # Gateways do not heed it any more: by now there are events of the tenant that no drain waits for.
    await bench.system.fetch("update tenants set drain_started_at = now() - interval '70 seconds' where shards = 1")
    duty = moving()
    await duty.turn()
    await duty.turn()
    (row,) = await bench.system.fetch("select shards, now() - drain_started_at < '10 s' from tenants where shards = 1")
    assert tuple(row) == (1, True)
    async with turning(duty):
        await until(lambda: in_force(bench), lambda found: found == [2])


async def test_a_move_that_takes_too_long_is_given_up_and_the_tenant_left_alone_for_a_while(
    bench: Bench, moving: Callable[[], Shards], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await bench.system.tenant()
    await want(bench, 2)
    monkeypatch.setattr(shards, "GIVE_UP_SECONDS", 2.5)
    duty = moving()
    await duty.turn()
    await bench.put(partition_of_tenant(tenant), record(tenant, event("that nobody stores")))
    async with turning(duty):
        await until(lambda: in_force(bench), lambda found: found == [1])
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 1)
    for _ in range(3):
        await duty.turn()
    assert await in_force(bench) == [1]


def test_a_tenant_of_several_shards_waits_for_the_partitions_of_its_keys_and_for_no_other() -> None:
    tenant = UUID(int=7)
    ends = {partition: 100 + partition for partition in range(16)}
    mine = {partition_of(f"{tenant}:{shard}".encode(), 16) for shard in range(3)}
    assert of_tenant(ends, tenant, 3) == {partition: 100 + partition for partition in mine}
    alone = partition_of(str(tenant).encode(), 16)
    assert of_tenant(ends, tenant, 1) == {alone: 100 + alone}
