"""The `maintain` worker: once a second it goes on with tenants' deletions, once a minute it removes what has expired.

It reads no log. Owns when to run and its connections; what is removed is said by the modules that it calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import Redis

from app.database import create_engine
from app.metrics import WORKER_RETRIES
from search.client import make_client
from workers.connections import Connections
from workers.loop import backoff
from workers.purge import purge
from workers.tenant_deletion import TRANSIENT, Deletions

if TYPE_CHECKING:
    from app.settings import MaintainSettings

log = structlog.get_logger()

PAUSE_SECONDS = 1.0
PURGE_SECONDS = 60.0
SEARCH_TIMEOUT_SECONDS = 60.0
REDIS_TIMEOUT_SECONDS = 5.0


async def maintain(settings: MaintainSettings, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set. A server that is away is waited for; any number of processes may run this."""
    async with contextlib.AsyncExitStack() as stack:
        connections = Connections(settings)
        stack.push_async_callback(connections.close)
        engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
        stack.push_async_callback(engine.dispose)
        search = make_client(settings.elasticsearch_url.get_secret_value(), timeout=SEARCH_TIMEOUT_SECONDS)
        stack.push_async_callback(search.close)
        redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        )
        stack.push_async_callback(redis.aclose)
        deletions = Deletions(settings, connections, engine, search, redis)
        next_purge, attempt = 0.0, 0
        while not stopping.is_set():
            try:
                pause = 0.0 if await deletions.turn() else PAUSE_SECONDS
                if time.monotonic() >= next_purge:
                    removed = {table: count for table, count in (await purge(engine)).items() if count}
                    await deletions.sweep()
                    next_purge = time.monotonic() + PURGE_SECONDS
                    log.info("purged", **removed)
                attempt = 0
            except TRANSIENT as error:
                connections.drop()
                attempt += 1
                pause = backoff(attempt)
                WORKER_RETRIES.labels("maintain", type(error).__name__).inc()
                log.warning(
                    "trying again", worker="maintain", error=type(error).__name__, detail=str(error)[:200],
                    attempt=attempt, seconds=round(pause, 2),
                )  # fmt: skip
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)
