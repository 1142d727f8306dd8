"""Sending to Kafka for duties: a producer that is made when it is needed, and says of each message what became of it.

Not the gateway's: nobody waits for an answer here, so a message that is not acknowledged in time fails by itself, and
its sender sends it again; at least once, then. Refuses to know what is sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from workers.topic import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 10.0


class Message(NamedTuple):
    """A record to be: the producer's partitioner places it by its key, as it does for the gateway's."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Sender:
    """One producer, connected at the first use and again after a fault of the connection."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def send(self, topic: str, messages: Sequence[Message]) -> list[bool]:
        """Send all of them and wait for Kafka; False for each that is too large to be ever taken.

        Raises:
            KafkaError, TimeoutError: not all were acknowledged in time; some may have been.
        """
        producer = await self._started()
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            sent = [await self._begin(producer, topic, message) for message in messages]
            outcomes = await asyncio.gather(*(future for future in sent if future is not None), return_exceptions=True)
        verdicts = iter(outcomes)
        taken = []
        for future in sent:
            outcome = MessageSizeTooLargeError() if future is None else next(verdicts)
            if isinstance(outcome, BaseException) and not isinstance(outcome, MessageSizeTooLargeError):
                raise outcome
            taken.append(not isinstance(outcome, MessageSizeTooLargeError))
        return taken

    async def close(self) -> None:
        """Let go, after whatever is under way was acknowledged or has failed."""
        if self._producer is not None:
            await self._producer.stop()

    @staticmethod
    async def _begin(producer: AIOKafkaProducer, topic: str, message: Message) -> asyncio.Future[object] | None:
        try:
            future: asyncio.Future[object] = await producer.send(
                topic, message.value, key=message.key, headers=list(message.headers)
            )
        except MessageSizeTooLargeError:
            return None
        return future

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    max_request_size=MAX_RECORD_BYTES,
                    request_timeout_ms=int(PATIENCE_SECONDS * 1000),
                )
                try:
                    await producer.start()
                except KafkaError:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
