"""Records that the gateway would never write, put on the topic by hand among those of the stream."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer

from app.events.record import AcceptedEvent, encode_events, join_record
from tests.system import until

if TYPE_CHECKING:
    from tests.faults.ground import Ground
    from tests.faults.traffic import Traffic

STRANGER = UUID("00000000-0000-4000-8000-00000000dead")
NO_RECORDS = (
    b"",
    b"not a record",
    b'{"tenant_id":"\xff"}',
    b"[" * 100_000,
    b'{"tenant_id":1,"client_id":"","received_at":"","events":[]}',
    b'{"n":"\\ud800"}',
)
"""Each is one dead letter of the platform."""
NUL = b'{"n":"\\u0000"}'
HUGE = b'{"n":1e200000}'

LETTERS = {"not a record": 4 * len(NO_RECORDS), "unknown tenant": 4, "unstorable": 4 * 3}
"""By reason, of all four partitions."""


async def poison(ground: Ground, traffic: Traffic) -> float:
    """Each partition gets all of it; every event that can be stored is, and every other is a dead letter."""
    made = [_records(ground, traffic, partition) for partition in range(4)]
    producer = AIOKafkaProducer(bootstrap_servers=ground.system.endpoints.kafka_bootstrap, max_request_size=2**21)
    await producer.start()
    try:
        for partition, values in enumerate(made):
            for value in values:
                await producer.send_and_wait(ground.system.topic, value, partition=partition)
    finally:
        await producer.stop()
    ended = time.monotonic()
    await until(lambda: _letters(ground), lambda found: found == LETTERS, seconds=60)
    return ended


def _records(ground: Ground, traffic: Traffic, partition: int) -> list[bytes]:
    """Two that can be stored among three that can't, a record of nobody's tenant, and what is none."""
    first, last = (traffic.event(f"by hand {partition} {name}") for name in ("first", "last"))
    storable = {event["event_id"] for event in (first, last)}
    traffic.sent |= storable
    traffic.acknowledged |= storable  # by Kafka, which is asked directly
    now = datetime.now(UTC)

    def event(event_id: str, metadata: bytes = b"{}") -> AcceptedEvent:
        return AcceptedEvent(event_id, traffic.chapter, now, msgspec.Raw(metadata), "by hand")

    def record(tenant_id: UUID, *events: AcceptedEvent) -> bytes:
        return join_record(tenant_id, ground.tenants[0].client_id, now, [encode_events(list(events))])

    tenant_id = UUID(ground.tenants[0].tenant_id)
    return [
        record(tenant_id, event(first["event_id"]), event("nul\0id"), event(f"nul {partition}", NUL)),
        *NO_RECORDS,
        record(STRANGER, event(f"stranger {partition}")),
        record(tenant_id, event(f"huge {partition}", HUGE), event(last["event_id"])),
    ]


async def _letters(ground: Ground) -> dict[str, int]:
    return {row[0]: row[1] for row in await ground.system.fetch("select reason, count(*) from dead_letters group by 1")}
