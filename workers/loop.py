"""The consumer loop: poll, claim, pause, retry, commit. It knows Kafka and positions, and no domain.

A step first prepares a batch, without a server and while the one before is being written. Then it is handed a
connection inside a transaction whose first statement moved the positions: it returns and all of it is
committed, or it raises and nothing happened. Poison is the step's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError

from app.database import connect
from app.metrics import WORKER_BATCH_SECONDS, WORKER_FRESHNESS, WORKER_RECORDS, WORKER_RETRIES
from workers.offsets import Claim, FencedError, LogMismatchError, advance, claim
from workers.topic import TopicIdentity, identify

log = structlog.get_logger()

Work = TypeVar("Work")
Horizon = Callable[[asyncpg.Connection], Awaitable[dict[int, int]]]


class Step(Protocol[Work]):
    """What a worker does with records; see the module's text for when each half is called."""

    def prepare(self, records: Sequence[ConsumerRecord]) -> Work:
        """All that needs no server. Pure, and called in a thread."""
        ...

    async def apply(self, connection: asyncpg.Connection, work: Work) -> None:
        """Write it. Raise a transient error to have the same batch applied again."""
        ...


@dataclass(frozen=True)
class _Batch(Generic[Work]):
    """Records in the order of their partitions, prepared. `to` is the position after them."""

    records: list[ConsumerRecord]
    to: dict[int, int]
    work: Work


class RetryLaterError(Exception):
    """A server the step needs does not answer; the same batch is tried again after a pause."""


TRANSIENT = (
    RetryLaterError,
    KafkaError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says of a connection that ends in the middle of a commit
    OSError,
    TimeoutError,
)
"""A server is away or says no: nothing was committed, so the same batch is tried again, for as long as it takes."""


_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Stream:
    """What to read and as whom. `max_batch_bytes` of record values make one transaction."""

    worker: str
    group: str
    topic: str
    bootstrap: str
    postgres_url: str
    max_batch_bytes: int = 2 * 2**20
    poll_seconds: float = 0.1
    session_timeout_seconds: float = 6.0


def backoff(attempt: int) -> float:
    """Seconds before try `attempt` (from 1): doubling from 0.1 to 5, half of it random."""
    ceiling = min(5.0, 0.1 * 2 ** min(attempt - 1, 10))
    return float(ceiling / 2 + random.uniform(0, ceiling / 2))  # noqa: S311  spreading load, not a secret


class _Generation(ConsumerRebalanceListener):  # type: ignore[misc]
    """Counts assignments and does nothing else: a callback that read positions itself would let records that were
    fetched before through, and its exceptions are swallowed by the client.
    """

    def __init__(self) -> None:
        self.number = 0

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002
        self.number += 1

    async def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self.number += 1


class Loop(Generic[Work]):
    """One worker. `horizon`, where given, tells how far each partition may be handled yet."""

    def __init__(self, stream: Stream, step: Step[Work], *, horizon: Horizon | None = None) -> None:
        self._stream = stream
        self._step = step
        self._horizon = horizon
        self._generation = _Generation()
        self._claimed_generation = -1
        self._claims: dict[int, Claim] = {}
        self._buffers: dict[int, deque[ConsumerRecord]] = {}
        self._connection: asyncpg.Connection | None = None
        self._identity: TopicIdentity | None = None
        self._next: _Batch[Work] | None = None
        self._attempt = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set; a batch that has begun is finished.

        Raises:
            LogMismatchError: the log is not the one that positions were kept for.
        """
        stream = self._stream
        consumer = AIOKafkaConsumer(
            bootstrap_servers=stream.bootstrap,
            group_id=stream.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(stream.session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(stream.session_timeout_seconds * 1000 / 4),
            max_partition_fetch_bytes=4 * 2**20,
            fetch_max_bytes=16 * 2**20,
        )
        consumer.subscribe([stream.topic], listener=self._generation)
        await self._start(consumer, stopping)
        try:
            while not stopping.is_set():
                await self._turn(consumer)
        finally:
            with contextlib.suppress(TimeoutError):  # it says goodbye to its group, which a frozen Kafka does not hear
                await asyncio.wait_for(consumer.stop(), _STOP_SECONDS)
            if self._connection is not None:
                await self._connection.close(timeout=2)

    async def _start(self, consumer: AIOKafkaConsumer, stopping: asyncio.Event) -> None:
        """Kafka may come up after the worker; until then say so and try again."""
        attempt = 0
        while not stopping.is_set():
            try:
                self._identity = await identify(self._stream.bootstrap, self._stream.topic)
                await consumer.start()
            except (KafkaError, OSError, TimeoutError) as error:
                attempt += 1
                log.warning("Kafka does not answer", worker=self._stream.worker, error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), backoff(attempt))
            else:
                return

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        """One round: be sure of what is ours, poll, and handle what may be handled. Faults end in a pause."""
        try:
            await self._claim_what_is_ours(consumer)
            await self._poll(consumer)
            if any(self._buffers.values()):
                await self._handle()
            self._attempt = 0
        except FencedError as error:
            log.info("a partition went to another worker", worker=self._stream.worker, partition=str(error))
            WORKER_RETRIES.labels(self._stream.worker, "fenced").inc()
            self._forget()
        except asyncpg.DeadlockDetectedError:
            WORKER_RETRIES.labels(self._stream.worker, "deadlock").inc()
        except KafkaError as error:
            # The log may have lost what comes next, or be another one: both show when partitions are claimed anew.
            self._claimed_generation = -1
            await self._pause(consumer, error)
        except TRANSIENT as error:
            await self._pause(consumer, error)

    async def _claim_what_is_ours(self, consumer: AIOKafkaConsumer) -> None:
        if self._claimed_generation == self._generation.number:
            return
        generation = self._generation.number
        self._claims.clear()
        self._buffers.clear()
        self._next = None
        assert self._identity is not None  # noqa: S101  known since the start
        assigned = sorted(consumer.assignment())
        # Also with no partition: so it is when the topic was deleted, and the client would wait in silence for ever.
        identity = await identify(self._stream.bootstrap, self._stream.topic)
        if identity != self._identity:
            raise LogMismatchError(f"{self._stream.topic} was made again: it was {self._identity}, and is {identity}")
        if assigned:
            connection = await self._database()
            for tp in assigned:
                log_of = functools.partial(_bounds, consumer, tp)
                held = await claim(connection, self._stream.group, tp.topic, tp.partition, self._identity, log_of)
                if generation != self._generation.number:
                    return  # moved meanwhile: the next round claims again
                # Records fetched before are dropped by the seek; those that still come are dropped in `_poll`.
                consumer.seek(tp, held.next_offset)
                self._claims[tp.partition] = held
                self._buffers[tp.partition] = deque()
            log.info("partitions claimed", worker=self._stream.worker, partitions=sorted(self._claims))
        self._claimed_generation = generation

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Fill the buffers. A full one is paused, so that Kafka's client holds no more for it."""
        full = [p for p, buffer in self._buffers.items() if _bytes(buffer) >= self._stream.max_batch_bytes]
        assignment = consumer.assignment()
        consumer.pause(
            *(
                TopicPartition(self._stream.topic, p)
                for p in full
                if TopicPartition(self._stream.topic, p) in assignment
            )
        )
        try:
            fetched = await consumer.getmany(timeout_ms=self._patience_ms(), max_records=2000)
        except NoOffsetForPartitionError:
            # Kafka keeps no position for this group; the claim's seek gives it.
            self._claimed_generation = -1
            return
        finally:
            consumer.resume(*(tp for tp in consumer.paused() if tp in consumer.assignment()))
        if self._claimed_generation != self._generation.number:
            return
        for tp, records in fetched.items():
            held = self._claims.get(tp.partition)
            if held is None:
                continue
            buffer = self._buffers[tp.partition]
            expected = buffer[-1].offset + 1 if buffer else held.next_offset
            # Offsets may have gaps (control records), never go back: what is older was handled already.
            buffer.extend(record for record in records if record.offset >= expected)

    def _patience_ms(self) -> int:
        """How long to wait for records that are not there yet: not at all where there is work."""
        if not any(self._buffers.values()):
            return int(self._stream.poll_seconds * 1000)
        # With a horizon the work may not be due yet; then this is the pause before looking at it again.
        return 20 if self._horizon is not None and self._next is None else 0

    async def _handle(self) -> None:
        """Commit a batch, and prepare the one after it meanwhile."""
        limits = await self._horizon(await self._database()) if self._horizon is not None else None
        batch = self._next or await self._prepared({}, limits)
        if batch is None:
            return
        self._next = batch  # if this fails, it is what is tried again
        _, following = await asyncio.gather(self._commit(batch), self._prepared(batch.to, limits))
        self._next = following

    async def _prepared(self, after: dict[int, int], limits: dict[int, int] | None) -> _Batch[Work] | None:
        """The next batch beyond the positions `after` and before `limits`, if there is one."""
        records = self._due(after, limits)
        if not records:
            return None
        to = {record.partition: record.offset + 1 for record in records}
        return _Batch(records, to, await asyncio.to_thread(self._step.prepare, records))

    def _due(self, after: dict[int, int], limits: dict[int, int] | None) -> list[ConsumerRecord]:
        """The oldest records of each partition, an equal share of the batch's bytes for each that has any.

        So a partition that is never empty can't keep another's records waiting.
        """
        active = [partition for partition in sorted(self._buffers) if self._buffers[partition]]
        batch: list[ConsumerRecord] = []
        size = 0
        for number, partition in enumerate(active, 1):
            share = self._stream.max_batch_bytes * number // len(active)
            first, end = after.get(partition, 0), limits.get(partition, 0) if limits is not None else None
            taken = False
            for record in self._buffers[partition]:
                if record.offset < first:
                    continue
                length = len(record.value or b"")
                if (end is not None and record.offset >= end) or (taken and size + length > share):
                    break
                batch.append(record)
                size += length
                taken = True
        return batch

    async def _commit(self, batch: _Batch[Work]) -> None:
        started = time.perf_counter()
        connection = await self._database()
        async with connection.transaction():
            await advance(connection, self._stream.group, self._stream.topic, self._claims, batch.to)
            await self._step.apply(connection, batch.work)
        for partition, offset in batch.to.items():
            self._claims[partition] = replace(self._claims[partition], next_offset=offset)
            buffer = self._buffers[partition]
            while buffer and buffer[0].offset < offset:
                buffer.popleft()
        WORKER_RECORDS.labels(self._stream.worker).inc(len(batch.records))
        WORKER_BATCH_SECONDS.labels(self._stream.worker).observe(time.perf_counter() - started)
        oldest = min(record.timestamp for record in batch.records)
        WORKER_FRESHNESS.labels(self._stream.worker).observe(max(0.0, time.time() - oldest / 1000))

    async def _pause(self, consumer: AIOKafkaConsumer, error: Exception) -> None:
        """Wait with partitions paused, still polling, so that the group does not take us for dead."""
        self._attempt += 1
        wait = backoff(self._attempt)
        WORKER_RETRIES.labels(self._stream.worker, type(error).__name__).inc()
        log.warning(
            "trying again", worker=self._stream.worker, error=type(error).__name__, detail=str(error)[:200],
            attempt=self._attempt, seconds=round(wait, 2),
        )  # fmt: skip
        if self._connection is not None and not isinstance(error, RetryLaterError):
            self._connection.terminate()
            self._connection = None
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            consumer.pause(*consumer.assignment())
            try:
                await consumer.getmany(timeout_ms=int(min(left, 0.5) * 1000) + 1)
            except KafkaError:  # Kafka is what is away, or gives no position: only the wait matters here
                await asyncio.sleep(min(left, 0.1))
        consumer.resume(*(tp for tp in consumer.paused() if tp in consumer.assignment()))

    def _forget(self) -> None:
        self._claims.clear()
        self._buffers.clear()
        self._next = None
        self._claimed_generation = -1

    async def _database(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._stream.postgres_url, name=f"sluice {self._stream.worker}")
        return self._connection


async def _bounds(consumer: AIOKafkaConsumer, tp: TopicPartition) -> tuple[int, int]:
    """The first and the next offset of the log, now."""
    first, end = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
    return first[tp], end[tp]


def _bytes(buffer: Iterable[ConsumerRecord]) -> int:
    return sum(len(record.value or b"") for record in buffer)
