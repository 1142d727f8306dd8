"""What is broken on purpose. Each cause begins and ends by itself; what must be true while it lasts is in `meanwhile`.

Returns the moment at which it ended: a process that was killed can be started again at once, a server that was
stopped when it is started. Refuses to judge the events: `ground` counts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from tests.faults.ground import Ground
from tests.faults.meanwhile import anything, without_elasticsearch, without_kafka, without_postgres, without_redis
from tests.faults.poison import poison
from tests.faults.traffic import Traffic
from tests.system import TLS

LONG_SECONDS = 20.0
SHORT_SECONDS = 1.0

Happening = Callable[[Ground, Traffic], Awaitable[float]]
Meanwhile = Callable[[Ground, Traffic], Awaitable[None]]


@dataclass(frozen=True)
class Cause:
    """`brief`: also in the short form of the suite."""

    name: str
    happen: Happening
    brief: bool = False


async def nothing(_ground: Ground, _traffic: Traffic) -> float:
    """For comparison: how long an event takes from being sent to being found."""
    return time.monotonic()


def killed(*names: str) -> Happening:
    """`kill -9` of processes of ours."""

    async def happen(ground: Ground, _traffic: Traffic) -> float:
        for name in names:
            ground.system.kill(name)
        ended = time.monotonic()
        await ground.system.start(*names)
        return ended

    return happen


def servers_killed(*names: str, meanwhile: Meanwhile = anything) -> Happening:
    """`kill -9` of servers, which their supervisor starts again; `meanwhile` says what is true while the first is away,
    before the others die too.
    """

    async def happen(ground: Ground, traffic: Traffic) -> float:
        for name in names:
            # The biggest process and the one that was started: a launcher is not its server, a server's child not it.
            for pid in {ground.servers.pid(name), ground.servers.supervisor.record(name).pid}:
                with contextlib.suppress(ProcessLookupError):  # it may end with the other
                    os.kill(pid, signal.SIGKILL)
            ended = time.monotonic()
            if name == names[0]:
                await meanwhile(ground, traffic)
        return ended

    return happen


def stopped(name: str, meanwhile: Meanwhile) -> Happening:
    """A server is stopped, cleanly, and started after a while; `meanwhile` says what is true without it."""

    async def happen(ground: Ground, traffic: Traffic) -> float:
        began = time.monotonic()
        await ground.servers.stop_server(name)
        try:
            await meanwhile(ground, traffic)
            await _lasting(ground, began)
        finally:
            ended = time.monotonic()
            await ground.servers.start_server(name)
        return ended

    return happen


async def kafka_frozen(ground: Ground, traffic: Traffic) -> float:
    """SIGSTOP for longer than the gateway waits for an acknowledgement."""
    pid = ground.servers.pid("kafka")
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        await without_kafka(ground, traffic)
        await _lasting(ground, began)
    finally:
        os.kill(pid, signal.SIGCONT)
    return time.monotonic()


async def workers_join_and_leave(ground: Ground, _traffic: Traffic) -> float:
    """Two more store workers get partitions; one leaves as it should, the other is killed."""
    async with ground.another("store-2", "store-3"):
        await ground.leave("store-2")
        ground.system.kill("store-3")
        return time.monotonic()


async def store_frozen(ground: Ground, _traffic: Traffic) -> float:
    """A store worker sleeps past its session's time-out, another takes over, and the first wakes up in the middle."""
    async with ground.another("store-2"):
        asleep = ground.system.processes["store"]
        heir, own = ground.mark("store-2"), ground.mark("store")
        asleep.send_signal(signal.SIGSTOP)
        try:
            await ground.says("store-2", '"partitions": [0, 1, 2, 3]', past=heir)
        finally:
            asleep.send_signal(signal.SIGCONT)
        ended = time.monotonic()
        await ground.claims("store", past=own)
    return ended


async def postgres_away_while_assigned(ground: Ground, _traffic: Traffic) -> float:
    """A worker joins while PostgreSQL is away, so all are given partitions and none can claim them."""
    past = {name: ground.mark(name) for name in ("store", "store-2")}
    await ground.servers.stop_server("postgres")
    try:
        await ground.system.start("store-2")
        for name, mark in past.items():
            await ground.says(name, '"trying again"', past=mark)
    finally:
        ended = time.monotonic()
        await ground.servers.start_server("postgres")
    await ground.claims("store-2", past=past["store-2"])
    await ground.leave("store-2")
    return ended


async def index_read_only(ground: Ground, _traffic: Traffic) -> float:
    """What Elasticsearch does to an index when the disk is nearly full."""
    past, began = ground.mark("index"), time.monotonic()
    await _block_writes(ground, blocked=True)
    try:
        await ground.says("index", '"trying again"', past=past)
        await _lasting(ground, began)
    finally:
        ended = time.monotonic()
        await _block_writes(ground, blocked=None)
    return ended


async def _block_writes(ground: Ground, *, blocked: bool | None) -> None:
    slices = f"{ground.system.environment['SLUICE_INDEX_PREFIX']}-*"
    async with httpx.AsyncClient(base_url=ground.system.endpoints.elasticsearch_url, verify=TLS) as plain:
        answer = await plain.put(f"/{slices}/_settings", json={"index.blocks.read_only_allow_delete": blocked})
        assert answer.status_code == 200, answer.text


async def _lasting(ground: Ground, began: float) -> None:
    """Until what began then has lasted for as long as this form of the suite wants."""
    left = began + (LONG_SECONDS if ground.long else SHORT_SECONDS) - time.monotonic()
    await asyncio.sleep(max(0.0, left))


ALL = (
    Cause("nothing", nothing, brief=True),
    Cause("kill -9 of API, store and index at once", killed("api", "store", "index"), brief=True),
    Cause("kill -9 of the API", killed("api")),
    Cause("kill -9 of the store worker", killed("store")),
    Cause("kill -9 of the index worker", killed("index")),
    Cause(
        "kill -9 of all four servers",
        servers_killed("elasticsearch", "kafka", "postgres", "redis", meanwhile=without_elasticsearch),
        brief=True,
    ),
    Cause("kill -9 of Kafka", servers_killed("kafka")),
    Cause("kill -9 of PostgreSQL", servers_killed("postgres")),
    Cause("kill -9 of Redis", servers_killed("redis")),
    Cause("kill -9 of Elasticsearch", servers_killed("elasticsearch", meanwhile=without_elasticsearch)),
    Cause("Kafka stopped", stopped("kafka", without_kafka)),
    Cause("PostgreSQL stopped", stopped("postgres", without_postgres), brief=True),
    Cause("Redis stopped", stopped("redis", without_redis), brief=True),
    Cause("Elasticsearch stopped", stopped("elasticsearch", without_elasticsearch)),
    Cause("Kafka frozen past the produce deadline", kafka_frozen, brief=True),
    Cause("two store workers join and leave", workers_join_and_leave),
    Cause("a store worker frozen past its session, and thawed", store_frozen),
    Cause("PostgreSQL away while partitions are assigned", postgres_away_while_assigned),
    Cause("the search index read-only", index_read_only, brief=True),
    Cause("poison and unstorable records by hand", poison, brief=True),
)
