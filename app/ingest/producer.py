"""The connection to Kafka's log: where a key belongs, and records handed over in order, each until its verdict.

A batch that Kafka refuses for good has used up sequence numbers: aiokafka's idempotent producer is then refused
everything else for that partition, for as long as it lives (tried: OutOfOrderSequenceNumber). So it is replaced by a
new one, once nothing is under way. Owns no deadline: what was handed over may take as long as it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.partitions import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()

CLOSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 2.0


class RefusedError(Exception):
    """The record was not acknowledged; it may be in the log all the same."""


class Producer:
    """`make` gives a new producer of aiokafka. `start` it inside the running loop."""

    def __init__(self, make: Callable[[], AIOKafkaProducer], topic: str) -> None:
        self._make = make
        self._topic = topic
        self._current = make()
        self._partitions = 1
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._sound = asyncio.Event()
        self._sound.set()
        self._mending: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Connect; raises `KafkaError` if no broker answers or there is no such topic."""
        try:
            await self._current.start()
            self._partitions = len(await self._current.partitions_for(self._topic))
        except KafkaError:
            await self._current.stop()
            raise

    async def stop(self) -> None:
        """Let go of the connection; what Kafka has not acknowledged by now has no verdict."""
        self._stopping = True
        if self._mending is not None:
            # aiokafka leaves a connection open where it is cancelled while connecting.
            await asyncio.wait({self._mending}, timeout=CLOSE_SECONDS)
            self._mending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._mending
        await _close(self._current)

    async def answers(self) -> bool:
        """True if a broker answered just now."""
        try:
            await asyncio.wait_for(self._current.client.fetch_all_metadata(), 2)
        except (TimeoutError, KafkaError):
            return False
        return True

    def partition(self, key: bytes) -> int:
        """Where `key` belongs. A broker that comes back may know only some partitions for a moment, or none: then the
        number known before holds, as a key that moved would lose its order.
        """
        told = self._current.client.cluster.partitions_for_topic(self._topic)
        self._partitions = max(self._partitions, len(told or ()))
        return partition_of(key, self._partitions)

    async def send(self, partition: int, key: bytes, value: bytes, gate: asyncio.Lock) -> None:
        """Returns when Kafka has the record safe. Who shares `gate` is sent in the order in which it was asked for.

        Raises:
            RefusedError: there is no acknowledgement, and there won't be.
        """
        try:
            async with gate:
                await self._sound.wait()
                verdict = await self._hand_over(partition, key, value)
        # aiokafka asserts that the partition is there: with a broker that has just come back it may not be yet.
        except (KafkaError, AssertionError, TypeError) as error:
            raise RefusedError(type(error).__name__) from error
        try:
            await verdict
        except KafkaError as error:
            raise RefusedError(type(error).__name__) from error

    async def _hand_over(self, partition: int, key: bytes, value: bytes) -> asyncio.Future[object]:
        self._under_way += 1
        self._idle.clear()
        try:
            verdict: asyncio.Future[object] = await self._current.send(self._topic, value, key=key, partition=partition)
        except BaseException:  # however the hand-over ended, a cancelled one too: it is under way no more; raised on
            self._one_less()
            raise
        verdict.add_done_callback(self._heard)
        return verdict

    def _heard(self, verdict: asyncio.Future[object]) -> None:
        self._one_less()
        if not verdict.cancelled() and verdict.exception() is not None and self._sound.is_set() and not self._stopping:
            self._sound.clear()
            self._mending = asyncio.create_task(self._mend())

    def _one_less(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def _mend(self) -> None:
        """Replace the producer. New records wait meanwhile; those under way end first, so that none overtakes."""
        await self._idle.wait()
        await _close(self._current)
        for attempt in range(10**9):
            new = self._make()
            try:
                await new.start()
            except (Exception, asyncio.CancelledError) as error:  # whatever it is: without a producer nothing is taken
                await _close(new)
                if isinstance(error, asyncio.CancelledError):
                    raise
                pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(attempt, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  only so that processes part
            else:
                break
        self._current = new
        self._sound.set()
        log.warning("the producer was replaced, as Kafka had refused a record")


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
    except Exception as error:  # noqa: BLE001  it is left behind, however it ends
        log.warning("the producer did not stop cleanly", error=type(error).__name__)
