"""A system whose store and index are called by the test, step by step, and from which events are erased and expire."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
from aiokafka import ConsumerRecord
from elasticsearch import AsyncElasticsearch
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import create_engine
from app.events.record import AcceptedEvent, encode_events, join_record
from app.recovery.erasures import Erasure, read_erasure, request_erasure
from app.settings import MaintainSettings
from app.verification import Report, verify_tenant
from search import execute
from search.bulk import bulk_write
from search.client import make_client
from search.scope import scoped
from search.verify import iter_event_ids
from tenants.audit import Actor
from tests.system import System
from workers.connections import Connections
from workers.erasure import Erasures
from workers.loop import RetryLaterError
from workers.retention import Retention
from workers.store import StoreStep

POISON = b'{"n":"\\u0000"}'
_offsets = itertools.count()


@dataclass(frozen=True)
class Sent:
    """An event as it was sent; `received_at` and `client_id` are its record's."""

    event_id: str
    received_at: datetime
    user_id: str | None = "u"
    event_type: str = "t"
    timestamp: datetime | None = None
    client_id: str = "c"
    metadata: bytes = b'{"n":  1, "t":"\xc3\xa9"}'


def record_of(tenant_id: UUID, sent: Sent, partition: int = 0) -> ConsumerRecord:
    event = AcceptedEvent(
        sent.event_id, sent.event_type, sent.timestamp or sent.received_at, msgspec.Raw(sent.metadata), sent.user_id
    )
    value = join_record(tenant_id, sent.client_id, sent.received_at, [encode_events([event])])
    return ConsumerRecord("t", partition, next(_offsets), 0, 0, None, value, None, 0, len(value), ())


@dataclass
class Site:
    """A migrated system without processes. `worker` and `engine` log in as sluice_worker and sluice_auth."""

    system: System
    settings: MaintainSettings
    worker: asyncpg.Connection
    engine: AsyncEngine
    search: AsyncElasticsearch
    redis: Redis
    step: StoreStep = field(default_factory=lambda: StoreStep("t"))

    @classmethod
    @asynccontextmanager
    async def of(cls, system: System) -> AsyncIterator[Site]:
        settings = system.settings(MaintainSettings)
        worker = await asyncpg.connect(
            settings.postgres_worker_url.get_secret_value(), server_settings={"timezone": "UTC"}
        )
        engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=2)
        search = make_client(settings.elasticsearch_url.get_secret_value(), timeout=60)
        redis = Redis.from_url(settings.redis_url.get_secret_value())
        try:
            yield cls(system, settings, worker, engine, search, redis)
        finally:
            await worker.close()
            await engine.dispose()
            await search.close()
            await redis.aclose()

    async def tenant(self, retention_days: int | None = None) -> UUID:
        """A fresh tenant on a plan of its own."""
        tenant_id = uuid4()
        await self.system.fetch(
            "insert into plans (plan_id, events_per_second, burst, retention_days) values ($1, 1, 1, $2)",
            str(tenant_id),
            retention_days,
        )
        await self.system.fetch(
            "insert into tenants (tenant_id, name, plan_id) values ($1, 't', $2)", tenant_id, str(tenant_id)
        )
        return tenant_id

    async def store(self, tenant_id: UUID, batch: Iterable[Sent]) -> None:
        """One batch through the store step, tried again as the loop does, and what was stored of it indexed."""
        work = self.step.prepare([record_of(tenant_id, sent) for sent in batch])
        while True:
            try:
                async with self.worker.transaction():
                    await self.step.apply(self.worker, work)
            except RetryLaterError:
                continue
            break
        await self.index(tenant_id)

    async def index(self, tenant_id: UUID) -> None:
        """Write every stored event's document, as the index worker would have."""
        rows = await self.system.fetch(
            "select *, metadata::text as metadata from events where tenant_id = $1", tenant_id
        )
        outcome = await bulk_write(self.search, self.settings.index_prefix, [dict(row) for row in rows])
        assert outcome.written == len(rows)

    async def ask(self, tenant_id: UUID, user_id: str) -> Erasure:
        """Ask that the user be erased."""
        async with self.engine.begin() as connection:
            return await request_erasure(connection, tenant_id, user_id, Actor.operator())

    async def receipt(self, tenant_id: UUID, erasure: Erasure) -> Erasure:
        async with self.engine.connect() as connection:
            return await read_erasure(connection, tenant_id, erasure.erasure_id)

    @asynccontextmanager
    async def erasures(self, **changes: Any) -> AsyncIterator[Erasures]:
        """The duty of a worker process of its own, to be turned by hand."""
        settings = self.settings.model_copy(update=changes)
        connections = Connections(settings)
        try:
            yield Erasures(settings, connections, self.engine, self.search, self.redis)
        finally:
            await connections.close()

    async def erase(self, tenant_id: UUID, user_id: str, *, turns: int = 20) -> Erasure:
        """Ask for it, and turn a worker until it is done."""
        erasure = await self.ask(tenant_id, user_id)
        async with self.erasures() as duty:
            for _ in range(turns):
                await duty.turn()
                told = await self.receipt(tenant_id, erasure)
                if told.finished_at is not None:
                    return told
        raise AssertionError(f"not finished after {turns} turns: {told}")

    @asynccontextmanager
    async def retention(self) -> AsyncIterator[Retention]:
        connections = Connections(self.settings)
        try:
            yield Retention(self.settings, connections, self.search)
        finally:
            await connections.close()

    async def expire(self, now: datetime | None = None) -> None:
        """Everything that is too old at `now` is removed."""
        async with self.retention() as duty:
            while await duty.remove(now or datetime.now(UTC)):
                pass

    async def stored(self, tenant_id: UUID) -> list[str]:
        rows = await self.system.fetch("select event_id from events where tenant_id = $1 order by 1", tenant_id)
        return [row["event_id"] for row in rows]

    async def found(self, tenant_id: UUID) -> list[str]:
        """The ids of all documents, without any window."""
        await execute.refresh(self.search, self.settings.index_prefix)
        return [event_id async for event_id in iter_event_ids(self.search, self.settings.index_prefix, tenant_id)]

    async def counted(self, tenant_id: UUID) -> int:
        rows = await self.system.fetch(
            "select coalesce(sum(count), 0)::bigint from aggregated_events where tenant_id = $1", tenant_id
        )
        return int(rows[0][0])

    async def usage(self, tenant_id: UUID) -> tuple[int, int]:
        """Stored and removed, in all."""
        rows = await self.system.fetch("select stored, removed from usage where tenant_id = $1", tenant_id)
        return sum(row["stored"] for row in rows), sum(row["removed"] for row in rows)

    async def verify(self, tenant_id: UUID) -> Report:
        connection = await asyncpg.connect(self.settings.postgres_worker_url.get_secret_value())
        try:
            return await verify_tenant(
                connection,
                self.search,
                tenant_id,
                index_prefix=self.settings.index_prefix,
                index_group=self.settings.group("index"),
                topic=self.settings.raw_topic,
            )
        finally:
            await connection.close()

    async def pass_positions(self, worker: str, offset: int) -> None:
        """As if this worker had come to `offset` in the one partition."""
        await self.system.fetch(
            """
            insert into stream_offsets values ($1, $2, 0, 'cluster', $3, $4, 0)
            on conflict (consumer_group, topic, partition) do update set next_offset = $4
            """,
            self.settings.group(worker), self.settings.raw_topic, UUID(int=0), offset,
        )  # fmt: skip

    async def total_documents(self, tenant_id: UUID, user_id: str) -> int:
        await execute.refresh(self.search, self.settings.index_prefix)
        scope = scoped(tenant_id, filters=[{"term": {"user_id": user_id}}])
        return (await execute.search(self.search, self.settings.index_prefix, scope)).hits.total.value


def ids(sent: Sequence[Sent]) -> list[str]:
    return sorted(each.event_id for each in sent)
