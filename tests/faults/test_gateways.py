"""Gateways whose Kafka is frozen, that are told to stop in the middle of it, or whose tenant moves to other shards."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import msgspec
import pytest_asyncio

from app.events.record import AcceptedEvent
from app.ingest.publish import Outcome, Publisher
from deploy.local.ports import Ports
from deploy.local.servers import Endpoints, Given, LocalServers
from tests.system import TLS, MadeTenant, System, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PRODUCE_SECONDS = 1
IN_FLIGHT = 30
USERS = 12


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kafka(open_folder: Path, endpoints: Endpoints) -> AsyncIterator[LocalServers]:
    """A Kafka of our own, to be frozen; the other servers are the run's."""
    given = Given(endpoints.postgres_url, endpoints.redis_url, None, endpoints.elasticsearch_url)
    own = LocalServers(open_folder / "frozen", ports=Ports.free(), given=given, report=print)
    await own.start()
    try:
        yield own
    finally:
        await own.discard()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateways(kafka: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Two API processes that give up on Kafka after a second, and a store worker."""
    made = await System.create(
        kafka.endpoints, tmp_path_factory.mktemp("gateways"), PRODUCE_TIMEOUT_SECONDS=str(PRODUCE_SECONDS)
    )
    try:
        await made.start("api", "api-2", "store")
        yield made
    finally:
        made.stop()


@contextmanager
def frozen(kafka: LocalServers) -> Iterator[None]:
    pid = kafka.pid("kafka")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_while_kafka_is_frozen_a_publisher_keeps_what_was_handed_over_and_nothing_else(
    kafka: LocalServers, gateways: System
) -> None:
    """However long it lasts: small events, so that what is kept beside their bytes would show."""
    publisher = Publisher(kafka.endpoints.kafka_bootstrap, gateways.topic, timeout_seconds=0.4, pending_bytes=2**20)
    await publisher.start()
    tenants = [uuid4() for _ in range(5)]
    event = AcceptedEvent("e", "t", datetime(2026, 5, 4, tzinfo=UTC), msgspec.Raw(b"{}"))

    async def handed_over() -> tuple[int, int, int]:
        """Bytes, pieces that wait for a deadline, and pieces that wait for their turn."""
        waiting = sum(len(chain.waiting) for chain in publisher._chains.values())
        return publisher._bytes, len(publisher._deadlines), waiting

    kept = []
    try:
        with frozen(kafka):
            for _ in range(3):
                futures = [publisher.publish(tenant, "c", 1, [event])[0] for tenant in tenants for _ in range(300)]
                outcomes = await asyncio.wait_for(asyncio.gather(*futures), 10)
                assert set(outcomes) <= {Outcome.UNKNOWN, Outcome.NOT_TAKEN}
                kept.append((await until(handed_over, lambda seen: seen[1:] == (0, 0)))[0])
            # One record of each tenant is with Kafka's client, which never gives up: that of the first round.
            assert kept[0] > 0
            assert kept == [kept[0]] * 3
        await until(handed_over, lambda seen: seen == (0, 0, 0))
        assert (publisher._chains, publisher._tenant_bytes) == ({}, {})
        assert await publisher.publish(tenants[0], "c", 1, [event])[0] is Outcome.ACKNOWLEDGED
    finally:
        await publisher.stop()


async def at_rest(system: System, tenant: MadeTenant) -> int:
    """The shards in force; 0 while the tenant is about to leave them."""
    (row,) = await system.fetch(
        "select case when drain_started_at is null then shards else 0 end from tenants where tenant_id = $1",
        tenant.tenant_id,
    )
    return int(row[0])


async def test_while_its_tenant_moves_a_request_waits_and_one_that_waits_too_long_is_not_taken(
    gateways: System,
) -> None:
    tenant = await gateways.tenant()
    begin = "update tenants set drain_started_at = now() - $2::interval where tenant_id = $1"
    events = [{"event_type": "t", "event_id": "named"}, {"event_type": "t"}]

    async with gateways.client(tenant) as client:

        async def batch() -> httpx.Response:
            return await client.post("/api/v1/events/batch", json=events)

        assert (await batch()).status_code == 202
        await gateways.fetch(begin, tenant.tenant_id, timedelta())
        refused = await until(batch, lambda answer: answer.status_code == 503)
        problem = refused.json()
        assert "none of these events was taken" in problem["detail"]
        assert problem["event_ids"][0] == "named"
        assert len(problem["event_ids"]) == 2
        assert int(refused.headers["retry-after"]) >= 1

        waiting = asyncio.create_task(batch())
        await asyncio.sleep(0)
        await gateways.fetch("update tenants set drain_started_at = null where tenant_id = $1", tenant.tenant_id)
        answer = await waiting
        assert answer.status_code in {202, 503}  # 503 only on a machine too slow to look within a second
        await until(batch, lambda answer: answer.status_code == 202)

        # Whoever was to end it has died.
        await gateways.fetch(begin, tenant.tenant_id, timedelta(seconds=61))
        for _ in range(5):
            assert (await batch()).status_code == 202


@dataclass
class Crowd:
    """Users who each send the next event, through another gateway, as soon as the last was acknowledged."""

    clients: list[httpx.AsyncClient]
    acknowledged: Counter[str] = field(default_factory=Counter)
    enough: bool = False

    async def user(self, name: str) -> None:
        for number, client in zip(itertools.count(), itertools.cycle(self.clients)):
            event = {"event_type": "t", "user_id": name, "event_id": f"{name}-{number}", "metadata": {"n": number}}
            while (answer := await client.post("/api/v1/events", json=event)).status_code == 503:
                pass  # the same again, at once: the gateways take their time to refuse
            assert answer.status_code == 202, answer.text
            self.acknowledged[name] += 1
            if self.enough:
                return

    async def goes_on(self) -> None:
        """Until they have sent twenty more each, or so."""
        least = self.acknowledged.total() + 20 * USERS
        await until(self._total, lambda total: total > least)

    async def _total(self) -> int:
        return self.acknowledged.total()


async def move(system: System, tenant: MadeTenant, crowd: Crowd, shards: int) -> None:
    """Give the tenant's plan so many shards, and see it move there; then nothing is stored for a while.

    What should have been stored before the move was over would now be stored too late.
    """
    await system.fetch("update plans set shards = $1 where plan_id = 'standard'", shards)
    await until(lambda: at_rest(system, tenant), lambda seen: seen == shards)
    store = system.processes["store"]
    store.send_signal(signal.SIGSTOP)
    try:
        await crowd.goes_on()
    finally:
        store.send_signal(signal.SIGCONT)


async def test_a_user_s_events_stay_in_order_while_the_tenant_moves_to_other_shards_under_load(
    gateways: System, *, long_form: bool
) -> None:
    tenant = await gateways.tenant()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(gateways.client(tenant, of=of)) for of in ("api", "api-2")]
        crowd = Crowd(clients)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for number in range(USERS):
            tasks.create_task(crowd.user(f"u{number}"))
        await gateways.start("maintain")
        for shards in (4, 1, 8, 3, 1) if long_form else (4,):
            await crowd.goes_on()
            await move(gateways, tenant, crowd, shards)
        crowd.enough = True
    gateways.kill("maintain")
    await until(lambda: gateways.counted(tenant), lambda count: count == crowd.acknowledged.total())
    rows = await gateways.fetch(
        """
        select user_id, (metadata->>'n')::int as n, source_partition, xmin::text::bigint as stored_by
        from events where tenant_id = $1 order by xmin::text::bigint, source_offset
        """,
        tenant.tenant_id,
    )
    assert len({row["source_partition"] for row in rows}) > 1
    for name, count in crowd.acknowledged.items():
        theirs = [row for row in rows if row["user_id"] == name]
        assert [row["n"] for row in theirs] == list(range(count)), name
        for earlier, later in itertools.pairwise(theirs):
            # Two partitions in one transaction would be in order by chance.
            if earlier["source_partition"] != later["source_partition"]:
                assert earlier["stored_by"] < later["stored_by"], (name, earlier["n"])


async def under_way(system: System, client: httpx.AsyncClient) -> list[asyncio.Task[httpx.Response]]:
    """Requests with single events that have come as far as waiting for Kafka."""
    before = await pending(system)
    answers = [
        asyncio.create_task(client.post("/api/v1/events", json={"event_type": "t", "event_id": f"e{number}"}))
        for number in range(IN_FLIGHT)
    ]
    # An event is more than 60 bytes, so that fewer requests can't be so many.
    await until(lambda: pending(system), lambda size: size > before + 60 * IN_FLIGHT)
    return answers


async def pending(system: System) -> float:
    async with httpx.AsyncClient(verify=TLS) as plain:
        page = await plain.get(f"http://127.0.0.1:{system.environment['SLUICE_METRICS_PORT']}/metrics")
    return next(float(line.split()[1]) for line in page.text.splitlines() if line.startswith("sluice_publish_pending"))


async def test_a_gateway_told_to_stop_while_kafka_is_frozen_answers_all_and_ends_in_time(
    kafka: LocalServers, gateways: System
) -> None:
    async with gateways.client(await gateways.tenant()) as client:
        with frozen(kafka):
            answers = await under_way(gateways, client)
            process = gateways.processes.pop("api")
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            statuses = [(await answer).status_code for answer in answers]
            assert await asyncio.to_thread(process.wait, 30) == 0
            assert time.monotonic() - began < 10  # before a container would be killed
    assert statuses == [503] * IN_FLIGHT


async def test_a_gateway_told_to_stop_under_load_has_stored_all_that_it_answered_202(
    kafka: LocalServers, gateways: System
) -> None:
    gateways.environment["SLUICE_PRODUCE_TIMEOUT_SECONDS"] = "10"
    await gateways.start("api")
    tenant = await gateways.tenant()
    async with gateways.client(tenant) as client:
        with frozen(kafka):
            answers = await under_way(gateways, client)
            process = gateways.processes.pop("api")
            process.send_signal(signal.SIGTERM)
        assert [(await answer).status_code for answer in answers] == [202] * IN_FLIGHT
        assert await asyncio.to_thread(process.wait, 30) == 0
    await until(lambda: gateways.counted(tenant), lambda count: count == IN_FLIGHT)
