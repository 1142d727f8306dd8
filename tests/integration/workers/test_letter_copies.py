"""The copy of each dead letter on Kafka: all of them, as its JSON Schema says, at least once."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from jsonschema import Draft202012Validator

from app.events.dead_letters import LARGEST_COPIED_PAYLOAD
from app.settings import MaintainSettings
from tests.integration.workers.conftest import Bench, event, record
from tests.system import MadeTenant, until
from workers.connections import Connections
from workers.letter_copies import MOST, Copies
from workers.sender import Message, Sender


@asynccontextmanager
async def copying(bench: Bench) -> AsyncIterator[Copies]:
    """The duty, to be turned by hand."""
    settings = bench.system.settings(MaintainSettings)
    connections, sender = Connections(settings), Sender(settings.kafka_bootstrap)
    try:
        yield Copies(connections, sender, settings.dead_letter_topic)
    finally:
        await connections.close()
        await sender.close()


async def copies(bench: Bench) -> list[ConsumerRecord]:
    """Everything in the topic of the copies, in the order of its partitions."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bench.settings.kafka_bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=4 * 2**20
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(bench.settings.dead_letter_topic, number) for number in range(4)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


@pytest.fixture
def schema(repository: Path) -> dict[str, Any]:
    path = repository / "app" / "events" / "schemas" / "events.dead-letter.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


async def made(bench: Bench, tenant: MadeTenant, count: int) -> None:
    """Letters with long texts in every column, as large as a worker writes them."""
    await bench.system.fetch(
        """
        insert into dead_letters (tenant_id, reason, detail, topic, source_partition, source_offset, record_index,
                                  payload, event_id, event_type, user_id, client_id, received_at)
        select $1, 'unstorable', repeat('é', 1000), 't', 0, n, 0, convert_to('letter ' || n, 'UTF8'),
               repeat('é', 200), repeat('é', 200), repeat('é', 200), 'c', now()
        from generate_series(1, $2) n
        """,
        UUID(tenant.tenant_id),
        count,
    )


async def test_every_letter_is_copied_once_as_the_schema_says(bench: Bench, schema: dict[str, Any]) -> None:
    tenant = await bench.system.tenant()
    large = secrets.token_bytes(LARGEST_COPIED_PAYLOAD + 1)
    await bench.put(0, record(tenant, event("1", metadata=b'{"n":"\\u0000"}')), b"no \xff record", large)
    async with bench.running("store"):
        await until(bench.dead_letters, lambda found: len(found) == 3)
    async with copying(bench) as duty:
        assert await duty.turn()
        assert not await duty.turn()
    found = await copies(bench)
    values = [json.loads(copy.value) for copy in found]
    validator = Draft202012Validator(schema)
    assert [error.message for value in values for error in validator.iter_errors(value)] == []
    assert {copy.key.decode() for copy in found} == {value["tenant_id"] for value in values}
    letters = {str(row["dead_letter_id"]): row for row in await bench.system.fetch("select * from dead_letters")}
    assert {value["dead_letter_id"] for value in values} == set(letters)
    for value in values:
        letter = letters[value["dead_letter_id"]]
        for name in ("reason", "detail", "attempts", "topic", "event_id", "user_id", "client_id"):
            assert value[name] == letter[name], name
        assert (value["partition"], value["offset"]) == (letter["source_partition"], letter["source_offset"])
        assert value["payload_bytes"] == len(letter["payload"])
        if letter["payload"] == large:
            assert value["payload"] is None
        else:
            assert base64.b64decode(value["payload"]) == letter["payload"]
    assert {value["index"] for value in values} == {0, None}
    assert all(letter["copied_at"] is not None for letter in letters.values())


async def test_the_oldest_are_copied_first_and_a_copy_that_was_not_marked_comes_again(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await made(bench, tenant, MOST + 5)
    await bench.system.fetch("update dead_letters set created_at = now() - make_interval(secs => source_offset)")
    async with copying(bench) as duty:
        assert await duty.turn()
        first = [json.loads(copy.value)["offset"] for copy in await copies(bench)]
        assert first == list(range(MOST + 5, 5, -1))
        assert await duty.turn()
        assert not await duty.turn()
        # As after a crash between Kafka's acknowledgement and the mark.
        await bench.system.fetch("update dead_letters set copied_at = null where source_offset = 1")
        assert await duty.turn()
    seen = [json.loads(copy.value)["dead_letter_id"] for copy in await copies(bench)]
    assert (len(seen), len(set(seen))) == (MOST + 6, MOST + 5)


async def test_a_copy_does_not_change_what_becomes_of_the_letter(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await made(bench, tenant, 1)
    before = await bench.system.fetch("select status, changed_at, attempts from dead_letters")
    async with copying(bench) as duty:
        await duty.turn()
    assert await bench.system.fetch("select status, changed_at, attempts from dead_letters") == before


async def test_what_is_larger_than_kafka_takes_is_told_apart_and_stops_nothing(bench: Bench) -> None:
    sender = Sender(bench.settings.kafka_bootstrap)
    topic = bench.settings.dead_letter_topic
    messages = [Message(b"k", b"1"), Message(b"k", secrets.token_bytes(2**21 + 1)), Message(b"k", b"3")]
    assert await sender.send(topic, messages) == [True, False, True]
    await sender.close()
    assert [copy.value for copy in await copies(bench)] == [b"1", b"3"]
