"""The loop, broken on purpose: PostgreSQL away, a log that lost records or is another one, workers that come and go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from pydantic import SecretStr

from app.events.record import partition_key
from app.partitions import partition_of
from search.client import make_client
from tests.faults.in_process import Worker
from tests.integration.reads.proxy import Relay
from tests.integration.workers.conftest import Bench, event, record
from tests.system import MadeTenant, until
from workers.loop import Loop, Stream
from workers.offsets import LogMismatchError
from workers.topic import TopicError, ensure_topics


@pytest.fixture
async def network(bench: Bench) -> AsyncIterator[Relay]:
    """Between the workers and PostgreSQL."""
    relay = Relay(bench.settings.postgres_worker_url.get_secret_value())
    await relay.mend()
    bench.settings = bench.settings.model_copy(update={"postgres_worker_url": SecretStr(relay.url)})
    yield relay
    await relay.cut()


@asynccontextmanager
async def administrator(bench: Bench) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.settings.kafka_bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def positions(bench: Bench) -> list[tuple[int, int]]:
    rows = await bench.system.fetch("select partition, next_offset from stream_offsets order by 1")
    return [(row[0], row[1]) for row in rows]


async def members(bench: Bench) -> int:
    async with administrator(bench) as admin:
        (answer,) = await admin.describe_consumer_groups([bench.settings.group("store")])
    return len(answer.groups[0][5])


async def ended(task: asyncio.Task[None]) -> BaseException | None:
    """How the worker ended, which it must within a while."""
    done, _ = await asyncio.wait({task}, timeout=60)
    assert done, "still running"
    return task.exception()


async def test_with_postgresql_away_while_partitions_are_assigned_all_is_stored_once_it_is_back(
    bench: Bench, network: Relay
) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, event("1")))
    await network.cut()
    async with bench.running("store"):
        # It is a member that has been given partitions, and none of them is claimed.
        await until(lambda: members(bench), lambda count: count == 1)
        await bench.put(0, record(tenant, event("2")))
        assert await positions(bench) == []
        await network.mend()
        await until(lambda: bench.system.counted(tenant), lambda count: count == 2)
    assert await positions(bench) == [(0, 2), (1, 0), (2, 0), (3, 0)]


async def test_a_worker_stops_loudly_when_records_that_it_has_yet_to_read_are_gone(
    bench: Bench, network: Relay
) -> None:
    """As when PostgreSQL is away for longer than Kafka keeps records."""
    tenant = await bench.system.tenant()
    with pytest.raises(ExceptionGroup) as caught:
        async with bench.running("store") as task:
            await bench.put(0, record(tenant, event("1")))
            await until(lambda: bench.system.counted(tenant), lambda count: count == 1)
            await network.cut()
            await bench.put(0, *(record(tenant, event(str(number))) for number in range(2, 6)))
            async with administrator(bench) as admin:
                await admin.delete_records({TopicPartition(bench.system.topic, 0): RecordsToDelete(5)})
            # More than its client may have fetched before.
            await network.mend()
            await ended(task)
    assert caught.group_contains(LogMismatchError)
    # What it had read before may be stored; it has not gone on behind the gap.
    assert {row[0] for row in await bench.system.fetch("select event_id from events")} <= {"1", "2", "3", "4", "5"}


async def test_a_worker_stops_loudly_when_the_topic_is_deleted_and_made_again_under_it(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    with pytest.raises(ExceptionGroup) as caught:
        async with bench.running("store") as task:
            await bench.put(0, record(tenant, event("1")), record(tenant, event("2")))
            await until(lambda: bench.system.counted(tenant), lambda count: count == 2)
            async with administrator(bench) as admin:
                await admin.delete_topics([bench.system.topic])

            async def made() -> bool:
                topics = await ensure_topics(bench.settings.kafka_bootstrap, [bench.system.topic], partitions=4)
                return bool(topics)

            await until(made, bool)
            await ended(task)
    assert caught.group_contains((LogMismatchError, TopicError))


async def test_records_that_were_fetched_before_the_claim_are_not_handled(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    partition = partition_of(partition_key(UUID(tenant.tenant_id), 0, 1), 4)
    async with bench.running("store"):
        await bench.put(partition, *(record(tenant, event(str(number))) for number in range(3)))
        await until(lambda: bench.system.counted(tenant), lambda count: count == 3)
    await bench.system.fetch("delete from events")  # so that to store one of them again would show
    await bench.put(partition, *(record(tenant, event(str(number))) for number in range(3, 6)))
    search = make_client(bench.settings.elasticsearch_url.get_secret_value())
    url = bench.settings.postgres_worker_url.get_secret_value()
    worker = await Worker.made("store", bench.settings, url, search)
    try:
        where = TopicPartition(bench.system.topic, partition)
        worker.consumer.seek(where, 0)
        # One is taken; the others of this answer wait in Kafka's client, and would come first.
        assert (await worker.consumer.getmany(where, timeout_ms=10_000, max_records=1))[where][0].offset == 0
        while await bench.system.counted(tenant) < 3:
            await worker.turn()
    finally:
        await worker.crash()
        await search.close()
    assert [row[0] for row in await bench.system.fetch("select event_id from events order by 1")] == ["3", "4", "5"]


async def test_while_two_and_three_workers_join_and_leave_under_load_each_event_is_stored_once(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    enough = asyncio.Event()
    sent = [0] * 4

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bench.settings.kafka_bootstrap)
        await producer.start()
        try:
            for number in itertools.count():
                for partition in range(4):
                    # Each event is in two records, so that what is handled twice is told from what was sent twice.
                    name = f"{partition}-{number // 2}"
                    await producer.send_and_wait(bench.system.topic, record(tenant, event(name)), partition=partition)
                    sent[partition] += 1
                if enough.is_set() and number % 2:
                    return
        finally:
            await producer.stop()

    async def shared(by: int) -> None:
        """Until so many workers own partitions, and a good deal was stored since."""
        await until(lambda: members(bench), lambda count: count == by)
        before = await bench.system.counted(tenant)
        await until(lambda: bench.system.counted(tenant), lambda count: count > before + 40)

    sending = asyncio.create_task(send())
    async with bench.running("store"):
        await shared(1)
        async with bench.running("store"):
            await shared(2)
            async with bench.running("store"):
                await shared(3)
            await shared(2)
        await shared(1)
        enough.set()
        await sending
        await until(lambda: positions(bench), lambda found: found == list(enumerate(sent)))
    assert await bench.system.counted(tenant) == sum(sent) // 2
    (usage,) = await bench.system.fetch("select sum(stored), sum(duplicates) from usage")
    assert tuple(usage) == (sum(sent) // 2, sum(sent) // 2)
    assert (await bench.system.fetch("select sum(count) from aggregated_events"))[0][0] == sum(sent) // 2


class Both:
    """A step that needs two rows, in its own order."""

    def __init__(self) -> None:
        self.tries = 0
        self.has_first = asyncio.Event()

    def prepare(self, records: Sequence[ConsumerRecord]) -> int:
        return len(records)

    async def apply(self, connection: asyncpg.Connection, work: int) -> None:
        self.tries += 1
        await connection.execute("update stream_offsets set updated_at = now() where consumer_group = 'first'")
        self.has_first.set()
        await connection.execute("update stream_offsets set next_offset = next_offset + $1 where topic = 'both'", work)


async def test_a_batch_that_was_chosen_as_the_victim_of_a_deadlock_is_applied_again(bench: Bench) -> None:
    tenant: MadeTenant = await bench.system.tenant()
    await bench.system.fetch(
        "insert into stream_offsets (consumer_group, topic, partition, cluster_id, topic_id, next_offset, epoch) "
        "select g, 'both', 0, '', gen_random_uuid(), 0, 0 from unnest(array['first', 'second']) g"
    )
    await bench.put(0, record(tenant, event("1")))
    settings, step, stopping = bench.settings, Both(), asyncio.Event()
    url = settings.postgres_worker_url.get_secret_value()
    loop = Loop(Stream("both", "both", bench.system.topic, settings.kafka_bootstrap, url), step)
    other = await asyncpg.connect(bench.system.admin_url, server_settings={"deadlock_timeout": "1min"})
    task = asyncio.create_task(loop.run(stopping))
    try:
        async with other.transaction():
            await other.execute("update stream_offsets set updated_at = now() where consumer_group = 'second'")
            await asyncio.wait_for(step.has_first.wait(), 60)
            await other.execute("update stream_offsets set updated_at = now() where consumer_group = 'first'")

        async def counted() -> list[int]:
            rows = await bench.system.fetch("select next_offset from stream_offsets where topic = 'both'")
            return [row[0] for row in rows]

        await until(counted, lambda seen: seen == [1, 1])
        assert step.tries >= 2
    finally:
        stopping.set()
        await task
        await other.close()
