"""Workers that run a turn when a test says so, and a network to PostgreSQL that breaks around a commit.

Kafka, PostgreSQL and Elasticsearch are real, and so is `workers.loop`. Only who owns which partition is the test's to
say: a consumer here is given them, where a group would assign them in its own time.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from aiokafka import AIOKafkaConsumer, TopicPartition

from workers import index, store
from workers.loop import Loop, Stream
from workers.topic import identify

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

    from app.settings import WorkerSettings

Kind = Literal["store", "index"]
When = Literal["before", "after"]


@dataclass(frozen=True)
class Worker:
    """A worker that owns all partitions, as it believes: another one may too."""

    loop: Loop[Any]
    consumer: AIOKafkaConsumer

    @classmethod
    async def made(cls, kind: Kind, settings: WorkerSettings, url: str, search: AsyncElasticsearch) -> Self:
        """Connected to Kafka, and about to claim. `url` is PostgreSQL's."""
        topic = settings.raw_topic
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False, auto_offset_reset="none"
        )
        await consumer.start()
        stream = Stream(kind, settings.group(kind), topic, settings.kafka_bootstrap, url, poll_seconds=0.01)
        loop: Loop[Any]
        if kind == "store":
            loop = Loop(stream, store.StoreStep(topic))
        else:
            step = index.IndexStep(search, settings.index_prefix, topic)
            loop = Loop(stream, step, horizon=index.stored_positions(settings.group("store"), topic))
        loop._identity = await identify(settings.kafka_bootstrap, topic)
        consumer.assign([TopicPartition(topic, number) for number in range(settings.topic_partitions)])
        loop._generation.number += 1
        return cls(loop, consumer)

    async def turn(self) -> None:
        """One round of its loop, faults included."""
        await self.loop._turn(self.consumer)

    async def crash(self) -> None:
        """The process is gone, and the system has closed what it had open."""
        if self.loop._connection is not None:
            self.loop._connection.terminate()
        await self.consumer.stop()


class BreakingNetwork:
    """A relay to the server of `url` that ends a connection just before or just after its next commit, once told so."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.breaks: When | None = None

    async def open(self) -> str:
        """Relay from now on; returns the same login and database, through here."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1")
        port = self._server.sockets[0].getsockname()[1]
        login = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()

    async def close(self) -> None:
        """End all connections and accept no more."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        silenced = asyncio.Event()
        ways = [
            asyncio.create_task(self._to_server(reader, back, silenced)),
            asyncio.create_task(_to_client(there, writer, silenced)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (back, writer):
                end.close()
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()

    async def _to_server(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, silenced: asyncio.Event
    ) -> None:
        while chunk := await source.read(65536):
            if self.breaks is not None and b"COMMIT;" in chunk:
                when, self.breaks = self.breaks, None
                if when == "before":
                    return
                silenced.set()
            sink.write(chunk)
            await sink.drain()


async def _to_client(source: asyncio.StreamReader, sink: asyncio.StreamWriter, silenced: asyncio.Event) -> None:
    """Once silenced, the answer that comes is the commit's: it is kept back, and the connection ends."""
    while chunk := await source.read(65536):
        if silenced.is_set():
            return
        sink.write(chunk)
        await sink.drain()
