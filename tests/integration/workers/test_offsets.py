"""Positions in the log: who owns a partition, who was fenced, and when to stop rather than guess."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.workers.conftest import Bench, event, record
from tests.system import until
from workers.offsets import FencedError, LogMismatchError, advance, claim
from workers.topic import TopicError, TopicIdentity, ensure_topics, identify


async def connected(bench: Bench) -> asyncpg.Connection:
    return await asyncpg.connect(bench.settings.postgres_worker_url.get_secret_value())


def holding(first: int, end: int) -> Callable[[], Awaitable[tuple[int, int]]]:
    """A log that stays as it is."""

    async def log() -> tuple[int, int]:
        return first, end

    return log


async def test_a_later_claim_fences_the_earlier_owner(bench: Bench) -> None:
    here = TopicIdentity("cluster", uuid4())
    connection = await connected(bench)
    try:
        earlier = await claim(connection, "g", "t", 0, here, holding(0, 10))
        await advance(connection, "g", "t", {0: earlier}, {0: 4})
        later = await claim(connection, "g", "t", 0, here, holding(0, 10))
        assert (later.next_offset, later.epoch) == (4, earlier.epoch + 1)
        with pytest.raises(FencedError):
            await advance(connection, "g", "t", {0: earlier}, {0: 6})
        await advance(connection, "g", "t", {0: later}, {0: 6})
        with pytest.raises(FencedError):  # the position has moved: the same batch can't be committed twice
            await advance(connection, "g", "t", {0: later}, {0: 6})
    finally:
        await connection.close()


async def test_an_owner_that_moves_on_until_its_partition_is_claimed_leaves_no_position_beyond_the_log(
    bench: Bench,
) -> None:
    here = TopicIdentity("cluster", uuid4())
    connection, another = await connected(bench), await connected(bench)
    asked = 0
    try:
        earlier = await claim(connection, "g", "t", 0, here, holding(0, 10))

        async def growing() -> tuple[int, int]:
            nonlocal asked
            asked += 1
            if asked == 1:  # ten records more, handled after Kafka has answered and before the claim
                await advance(another, "g", "t", {0: earlier}, {0: 20})
                return 0, 10
            return 0, 20

        assert (await claim(connection, "g", "t", 0, here, growing)).next_offset == 20
    finally:
        await connection.close()
        await another.close()


async def test_a_new_group_starts_at_the_beginning_of_what_the_log_still_holds(bench: Bench) -> None:
    connection = await connected(bench)
    try:
        assert (await claim(connection, "g", "t", 1, TopicIdentity("c", uuid4()), holding(7, 10))).next_offset == 7
    finally:
        await connection.close()


async def test_another_topic_of_the_same_name_or_a_position_outside_the_log_is_refused(bench: Bench) -> None:
    here = TopicIdentity("c", uuid4())
    connection = await connected(bench)
    try:
        await claim(connection, "g", "t", 0, here, holding(3, 5))
        for identity, log in (
            (TopicIdentity("c", uuid4()), (3, 5)),
            (TopicIdentity("other", here.topic_id), (3, 5)),
            (here, (4, 9)),
            (here, (0, 2)),
        ):
            with pytest.raises(LogMismatchError):
                await claim(connection, "g", "t", 0, identity, holding(*log))
        assert (await claim(connection, "g", "t", 0, here, holding(3, 5))).epoch == 2  # a refusal changes nothing
    finally:
        await connection.close()


async def test_a_worker_stops_loudly_when_the_topic_was_made_again(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, event("1")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 1)
    await bench.system.fetch("update stream_offsets set topic_id = gen_random_uuid()")
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(30):
            async with bench.running("store") as task:
                await asyncio.wait([task])
    assert caught.group_contains(LogMismatchError)


async def test_a_topic_is_told_by_its_id(bench: Bench) -> None:
    bootstrap = bench.system.endpoints.kafka_bootstrap
    first = await identify(bootstrap, bench.system.topic)
    assert first == await identify(bootstrap, bench.system.topic)
    other = f"{bench.system.topic}.other"
    assert await ensure_topics(bootstrap, [other], partitions=1) == {other}
    assert not await ensure_topics(bootstrap, [other], partitions=1)
    assert (await identify(bootstrap, other)).topic_id != first.topic_id
    with pytest.raises(TopicError):
        await identify(bootstrap, f"{bench.system.topic}.missing")


async def test_two_workers_share_the_partitions_and_store_each_event_once(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    for partition in range(4):
        await bench.put(partition, *(record(tenant, event(f"{partition}-{n}")) for n in range(50)))
    async with bench.running("store"), bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 200)
        for partition in range(4):
            await bench.put(partition, *(record(tenant, event(f"{partition}-{n}")) for n in range(40, 60)))
        await until(lambda: bench.system.counted(tenant), lambda found: found == 240)
    assert (await bench.system.fetch("select sum(count) from aggregated_events"))[0][0] == 240
    assert (await bench.system.fetch("select sum(next_offset) from stream_offsets"))[0][0] == 280
