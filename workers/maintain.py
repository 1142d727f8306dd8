"""The `maintain` worker: what has to be done from time to time and reads no log, each as a duty of its own.

Owns which duties there are, how often, and what they share. What is done is said by the modules that it calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from redis.asyncio import Redis

from app.database import create_engine
from search.client import make_client
from workers.connections import Connections
from workers.duties import Duty, keep
from workers.erasure import Erasures
from workers.letters import letter_duties
from workers.purge import purge
from workers.retention import Retention
from workers.sender import Sender
from workers.shards import Shards
from workers.tenant_deletion import Deletions

if TYPE_CHECKING:
    from app.settings import MaintainSettings

log = structlog.get_logger()

PURGE_SECONDS = 60.0
SHARDS_SECONDS = 0.5
SEARCH_TIMEOUT_SECONDS = 60.0
REDIS_TIMEOUT_SECONDS = 5.0


async def maintain(settings: MaintainSettings, stopping: asyncio.Event) -> None:
    """Do all duties until `stopping` is set; any number of processes may run this."""
    async with contextlib.AsyncExitStack() as stack:
        engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=2)
        stack.push_async_callback(engine.dispose)
        search = make_client(settings.elasticsearch_url.get_secret_value(), timeout=SEARCH_TIMEOUT_SECONDS)
        stack.push_async_callback(search.close)
        redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        )
        stack.push_async_callback(redis.aclose)
        sender = Sender(settings.kafka_bootstrap)
        stack.push_async_callback(sender.close)

        async def remove_expired() -> bool:
            removed = {table: count for table, count in (await purge(engine)).items() if count}
            log.info("purged", **removed)
            return False

        connections = [Connections(settings) for _ in range(6)]
        deletions = Deletions(settings, connections[0], engine, search, redis)
        late = Deletions(settings, connections[1], engine, search, redis)
        erasures = Erasures(settings, connections[3], engine, search, redis)
        retention = Retention(settings, connections[4], search)
        shards = Shards(settings, connections[5])
        async with asyncio.TaskGroup() as tasks:
            for duty in (
                Duty("deletion of tenants", deletions.turn, connections[0]),
                Duty("what came late for deleted tenants", late.sweep, connections[1], PURGE_SECONDS),
                Duty("what has expired", remove_expired, connections[2], PURGE_SECONDS),
                Duty("erasure of users", erasures.turn, connections[3]),
                Duty("retention", retention.turn, connections[4], PURGE_SECONDS),
                Duty("shards of tenants", shards.turn, connections[5], SHARDS_SECONDS),
                *letter_duties(settings, search, sender),
            ):
                tasks.create_task(keep(duty, stopping))
