"""What the places say that hold events: how far the log is handled, and whether rows, counts and index agree.

Reads only. A server that is away is no answer, not an error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.database import connect
from app.settings import WorkerSettings
from app.verification import Report, verify_tenant
from search.client import IndexUnavailable, make_client
from search.execute import SearchRefused
from tests.system import until
from workers.offsets import positions

if TYPE_CHECKING:
    from tests.system import MadeTenant, System

AWAY = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, IndexUnavailable, SearchRefused, KafkaError,
)  # fmt: skip


async def settled(system: System, tenants: Sequence[MadeTenant], *, seconds: float) -> list[Report]:
    """What verify says of each tenant once all that is in the log now is stored and indexed.

    Fails if the log isn't handled in time. Where the places don't agree by then, the reports say so.
    """
    end = await until(lambda: _end_of_log(system), bool, seconds=seconds)
    deadline = time.monotonic() + seconds
    for worker in ("store", "index"):

        async def reached(worker: str = worker) -> dict[int, int]:
            return await _positions(system, worker)

        await until(reached, lambda found: all(found.get(where) == to for where, to in end.items()), seconds=seconds)
    return await until(
        lambda: reports(system, tenants),
        lambda found: bool(found) and (in_step(found) or time.monotonic() > deadline),
        seconds=2 * seconds,
    )


def in_step(reports: Sequence[Report]) -> bool:
    """All places hold the same events, and nothing waits."""
    return bool(reports) and all(report.agrees and report.waiting == 0 for report in reports)


def doubled(report: Report) -> int:
    """By how much the place that counts most is above the rows, whose key allows each event only once."""
    return max(report.aggregated, report.metered, report.indexed + report.doubled) - report.events


async def _end_of_log(system: System) -> dict[int, int]:
    """The position after the last record of each partition that has any; nothing if Kafka does not answer."""
    settings = system.settings(WorkerSettings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    try:
        await consumer.start()
        try:
            log = [TopicPartition(settings.raw_topic, number) for number in range(settings.topic_partitions)]
            return {where.partition: end for where, end in (await consumer.end_offsets(log)).items() if end}
        finally:
            await consumer.stop()
    except AWAY:
        return {}


async def _positions(system: System, worker: str) -> dict[int, int]:
    settings = system.settings(WorkerSettings)
    try:
        connection = await connect(settings.postgres_worker_url.get_secret_value(), name="fault suite")
        try:
            return await positions(connection, settings.group(worker), settings.raw_topic)
        finally:
            await connection.close()
    except AWAY:
        return {}


async def reports(system: System, tenants: Sequence[MadeTenant]) -> list[Report]:
    """What verify says of each tenant now; nothing if a server is away."""
    settings = system.settings(WorkerSettings)
    client = make_client(settings.elasticsearch_url.get_secret_value(), timeout=30)
    try:
        connection = await connect(settings.postgres_worker_url.get_secret_value(), name="fault suite")
        try:
            return [
                await verify_tenant(
                    connection,
                    client,
                    UUID(tenant.tenant_id),
                    index_prefix=settings.index_prefix,
                    index_group=settings.group("index"),
                    topic=settings.raw_topic,
                )
                for tenant in tenants
            ]
        finally:
            await connection.close()
    except AWAY:
        return []
    finally:
        await client.close()
