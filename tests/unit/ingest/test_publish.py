"""What waits for Kafka is bounded, and told to whoever reads the metric."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from app.events.record import AcceptedEvent, encode_events
from app.ingest.publish import Outcome, Publisher
from app.metrics import PENDING_BYTES
from deploy.local.ports import free_ports

EVENT = AcceptedEvent("e", "t", datetime(2026, 5, 4, tzinfo=UTC), msgspec.Raw(b"{}"))
SIZE = len(encode_events([EVENT]))


def told() -> float:
    (metric,) = PENDING_BYTES.collect()
    return metric.samples[0].value


@asynccontextmanager
async def unconnected() -> AsyncIterator[Publisher]:
    """Has room for eight events, and never finds a broker."""
    (port,) = free_ports(1)
    publisher = Publisher(f"127.0.0.1:{port}", "t", timeout_seconds=0.1, pending_bytes=8 * SIZE)
    try:
        yield publisher
    finally:
        await publisher.stop()


async def test_without_a_broker_a_tenant_may_leave_a_quarter_waiting_and_the_metric_says_how_much() -> None:
    async with unconnected() as publisher:
        tenant = uuid4()
        waiting = [publisher.publish(tenant, "c", 1, [EVENT])[0] for _ in range(3)]
        assert [future.done() for future in waiting] == [False, False, True]
        assert waiting[2].result() is Outcome.NOT_TAKEN
        assert told() == 2 * SIZE
        publisher.publish(uuid4(), "c", 1, [EVENT])
        assert told() == 3 * SIZE


async def test_what_is_held_for_something_else_takes_up_the_same_room() -> None:
    async with unconnected() as publisher:
        tenant = uuid4()
        with publisher.holding(tenant, SIZE) as first, publisher.holding(tenant, 2 * SIZE) as second:
            assert (first, second) == (True, False)
            assert told() == SIZE
            publisher.publish(tenant, "c", 1, [EVENT])
            assert publisher.publish(tenant, "c", 1, [EVENT])[0].result() is Outcome.NOT_TAKEN
        assert told() == SIZE
