"""From accepted events to acknowledged Kafka records: one chain per (tenant, client, shard).

Events that come while a record of their chain is in flight form the next one, sent when that is acknowledged
or it is full: order holds, and records grow with the load, without a timer. Owns the
deadline, the bounds on waiting bytes and the drain; refuses to decide what an unknown outcome means to a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer

from app.events.record import AcceptedEvent, join_record, partition_key, shard_of
from app.ingest.chains import Chain, Outcome, Piece, pieces_of
from app.ingest.producer import Producer, RefusedError
from app.metrics import PENDING_BYTES, RECORDS_PUBLISHED

__all__ = ["Outcome", "Publisher"]

log = structlog.get_logger()

_DEADLINE_TICK_SECONDS = 0.1


class Publisher:
    """Create and `start` it inside the running loop. `stop` waits for who still waits, within a time limit."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        timeout_seconds: float,
        pending_bytes: int,
        max_record_bytes: int = 2 * 2**20,
    ) -> None:
        self._producer = Producer(
            lambda: AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                enable_idempotence=True,
                max_request_size=max_record_bytes,
                max_batch_size=max_record_bytes,
                # The deadline that clients see is ours; an idempotent send is retried until its outcome is known.
                request_timeout_ms=int(timeout_seconds * 1000),
            ),
            topic,
        )
        self._timeout = timeout_seconds
        self._bound = pending_bytes
        self._tenant_bound = pending_bytes // 4
        self._bytes = 0
        PENDING_BYTES.set_function(lambda: self._bytes)  # looked up by who reads it: cheaper than told at each request
        self._tenant_bytes: dict[UUID, int] = {}
        self._chains: dict[tuple[UUID, str, int], Chain] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._deadlines: deque[tuple[Piece, Chain]] = deque()
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; raises `KafkaError` if no broker answers or the topic is missing."""
        await self._producer.start()
        self._ticker = asyncio.create_task(self._expire())

    async def stop(self) -> None:
        """Wait until whoever waits has an answer, which takes no longer than their deadlines, then let go.

        What Kafka still has not acknowledged was answered with "unknown" and is not waited for.
        """
        waiting = [piece.done for piece, _ in self._deadlines if not piece.done.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=self._timeout)
        for task in (*self._drains, *filter(None, [self._ticker])):
            task.cancel()
        await asyncio.gather(*self._drains, return_exceptions=True)
        await self._producer.stop()

    async def healthy(self) -> bool:
        """True if a broker answered just now."""
        return await self._producer.answers()

    @contextlib.contextmanager
    def holding(self, tenant_id: UUID, size: int) -> Iterator[bool]:
        """Count `size` bytes that wait for something else as if they waited for Kafka; False if there is no room."""
        fits = self._fits(tenant_id, size)
        if fits:
            self._count_bytes(tenant_id, size)
        try:
            yield fits
        finally:
            if fits:
                self._count_bytes(tenant_id, -size)

    def publish(
        self, tenant_id: UUID, client_id: str, shards: int, events: list[AcceptedEvent]
    ) -> list[asyncio.Future[Outcome]]:
        """Hand over events, in order; each future says what became of its part, and none ever raises.

        A caller that goes away cancels nothing that others share: futures are only read here.
        """
        if shards == 1:
            return self._append(tenant_id, client_id, 0, 1, events)
        by_shard: dict[int, list[AcceptedEvent]] = {}
        for event in events:
            by_shard.setdefault(shard_of(event.user_id, shards), []).append(event)
        return [
            future
            for shard, part in by_shard.items()
            for future in self._append(tenant_id, client_id, shard, shards, part)
        ]

    def _append(
        self, tenant_id: UUID, client_id: str, shard: int, shards: int, events: list[AcceptedEvent]
    ) -> list[asyncio.Future[Outcome]]:
        pieces = pieces_of(events)
        size = sum(map(len, pieces))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in pieces]
        if not self._fits(tenant_id, size):
            for future in futures:
                future.set_result(Outcome.NOT_TAKEN)
            return futures
        self._count_bytes(tenant_id, size)
        name = (tenant_id, client_id, shard if shards > 1 else -1)
        chain = self._chains.get(name)
        if chain is None:
            key = partition_key(tenant_id, shard, shards)
            chain = self._chains[name] = Chain(name, self._producer.partition(key), key)
        deadline = time.monotonic() + self._timeout
        for data, future in zip(pieces, futures, strict=True):
            piece = Piece(data, deadline, future)
            chain.add(piece)
            self._deadlines.append((piece, chain))
        # A task that was made but has not run yet will find this piece too.
        if chain.due() and not chain.starting:
            chain.starting = True
            task = asyncio.create_task(self._drain(chain))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)
        return futures

    async def _drain(self, chain: Chain) -> None:
        """Send one record after the other as long as one is due; the chain is forgotten when nothing is left of it."""
        chain.starting = False
        while chain.due():
            pieces = chain.take()
            size = sum(len(piece.data) for piece in pieces)
            chain.flying += 1
            try:
                await self._deliver(chain, pieces)
            finally:
                chain.flying -= 1
                self._count_bytes(chain.tenant_id, -size)
        if not chain.flying and not chain.waiting and not chain.starting:
            del self._chains[chain.name]

    async def _deliver(self, chain: Chain, pieces: list[Piece]) -> None:
        """Make one record of the pieces that are still waited for, and tell them what became of it.

        Nothing is acknowledged after its deadline, also in a process that slept: others rely on that
        (`workers.shards`).
        """
        now = time.monotonic()
        for piece in pieces:
            if piece.deadline <= now:
                piece.settle(Outcome.NOT_TAKEN)
        live = [piece for piece in pieces if not piece.done.done()]
        data = [piece.data for piece in live]
        for piece in pieces:
            piece.data = b""  # it may stay among the deadlines for a while
        if not live:
            return
        value = join_record(chain.tenant_id, chain.client_id, datetime.now(UTC), data)
        del data
        outcome = Outcome.UNKNOWN
        try:
            outcome = await self._send(chain, value)
        finally:
            now = time.monotonic()
            for piece in live:
                piece.settle(outcome if now < piece.deadline else Outcome.UNKNOWN)

    async def _send(self, chain: Chain, value: bytes) -> Outcome:
        try:
            # The producer keeps the order in which records are handed over; the gate keeps ours up to there.
            await self._producer.send(chain.partition, chain.key, value, chain.gate)
        except RefusedError as error:
            log.warning("a record was not acknowledged", error=str(error), tenant_id=str(chain.tenant_id))
            return Outcome.UNKNOWN
        RECORDS_PUBLISHED.inc()
        return Outcome.ACKNOWLEDGED

    def _fits(self, tenant_id: UUID, size: int) -> bool:
        of_tenant = self._tenant_bytes.get(tenant_id, 0)
        return self._bytes + size <= self._bound and of_tenant + size <= self._tenant_bound

    def _count_bytes(self, tenant_id: UUID, size: int) -> None:
        self._bytes += size
        left = self._tenant_bytes.get(tenant_id, 0) + size
        if left:
            self._tenant_bytes[tenant_id] = left
        else:
            self._tenant_bytes.pop(tenant_id, None)

    async def _expire(self) -> None:
        """Answer those whose deadline has passed. All have the same time limit, so queue and chains are in order.

        What was not handed to Kafka by then never is: it stays in no chain, however long Kafka is away.
        """
        while True:
            await asyncio.sleep(_DEADLINE_TICK_SECONDS)
            now = time.monotonic()
            while self._deadlines and (self._deadlines[0][0].done.done() or self._deadlines[0][0].deadline <= now):
                piece, chain = self._deadlines.popleft()
                if chain.drop_first(piece):
                    self._count_bytes(chain.tenant_id, -len(piece.data))
                    piece.settle(Outcome.NOT_TAKEN)
                else:
                    piece.settle(Outcome.UNKNOWN)
