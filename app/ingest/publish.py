"""From accepted events to acknowledged Kafka records: one chain per (tenant, client, shard).

Events that come while a record of their chain is in flight form the next one, sent when that is acknowledged
or it is full: order holds, and records grow with the load, without a timer. Owns the
deadline, the bounds on waiting bytes and the drain; refuses to decide what an unknown outcome means to a client.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.events.record import RECORD_LIMIT_BYTES, AcceptedEvent, encode_events, join_record, partition_key, shard_of
from app.metrics import PENDING_BYTES, RECORDS_PUBLISHED

log = structlog.get_logger()

MAX_FLYING = 4
"""Records of one chain under way at once."""

_DEADLINE_TICK_SECONDS = 0.1


class Outcome(Enum):
    """What is known of published events."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    """Not acknowledged in time: they may be stored or not. The same ids may be sent again."""
    FULL = "full"
    """Not taken: too many bytes wait for Kafka."""


@dataclass(slots=True)
class _Piece:
    """Events of one request and chain, encoded once. `done` is the request's future."""

    data: bytes
    done: asyncio.Future[Outcome]


@dataclass(slots=True)
class _Chain:
    """What waits for one key. Only full records are sent while another is under way, so small ones keep gathering."""

    name: tuple[UUID, str, int]
    partition: int
    key: bytes
    waiting: deque[_Piece] = field(default_factory=deque)
    waiting_bytes: int = 0
    flying: int = 0
    starting: bool = False
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def tenant_id(self) -> UUID:
        return self.name[0]

    @property
    def client_id(self) -> str:
        return self.name[1]

    def add(self, piece: _Piece) -> None:
        self.waiting.append(piece)
        self.waiting_bytes += len(piece.data)

    def due(self) -> bool:
        """Whether a record should be sent now."""
        if not self.waiting:
            return False
        return not self.flying or (self.flying < MAX_FLYING and self.waiting_bytes >= RECORD_LIMIT_BYTES)

    def take(self) -> list[_Piece]:
        """The next record's pieces: at least one, and more as long as they fit."""
        taken = [self.waiting.popleft()]
        size = len(taken[0].data)
        while self.waiting and size + len(self.waiting[0].data) <= RECORD_LIMIT_BYTES:
            piece = self.waiting.popleft()
            size += len(piece.data)
            taken.append(piece)
        self.waiting_bytes -= size
        return taken


class Publisher:
    """Create and `start` it inside the running loop. `stop` drains what waits, within a time limit."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        timeout_seconds: float,
        pending_bytes: int,
        max_record_bytes: int = 2 * 2**20,
    ) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            max_request_size=max_record_bytes,
            max_batch_size=max_record_bytes,
            # Ours is the deadline that clients see; an idempotent send is retried by the producer until it is known.
            request_timeout_ms=int(timeout_seconds * 1000),
        )
        self._topic = topic
        self._timeout = timeout_seconds
        self._bound = pending_bytes
        self._tenant_bound = pending_bytes // 4
        self._bytes = 0
        PENDING_BYTES.set_function(lambda: self._bytes)  # looked up by who reads it: cheaper than told at each request
        self._tenant_bytes: dict[UUID, int] = {}
        self._chains: dict[tuple[UUID, str, int], _Chain] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._deadlines: deque[tuple[float, asyncio.Future[Outcome]]] = deque()
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; raises `KafkaError` if no broker answers."""
        await self._producer.start()
        self._ticker = asyncio.create_task(self._expire())

    async def stop(self) -> None:
        """Wait for what was taken, at most as long as a client would, then let go."""
        if self._drains:
            await asyncio.wait(self._drains, timeout=self._timeout)
        for task in self._drains:
            task.cancel()
        if self._ticker is not None:
            self._ticker.cancel()
        try:
            await asyncio.wait_for(self._producer.stop(), self._timeout)
        except (TimeoutError, KafkaError) as error:
            log.warning("the producer did not stop cleanly", error=type(error).__name__)

    async def healthy(self) -> bool:
        """True if a broker answered just now."""
        try:
            await asyncio.wait_for(self._producer.client.fetch_all_metadata(), 2)
        except (TimeoutError, KafkaError):
            return False
        return True

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
        pieces = _pieces(events)
        size = sum(map(len, pieces))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in pieces]
        tenant_bytes = self._tenant_bytes.get(tenant_id, 0)
        if self._bytes + size > self._bound or tenant_bytes + size > self._tenant_bound:
            for future in futures:
                future.set_result(Outcome.FULL)
            return futures
        self._count_bytes(tenant_id, size)
        name = (tenant_id, client_id, shard if shards > 1 else -1)
        chain = self._chains.get(name)
        if chain is None:
            key = partition_key(tenant_id, shard, shards)
            chain = self._chains[name] = _Chain(name, self._partition(key), key)
        deadline = time.monotonic() + self._timeout
        for data, future in zip(pieces, futures, strict=True):
            chain.add(_Piece(data, future))
            self._deadlines.append((deadline, future))
        # A task that was made but has not run yet will find this piece too.
        if chain.due() and not chain.starting:
            chain.starting = True
            task = asyncio.create_task(self._drain(chain))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)
        return futures

    def _partition(self, key: bytes) -> int:
        partitions = sorted(self._producer.client.cluster.partitions_for_topic(self._topic) or {0})
        return int(self._producer._partitioner(key, partitions, partitions))  # noqa: SLF001  the default one, as other producers use

    async def _drain(self, chain: _Chain) -> None:
        """Send one record after the other as long as one is due; the chain is forgotten when nothing is left of it."""
        chain.starting = False
        while chain.due():
            pieces = chain.take()
            chain.flying += 1
            live = [piece for piece in pieces if not piece.done.done()]
            if live:
                outcome = await self._send(chain, live)
                for piece in live:
                    if not piece.done.done():
                        piece.done.set_result(outcome)
            chain.flying -= 1
            self._count_bytes(chain.tenant_id, -sum(len(piece.data) for piece in pieces))
        if not chain.flying and not chain.waiting and not chain.starting:
            del self._chains[chain.name]

    async def _send(self, chain: _Chain, pieces: list[_Piece]) -> Outcome:
        value = join_record(chain.tenant_id, chain.client_id, datetime.now(UTC), [piece.data for piece in pieces])
        try:
            # The producer keeps the order in which records are handed over; the gate keeps ours up to there.
            async with chain.gate:
                sent = await self._producer.send(self._topic, value, key=chain.key, partition=chain.partition)
            await sent
        except KafkaError as error:
            log.warning("a record was not acknowledged", error=type(error).__name__, tenant_id=str(chain.tenant_id))
            return Outcome.UNKNOWN
        RECORDS_PUBLISHED.inc()
        return Outcome.ACKNOWLEDGED

    def _count_bytes(self, tenant_id: UUID, size: int) -> None:
        self._bytes += size
        left = self._tenant_bytes.get(tenant_id, 0) + size
        if left:
            self._tenant_bytes[tenant_id] = left
        else:
            self._tenant_bytes.pop(tenant_id, None)

    async def _expire(self) -> None:
        """Answer those whose deadline has passed. All have the same time limit, so the queue is in order."""
        while True:
            await asyncio.sleep(_DEADLINE_TICK_SECONDS)
            now = time.monotonic()
            while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] <= now):
                _, future = self._deadlines.popleft()
                if not future.done():
                    future.set_result(Outcome.UNKNOWN)


def _pieces(events: list[AcceptedEvent]) -> list[bytes]:
    """The events encoded, in pieces that each fit a record; a single event always does."""
    data = encode_events(events)
    if len(data) <= RECORD_LIMIT_BYTES or len(events) == 1:
        return [data]
    middle = len(events) // 2
    return _pieces(events[:middle]) + _pieces(events[middle:])
