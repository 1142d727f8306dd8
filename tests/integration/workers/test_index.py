"""The index worker: it follows the store, and indexes exactly what was stored."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.verification import Report, verify_tenant
from search.client import make_client
from search.verify import tenant_total
from tests.integration.workers.conftest import Bench, event, record
from tests.system import MadeTenant, until


async def report(bench: Bench, tenant: MadeTenant) -> Report:
    from app.database import connect  # noqa: PLC0415  only here

    client = make_client(bench.settings.elasticsearch_url.get_secret_value())
    connection = await connect(bench.settings.postgres_worker_url.get_secret_value(), name="test")
    try:
        return await verify_tenant(
            connection,
            client,
            UUID(tenant.tenant_id),
            index_prefix=bench.settings.index_prefix,
            index_group=bench.settings.group("index"),
            topic=bench.settings.raw_topic,
        )
    finally:
        await connection.close()
        await client.close()


async def test_nothing_is_indexed_before_it_is_stored_and_then_exactly_what_was_stored(bench: Bench) -> None:
    tenant, other = await bench.system.tenant(), await bench.system.tenant()
    await bench.put(
        0,
        record(tenant, event("1", "first"), event("1", "second"), event("2")),
        record(other, event("1", "other")),
        b"poison",
        record(tenant, event("2", "again"), event("3", metadata=b'{"t":"\\u0000"}'), event("4")),
    )
    client = make_client(bench.settings.elasticsearch_url.get_secret_value())
    try:
        async with bench.running("index"):

            async def claimed() -> int:
                rows = await bench.system.fetch(
                    "select epoch from stream_offsets where consumer_group = $1", bench.settings.group("index")
                )
                return len(rows)

            await until(claimed, lambda found: found == 4)
            assert await tenant_total(client, bench.settings.index_prefix, UUID(tenant.tenant_id)) == 0
            async with bench.running("store"):
                found = await until(lambda: report(bench, tenant), lambda seen: seen.indexed == 3)
                assert found.agrees
                assert (found.events, found.aggregated, found.waiting) == (3, 3, 0)
                assert (await report(bench, other)).indexed == 1
    finally:
        await client.close()


async def test_verify_names_what_is_missing_extra_or_miscounted(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, *(event(f"e{n}") for n in range(5))))
    async with bench.running("store", "index"):
        assert (await until(lambda: report(bench, tenant), lambda seen: seen.indexed == 5)).agrees
    await bench.system.fetch("delete from events where event_id = 'e1'")
    await bench.system.fetch("update aggregated_events set count = count + 7")
    await bench.system.fetch("update usage set bytes = bytes + 1")
    await bench.system.fetch("update monthly_usage set stored = stored - 1")
    await bench.system.fetch(
        "insert into events select tenant_id, 'unindexed', event_type, user_id, client_id, timestamp, received_at, "
        "index_slice, source_partition, source_offset, metadata from events where event_id = 'e2'"
    )
    found = await report(bench, tenant)
    assert not found.agrees
    assert (found.events, found.aggregated, found.wrong_buckets) == (5, 12, 1)
    assert (found.metered, found.wrong_usage) == (5, 2)
    assert (found.missing, found.extra, found.doubled) == (1, 1, 0)
    assert found.examples == ["not in the index: unindexed", "only in the index: e1"]


async def test_an_event_that_the_index_has_yet_to_read_is_waiting_and_no_fault(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(3, record(tenant, event("1"), event("2")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 2)
    found = await report(bench, tenant)
    assert found.agrees
    assert (found.events, found.waiting, found.missing, found.indexed) == (2, 2, 0, 0)
    await bench.system.fetch("update usage set stored = 1, duplicates = duplicates + 1")
    found = await report(bench, tenant)
    assert not found.agrees
    assert (found.metered, found.wrong_usage) == (1, 2)  # the hour, and the month that is its sum no more


@pytest.mark.parametrize("count", [1200])
async def test_many_events_are_compared_in_the_same_order_on_both_sides(bench: Bench, count: int) -> None:
    tenant = await bench.system.tenant()
    ids = [f"{'ÄaZ修_'[n % 5]}{n}" for n in range(count)]
    await bench.put(
        0, *(record(tenant, *(event(i) for i in ids[start : start + 100])) for start in range(0, count, 100))
    )
    async with bench.running("store", "index"):
        found = await until(lambda: report(bench, tenant), lambda seen: seen.indexed == count)
    assert found.agrees
