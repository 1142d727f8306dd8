"""Publishing to a real Kafka: one refusal costs only what was refused, and who goes away cancels nothing for others."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from app.events.record import AcceptedEvent, decoder, partition_key
from app.ingest.publish import Outcome, Publisher
from app.partitions import partition_of

if TYPE_CHECKING:
    from deploy.local.servers import Endpoints

PARTITIONS = 3
LARGEST = 40_000
"""The topic takes no larger batch of records."""


def event(event_id: str, size: int = 2, user: str | None = None) -> AcceptedEvent:
    metadata = b'"%s"' % (b"x" * (size - 2))
    return AcceptedEvent(event_id, "t", datetime(2026, 5, 4, tzinfo=UTC), msgspec.Raw(metadata), user)


@pytest.fixture
async def topic(endpoints: Endpoints) -> str:
    name = f"p{secrets.token_hex(5)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs={"max.message.bytes": str(LARGEST)})])
    await admin.close()
    return name


@asynccontextmanager
async def publishing(endpoints: Endpoints, topic: str, *, seconds: float = 10) -> AsyncIterator[Publisher]:
    publisher = Publisher(endpoints.kafka_bootstrap, topic, timeout_seconds=seconds, pending_bytes=2**20)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def log_of(endpoints: Endpoints, topic: str) -> list[tuple[int, str]]:
    """Partition and id of each event in the log, in its order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        where = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        left = {tp: end for tp, end in (await consumer.end_offsets(where)).items() if end}
        consumer.assign(list(left))
        for tp in left:
            consumer.seek(tp, 0)
        found = []
        while any([await consumer.position(tp) < end for tp, end in left.items()]):
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found += [(tp.partition, e.event_id) for r in records for e in decoder.decode(r.value).events]
        return found
    finally:
        await consumer.stop()


async def test_after_kafka_has_refused_a_record_for_good_the_same_partition_takes_the_next(
    endpoints: Endpoints, topic: str
) -> None:
    tenant = uuid4()
    async with publishing(endpoints, topic) as publisher:
        sent = (event("1"), event("large", 2 * LARGEST), event("2"), event("3"))
        outcomes = [await publisher.publish(tenant, "c", 1, [each])[0] for each in sent]
    # aiokafka's producer alone answers OutOfOrderSequenceNumber from there on, for as long as it lives.
    unknown, taken = Outcome.UNKNOWN, Outcome.ACKNOWLEDGED
    assert outcomes == [taken, unknown, taken, taken]
    assert [event_id for _, event_id in await log_of(endpoints, topic)] == ["1", "2", "3"]


async def test_records_of_others_keep_their_order_while_the_producer_is_replaced(
    endpoints: Endpoints, topic: str
) -> None:
    tenants = [uuid4() for _ in range(3)]
    async with publishing(endpoints, topic) as publisher:
        futures: list[asyncio.Future[Outcome]] = []
        large: list[asyncio.Future[Outcome]] = []
        for number in range(60):
            for place, tenant in enumerate(tenants):
                futures += publisher.publish(tenant, "c", 1, [event(f"{place}-{number:02}")])
            if number % 20 == 10:
                large += publisher.publish(uuid4(), "c", 1, [event("large", 2 * LARGEST)])
            await asyncio.sleep(0)
        assert set(await asyncio.gather(*large)) == {Outcome.UNKNOWN}
        outcomes = await asyncio.gather(*futures)
    found = [event_id for _, event_id in await log_of(endpoints, topic)]
    # What shared a batch with a refused record was refused with it, and says so; nothing else was.
    assert len(found) == outcomes.count(Outcome.ACKNOWLEDGED) > 0
    for place in range(len(tenants)):
        theirs = [event_id for event_id in found if event_id.startswith(f"{place}-")]
        assert theirs == sorted(set(theirs))


async def test_a_request_that_is_cancelled_takes_nothing_else_of_the_same_record_with_it(
    endpoints: Endpoints, topic: str
) -> None:
    tenant = uuid4()
    async with publishing(endpoints, topic) as publisher:
        futures = [publisher.publish(tenant, "c", 1, [event(str(number))])[0] for number in range(6)]
        gone = asyncio.gather(futures[1], futures[4])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        rest = [future for number, future in enumerate(futures) if number not in {1, 4}]
        assert set(await asyncio.gather(*rest)) == {Outcome.ACKNOWLEDGED}
        assert await publisher.publish(tenant, "c", 1, [event("after")])[0] is Outcome.ACKNOWLEDGED
    assert {"0", "2", "3", "5", "after"} <= {event_id for _, event_id in await log_of(endpoints, topic)}


async def test_a_key_lies_where_kafka_s_own_partitioner_puts_it_from_the_first_record_on(
    endpoints: Endpoints, topic: str
) -> None:
    keys = {UUID(int=number): partition_key(UUID(int=number), 0, 1) for number in range(12)}
    async with publishing(endpoints, topic) as publisher:
        await asyncio.gather(
            *(future for tenant in keys for future in publisher.publish(tenant, "c", 1, [event(str(tenant))]))
        )
    assert sorted(await log_of(endpoints, topic)) == sorted(
        (partition_of(key, PARTITIONS), str(tenant)) for tenant, key in keys.items()
    )
    producer = AIOKafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap)
    await producer.start()
    try:
        for key in keys.values():
            placed = await producer.send_and_wait(topic, b"x", key=key)
            assert placed.partition == partition_of(key, PARTITIONS)
    finally:
        await producer.stop()


async def test_a_gateway_does_not_start_on_a_topic_that_is_not_there(endpoints: Endpoints) -> None:
    publisher = Publisher(endpoints.kafka_bootstrap, "not-there", timeout_seconds=0.5, pending_bytes=2**20)
    with pytest.raises(UnknownTopicOrPartitionError):
        await publisher.start()
    await publisher.stop()
