"""What the examples of the model share: one system without processes, connections, and an event loop.

Each example has tenants of its own. Owns sending and looking; refuses to know the model.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.events.record import AcceptedEvent, encode_events, join_record, partition_key
from app.settings import WorkerSettings
from search.client import make_client
from search.verify import iter_event_ids
from tests.faults.in_process import BreakingNetwork, Kind, Worker
from tests.faults.recovery import Recovery
from tests.faults.stored_state import Place
from tests.system import MadeTenant, System

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

T = TypeVar("T")


class World:
    """Open it inside `run`. `did` counts what examples have done, to show that they did."""

    def __init__(self, runner: asyncio.Runner, system: System) -> None:
        self._runner = runner
        self._url = ""
        self.system = system
        self.settings = system.settings(WorkerSettings)
        self.network = BreakingNetwork(self.settings.postgres_worker_url.get_secret_value())
        self.did: Counter[str] = Counter()
        self.recovery: Recovery
        self._search: AsyncElasticsearch
        self._producer: AIOKafkaProducer
        self._log: AIOKafkaConsumer

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def open(self) -> None:
        self._url = await self.network.open()
        self._search = make_client(self.settings.elasticsearch_url.get_secret_value())
        self._producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap)
        self._log = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap, enable_auto_commit=False)
        for client in (self._producer, self._log):
            await client.start()
        self.recovery = await Recovery(self.system, self._url).open()

    async def close(self) -> None:
        await self.recovery.close()
        for client in (self._producer, self._log):
            await client.stop()
        await self._search.close()
        await self.network.close()

    async def worker(self, kind: Kind) -> Worker:
        return await Worker.made(kind, self.settings, self._url, self._search)

    async def put(self, tenant: MadeTenant, events: Sequence[AcceptedEvent]) -> tuple[int, int]:
        """Write one record where the gateway would; returns its partition and offset."""
        tenant_id = UUID(tenant.tenant_id)
        value = join_record(tenant_id, tenant.client_id, datetime.now(UTC), [encode_events(list(events))])
        sent = await self._producer.send_and_wait(self.system.topic, value, key=partition_key(tenant_id, 0, 1))
        return sent.partition, sent.offset

    async def has_work(self, kind: Kind) -> bool:
        """Whether such a worker has something left to do."""
        rows = await self.system.fetch(
            "select partition, next_offset from stream_offsets where consumer_group = $1", self.settings.group(kind)
        )
        reached = {row["partition"]: row["next_offset"] for row in rows}
        log = [TopicPartition(self.system.topic, number) for number in range(self.settings.topic_partitions)]
        end = await self._log.end_offsets(log)
        return any(reached.get(where.partition, 0) < offset for where, offset in end.items())

    async def rows(self, tenant: MadeTenant) -> dict[str, tuple[str, str, datetime]]:
        """Type, user and time of each event that is stored."""
        found = await self.system.fetch(
            'select event_id, event_type, user_id, "timestamp" from events where tenant_id = $1', tenant.tenant_id
        )
        return {event_id: tuple(rest) for event_id, *rest in found}

    async def buckets(self, tenant: MadeTenant) -> Counter[tuple[datetime, str]]:
        found = await self.system.fetch(
            "select bucket, event_type, count from aggregated_events where tenant_id = $1 and count > 0",
            tenant.tenant_id,
        )
        return Counter({(bucket, event_type): count for bucket, event_type, count in found})

    async def usage(self, tenant: MadeTenant) -> tuple[int, int]:
        """How many are stored still, and how many were duplicates."""
        ((stored, duplicates),) = await self.system.fetch(
            "select coalesce(sum(stored - removed), 0)::int, coalesce(sum(duplicates), 0)::int from usage "
            "where tenant_id = $1",
            tenant.tenant_id,
        )
        return stored, duplicates

    async def letters(self, tenant: MadeTenant) -> dict[Place, tuple[str, int]]:
        """Status and attempts of each dead letter."""
        found = await self.system.fetch(
            "select source_partition, source_offset, record_index, status, attempts from dead_letters "
            "where tenant_id = $1",
            tenant.tenant_id,
        )
        return {(row[0], row[1], row[2]): (row[3], row[4]) for row in found}

    async def indexed(self, tenant: MadeTenant) -> list[str]:
        """The ids of all documents, as often as they are there. Asked for a second time by verify, after a refresh."""
        found = iter_event_ids(self._search, self.settings.index_prefix, UUID(tenant.tenant_id))
        return [event_id async for event_id in found]
