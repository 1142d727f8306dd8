"""Records of the topic events.raw against their JSON Schema: real ones, and the types that write and read them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from jsonschema import Draft202012Validator

from app.events.record import RECORD_LIMIT_BYTES, AcceptedEvent, EventRecord, decoder, partition_key
from app.settings import GatewaySettings
from tests.system import MadeTenant, System, until

EVENTS: list[dict[str, Any]] = [
    {"event_type": "plain"},
    {
        "event_type": "whole",
        "user_id": "ada",
        "timestamp": "2026-01-02T03:04:05Z",
        "event_id": "1",
        "metadata": {"a": 1},
    },
    {"event_type": "fine", "timestamp": "1970-01-01T00:00:00.123456789+00:00", "metadata": {"deep": [{"er": [[]]}]}},
    {
        "eventType": "类型",
        "userId": "é" * 200,
        "metadata": {"text": "\U0001f600 \\u00e9", "number": 1e300, "null": None},
    },
]


@pytest.fixture(scope="module")
def schema(repository: Path) -> dict[str, Any]:
    path = repository / "app" / "events" / "schemas" / "events.raw.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(loaded)
    return loaded


async def records_of(system: System, tenant: MadeTenant) -> list[ConsumerRecord]:
    """Everything in the topic that was written for this tenant, read from the start."""
    settings = system.settings(GatewaySettings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [
            TopicPartition(settings.raw_topic, number)
            for number in range(int(system.environment["SLUICE_TOPIC_PARTITIONS"]))
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(30):
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record for record in batch if (record.key or b"").decode().startswith(tenant.tenant_id)]
        return found
    finally:
        await consumer.stop()


async def test_records_on_the_running_topic_match_the_schema(system: System, schema: dict[str, Any]) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        assert (await client.post("/api/v1/events", json=EVENTS[0])).status_code == 202
        assert (await client.post("/api/v1/events/batch", json=EVENTS[1:])).json()["accepted"] == len(EVENTS) - 1
    records = await records_of(system, tenant)
    values = [json.loads(record.value) for record in records]
    validator = Draft202012Validator(schema)
    assert [error.message for value in values for error in validator.iter_errors(value)] == []
    assert [event["event_type"] for value in values for event in value["events"]] == ["plain", "whole", "fine", "类型"]
    assert {(value["tenant_id"], value["client_id"]) for value in values} == {(tenant.tenant_id, tenant.client_id)}
    assert {record.key for record in records} == {partition_key(UUID(tenant.tenant_id), 0, 1)}


async def test_a_batch_larger_than_a_record_is_split_and_loses_nothing(system: System, schema: dict[str, Any]) -> None:
    tenant = await system.tenant()
    events = [{"event_type": "big", "event_id": str(number), "metadata": {"x": "y" * 9000}} for number in range(100)]
    async with system.client(tenant) as client:
        assert (await client.post("/api/v1/events/batch", json=events)).json()["accepted"] == 100
    records = await records_of(system, tenant)
    assert len(records) > 1
    # The limit is of the events; the envelope around them is some hundred bytes.
    assert max(len(record.value) for record in records) < RECORD_LIMIT_BYTES + 1024
    values = [json.loads(record.value) for record in records]
    assert all(Draft202012Validator(schema).is_valid(value) for value in values)
    assert [event["event_id"] for value in values for event in value["events"]] == [str(n) for n in range(100)]
    await until(lambda: system.counted(tenant), (100).__eq__)


@pytest.mark.parametrize(("name", "struct"), [("", EventRecord), ("event", AcceptedEvent)])
def test_the_schema_has_the_members_of_the_type(
    name: str, struct: type[msgspec.Struct], schema: dict[str, Any]
) -> None:
    described = schema["$defs"][name] if name else schema
    assert set(described["properties"]) == set(described["required"]) == set(struct.__struct_fields__)
    assert described["additionalProperties"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"tenant_id": "x"},
        {"received_at": "yesterday"},
        {"events": []},
        {"trace": "x"},
        {"events": [{"event_id": "1", "event_type": "a", "timestamp": "2026-01-01T00:00:00Z", "metadata": []}]},
    ],
)
def test_the_schema_refuses_what_is_no_record(change: dict[str, Any], schema: dict[str, Any]) -> None:
    event = {"event_id": "1", "event_type": "a", "timestamp": "2026-01-01T00:00:00Z", "user_id": None}
    record: dict[str, Any] = {
        "tenant_id": str(UUID(int=7)),
        "client_id": "c",
        "received_at": "2026-01-01T00:00:00.000001Z",
        "events": [event | {"metadata": {}}],
        "version": 1,
    }
    validator = Draft202012Validator(schema)
    assert validator.is_valid(record)
    assert decoder.decode(json.dumps(record)).events[0].event_id == "1"
    assert not validator.is_valid(record | change)
