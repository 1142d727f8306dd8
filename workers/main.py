"""Which workers there are, and running some of them in one process until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from typing import Any

import structlog
from prometheus_client import start_http_server

from app.settings import EveryWorkerSettings, MaintainSettings, ReplaySettings, WorkerSettings
from search.client import make_client
from workers import index, store
from workers.loop import Loop, Stream
from workers.maintain import maintain
from workers.replay import replay

log = structlog.get_logger()

WORKERS = ("store", "index", "maintain", "replay")


def settings_for(names: Sequence[str]) -> type[WorkerSettings]:
    """What a process that runs these workers has to be told."""
    if "maintain" in names:
        return EveryWorkerSettings if "replay" in names else MaintainSettings
    return ReplaySettings if "replay" in names else WorkerSettings


async def run_workers(names: Sequence[str], settings: WorkerSettings) -> None:
    """Run the named workers until SIGTERM or SIGINT; a batch that has begun is finished.

    Raises:
        ExceptionGroup: of LogMismatchError, the log is not the one that positions were kept for, or TopicError, there
            is none; all of them stop.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server, thread = start_http_server(settings.metrics_port, settings.metrics_host)
    log.info("workers start", workers=list(names), topic=settings.raw_topic)
    try:
        await run_until(names, settings, stopping)
    finally:
        server.shutdown()
        thread.join()
    log.info("workers stopped", workers=list(names))


async def run_until(names: Sequence[str], settings: WorkerSettings, stopping: asyncio.Event) -> None:
    """Run the named workers in this loop until `stopping` is set; `settings` are what `settings_for` asks for."""
    async with contextlib.AsyncExitStack() as stack:
        loops: list[Loop[Any]] = []
        for name in names:
            if name == "store":
                loops.append(Loop(_stream(name, settings), store.StoreStep(settings.raw_topic)))
            elif name == "index":
                client = make_client(settings.elasticsearch_url.get_secret_value())
                stack.push_async_callback(client.close)
                step = index.IndexStep(client, settings.index_prefix, settings.raw_topic)
                horizon = index.stored_positions(settings.group("store"), settings.raw_topic)
                loops.append(Loop(_stream(name, settings), step, horizon=horizon))
        async with asyncio.TaskGroup() as tasks:
            for loop in loops:
                tasks.create_task(loop.run(stopping))
            if isinstance(settings, MaintainSettings) and "maintain" in names:
                tasks.create_task(maintain(settings, stopping))
            if isinstance(settings, ReplaySettings) and "replay" in names:
                tasks.create_task(replay(settings, stopping))


def _stream(name: str, settings: WorkerSettings) -> Stream:
    return Stream(
        worker=name,
        group=settings.group(name),
        topic=settings.raw_topic,
        bootstrap=settings.kafka_bootstrap,
        postgres_url=settings.postgres_worker_url.get_secret_value(),
    )
