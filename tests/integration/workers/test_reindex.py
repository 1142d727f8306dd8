"""`sluice reindex`: the index is built again while it is written and searched, and no search tells."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from app import index_repair
from app import reindex as reindexing
from app.cli import reindex as command
from app.reindex import ReindexError, Slice
from app.settings import VerifySettings
from search import execute
from search.bulk import bulk_write
from search.client import IndexUnavailable
from search.mapping import VERSION, ensure_template
from search.scope import scoped
from tests.integration.reads.proxy import Relay
from tests.integration.workers.conftest import Bench, event, record
from tests.integration.workers.upkeep import (
    a_row,
    agreeing,
    indexed_ids,
    record_at,
    reindexed,
    search_client,
    verified_one,
)
from tests.system import MadeTenant, until
from workers.search_rebuilds import RebuildActiveError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from elasticsearch import AsyncElasticsearch

MAY, MARCH = 202605, 202603
IN_MARCH = datetime(2026, 3, 9, tzinfo=UTC)
IDS = [f"e{n:03}" for n in range(240)]


@pytest.fixture
async def filled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> MadeTenant:
    """Events of two months, of two tenants; one of them is returned. Pages and rounds are small."""
    monkeypatch.setattr(reindexing, "PAGE", 20)
    tenant, other = await bench.system.tenant(), await bench.system.tenant()
    await bench.put(
        0,
        *(record(tenant, *(event(i) for i in IDS[start : start + 40])) for start in range(0, 200, 40)),
        record_at(tenant, IN_MARCH, *(event(i) for i in IDS[200:])),
        record(other, event("e001"), event("elsewhere")),
    )
    async with bench.running("store", "index"):
        await agreeing(bench, tenant, len(IDS))
        await agreeing(bench, other, 2)
    return tenant


async def names(bench: Bench) -> dict[str, list[str]]:
    """Each index with the aliases that it has."""
    async with search_client(bench) as client:
        found = await client.indices.get_alias(index=f"{bench.settings.index_prefix}*", expand_wildcards="all")
    return {name: sorted(about["aliases"]) for name, about in found.items()}


class Searcher:
    """Searches again and again for all of a tenant's events; each time all that were found before have to be found."""

    def __init__(self, bench: Bench, client: AsyncElasticsearch, tenant: MadeTenant, known: list[str]) -> None:
        self._prefix = bench.settings.index_prefix
        self._client = client
        self._tenant_id = UUID(tenant.tenant_id)
        self.seen = set(known)
        self.searches = 0

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            scope = scoped(self._tenant_id, size=5000, sort=({"event_id": "asc"},))
            answer = await execute.search(self._client, self._prefix, scope)
            found = [hit.source.event_id for hit in answer.hits.hits]
            assert len(found) == len(set(found)) == answer.hits.total.value, "a hit is doubled"
            assert self.seen <= set(found), f"missed {sorted(self.seen - set(found))[:5]}"
            self.seen |= set(found)
            self.searches += 1


async def test_searches_in_a_loop_miss_nothing_and_double_nothing_while_events_come_and_slices_are_exchanged(
    bench: Bench, filled: MadeTenant
) -> None:
    prefix = bench.settings.index_prefix
    sent = 0

    async def send(stopping: asyncio.Event) -> None:
        nonlocal sent
        while not stopping.is_set():
            await bench.put(sent % 4, record(filled, *(event(f"live{sent}-{n}") for n in range(5))))
            sent += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.1)

    stopping = asyncio.Event()
    async with search_client(bench) as client, bench.running("store", "index"):
        searchers = [Searcher(bench, client, filled, IDS) for _ in range(2)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send(stopping))
            for searcher in searchers:
                tasks.create_task(searcher.run(stopping))
            for _ in range(2):
                built = await reindexed(bench)
                assert [each.slice for each in built] == [MARCH, MAY]
                assert built[0].documents == 40
                # Each is one index, with both names of the slice that it replaced.
                now = await names(bench)
                assert sorted(now.values()) == [[prefix, f"{prefix}-{MARCH}"], [prefix, f"{prefix}-{MAY}"]]
                assert all(name.startswith(f"{prefix}.built") for name in now)
            stopping.set()
        found = await agreeing(bench, filled, len(IDS) + 5 * sent)
    assert found.found.doubled == 0
    assert sent > 0
    assert all(searcher.searches > 10 for searcher in searchers)


async def test_what_is_built_has_the_mapping_of_now_and_nothing_that_has_no_event(
    bench: Bench, filled: MadeTenant
) -> None:
    prefix = bench.settings.index_prefix
    async with search_client(bench) as client:
        # A slice as an earlier version made it, with a document that belongs nowhere.
        await client.indices.delete(index=f"{prefix}-{MARCH}")
        old = f"{prefix}-{MARCH}"
        await client.indices.create(index=old, mappings={"_meta": {"sluice_version": 1}}, aliases={prefix: {}})
        await bulk_write(client, prefix, [a_row(filled, "forged")])
        (march,) = await reindexed(bench, MARCH)
        assert (march.slice, march.documents, march.refused) == (MARCH, 40, 0)
        mapping = (await client.indices.get_mapping(index=old)).body
        assert [about["mappings"]["_meta"] for about in mapping.values()] == [{"sluice_version": VERSION}]
        settings = (await client.indices.get_settings(index=old)).body
        (of_march,) = (about["settings"]["index"] for about in settings.values())
        assert of_march["refresh_interval"] == "500ms"
        assert "forged" in await indexed_ids(bench, filled)
        await reindexed(bench, MAY)
        assert await indexed_ids(bench, filled) == IDS
        # An index that is lost altogether, name and all.
        (lost,) = await client.indices.get_alias(index=f"{prefix}-{MAY}")
        await client.indices.delete(index=lost)
        assert [each.documents for each in await reindexed(bench)] == [40, 202]
        await ensure_template(client, prefix)  # a new version of Sluice puts it again beside what was built
    assert (await verified_one(bench, filled)).found.agrees
    # The index worker writes under the slice's name, whatever stands behind it.
    await bench.put(1, record_at(filled, IN_MARCH, event("more")))
    async with bench.running("store", "index"):
        await agreeing(bench, filled, len(IDS) + 1)


async def test_one_that_is_killed_leaves_the_old_index_and_the_next_one_cleans_up(
    bench: Bench, filled: MadeTenant
) -> None:
    prefix = bench.settings.index_prefix
    before = await names(bench)
    group = bench.settings.group("index")
    held = await _hold_positions(bench, group)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli.main", "reindex", "--json",
            env=os.environ | bench.system.environment | {"SLUICE_HOME": "/nonexistent"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        # It comes as far as the exchange, for which it needs what this test holds.
        await until(lambda: _waiting(bench), bool, seconds=60)
        left = await names(bench)
        assert len(left) == len(before) + 1
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    finally:
        await held.close()
    assert await indexed_ids(bench, filled) == IDS
    with pytest.raises(RebuildActiveError, match="in a minute"):
        await reindexed(bench)
    await bench.system.fetch("update search_rebuilds set alive_at = alive_at - interval '1 minute'")
    assert [each.slice for each in await reindexed(bench)] == [MARCH, MAY]
    now = await names(bench)
    assert len(now) == 2
    assert not now.keys() & left.keys()
    assert sorted(now.values()) == [[prefix, f"{prefix}-{MARCH}"], [prefix, f"{prefix}-{MAY}"]]
    assert (await verified_one(bench, filled)).found.agrees


async def _hold_positions(bench: Bench, group: str) -> Any:
    connection = await asyncpg.connect(bench.system.admin_url)
    await connection.execute("begin")
    await connection.execute("select from stream_offsets where consumer_group = $1 for update", group)
    return connection


async def _waiting(bench: Bench) -> bool:
    rows = await bench.system.fetch(
        "select 1 from pg_stat_activity where application_name = 'sluice reindex' and wait_event_type = 'Lock' "
        "and datname = current_database()"
    )
    return bool(rows)


@pytest.fixture
async def cut_off(
    bench: Bench,
    filled: MadeTenant,  # noqa: ARG001  there has to be something to fill the new index with
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[asyncio.Task[list[Slice]], Relay, Callable[[], int]]]:
    """A reindex whose Elasticsearch has gone away while it was filling, what mends that, and how often it has tried."""
    tries = 0

    def counted(_attempt: int) -> float:
        nonlocal tries
        tries += 1
        return 0.05

    relay = Relay(bench.settings.elasticsearch_url.get_secret_value())
    await relay.mend()
    written = 0

    async def write_and_cut(*arguments: Any) -> Any:
        nonlocal written
        written += 1
        if written == 4:
            await relay.cut()
        return await bulk_write(*arguments)

    monkeypatch.setattr(index_repair, "backoff", counted)
    monkeypatch.setattr(index_repair, "bulk_write", write_and_cut)
    url = {"SLUICE_ELASTICSEARCH_URL": relay.url}
    settings = dataclasses.replace(bench.system, environment=bench.system.environment | url).settings(VerifySettings)
    task = asyncio.create_task(command.reindexed(settings, MAY, quiet=True))
    try:
        yield task, relay, lambda: tries
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await relay.cut()


async def test_elasticsearch_away_for_a_while_is_waited_for(
    bench: Bench, filled: MadeTenant, cut_off: tuple[asyncio.Task[list[Slice]], Relay, Callable[[], int]]
) -> None:
    task, relay, tries = cut_off

    async def tried() -> int:
        return tries()

    await until(tried, lambda count: count > 3)
    await relay.mend()
    (may,) = await asyncio.wait_for(task, 60)
    assert may.documents == 202
    assert tries() > 3
    assert len(await names(bench)) == 2
    assert await indexed_ids(bench, filled) == IDS
    assert (await verified_one(bench, filled)).found.agrees


async def test_elasticsearch_away_for_long_ends_it_and_everything_is_as_it_was(
    bench: Bench,
    filled: MadeTenant,
    monkeypatch: pytest.MonkeyPatch,
    cut_off: tuple[asyncio.Task[list[Slice]], Relay, Callable[[], int]],
) -> None:
    task, _, _ = cut_off
    monkeypatch.setattr(reindexing, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(IndexUnavailable):
        await asyncio.wait_for(task, 60)
    prefix = bench.settings.index_prefix
    searched = [name for name, aliases in (await names(bench)).items() if aliases]
    assert sorted(searched) == [f"{prefix}-{MARCH}", f"{prefix}-{MAY}"]
    assert await indexed_ids(bench, filled) == IDS
    # Nothing holds up deletions any more, and what was begun goes with the next one.
    assert [each.slice for each in await reindexed(bench, MAY)] == [MAY]
    assert len(await names(bench)) == 2


async def test_without_an_index_worker_there_is_nobody_to_hold_and_it_says_so(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, event("1")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda count: count == 1)
    with pytest.raises(ReindexError, match="never run"):
        await reindexed(bench)
    assert await names(bench) == {}
