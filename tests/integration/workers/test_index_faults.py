"""The index worker when Elasticsearch takes some of a batch, or nothing: it waits, the store does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.events.record import AcceptedEvent, encode_events, join_record
from app.metrics import WORKER_RETRIES
from search.client import make_client
from search.verify import iter_event_ids
from tests.integration.reads.proxy import Relay
from tests.integration.workers.conftest import Bench, event, record
from tests.system import MadeTenant, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from elasticsearch import AsyncElasticsearch

APRIL, MAY = datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=UTC)


@pytest.fixture
async def search(bench: Bench) -> AsyncIterator[AsyncElasticsearch]:
    client = make_client(bench.settings.elasticsearch_url.get_secret_value())
    yield client
    await client.close()


def received(tenant: MadeTenant, at: datetime, *events: AcceptedEvent) -> bytes:
    """A record of the month whose slice of the index is to hold it."""
    return join_record(UUID(tenant.tenant_id), tenant.client_id, at, [encode_events(list(events))])


async def indexed(bench: Bench, search: AsyncElasticsearch, tenant: MadeTenant) -> list[str]:
    found = iter_event_ids(search, bench.settings.index_prefix, UUID(tenant.tenant_id))
    return sorted([event_id async for event_id in found])


async def retries() -> float:
    """How often index workers of this process have tried a batch again."""
    return sum(
        sample.value
        for metric in WORKER_RETRIES.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["worker"] == "index"
    )


async def test_of_one_batch_what_is_taken_refused_and_blocked_are_told_apart(
    bench: Bench, search: AsyncElasticsearch
) -> None:
    tenant = await bench.system.tenant()
    april = f"{bench.settings.index_prefix}-202604"
    await bench.put(0, received(tenant, APRIL, event("first")))
    async with bench.running("store", "index"):
        await until(lambda: indexed(bench, search, tenant), lambda found: found == ["first"])
    read_only = {"index.blocks.read_only_allow_delete": True}
    await search.indices.put_settings(index=april, settings=read_only)
    # Elasticsearch's dates end in 2262.
    far = event("refused", at=datetime(2300, 1, 1, tzinfo=UTC))
    await bench.put(0, received(tenant, MAY, event("taken"), far), received(tenant, APRIL, event("blocked")))
    before = await retries()
    async with bench.running("store", "index"):
        await until(retries, lambda count: count > before)
        await bench.put(0, received(tenant, MAY, event("later")))
        await until(lambda: bench.system.counted(tenant), lambda count: count == 5)  # the store goes on
        assert "blocked" not in await indexed(bench, search, tenant)
        await search.indices.put_settings(index=april, settings=dict.fromkeys(read_only))
        await until(
            lambda: indexed(bench, search, tenant), lambda found: found == ["blocked", "first", "later", "taken"]
        )
        (letter,) = await until(bench.dead_letters, bool)
    assert (letter["reason"], letter["record_index"]) == ("not indexable", 1)


async def test_elasticsearch_away_pauses_the_index_worker_and_not_the_store(
    bench: Bench, search: AsyncElasticsearch
) -> None:
    tenant = await bench.system.tenant()
    network = Relay(bench.settings.elasticsearch_url.get_secret_value())
    await network.mend()
    bench.settings = bench.settings.model_copy(update={"elasticsearch_url": SecretStr(network.url)})
    async with bench.running("store", "index"):
        await bench.put(0, record(tenant, event("1")))
        await until(lambda: indexed(bench, search, tenant), lambda found: found == ["1"])
        await network.cut()
        before = await retries()
        await bench.put(0, record(tenant, event("2")))
        await until(retries, lambda count: count >= before + 2)
        await bench.put(1, *(record(tenant, event(str(number))) for number in range(3, 8)))
        await until(lambda: bench.system.counted(tenant), lambda count: count == 7)
        assert await indexed(bench, search, tenant) == ["1"]
        await network.mend()
        await until(lambda: indexed(bench, search, tenant), lambda found: found == list("1234567"))
    await network.cut()
