"""The store worker: what it stores, what it dead-letters, and that neither blocks the other."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.integration.workers.conftest import Bench, event, record
from tests.system import until


async def test_poison_and_unstorable_events_are_dead_lettered_and_all_others_stored(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    stranger = type(tenant)("00000000-0000-4000-8000-00000000dead", "nobody", "")
    await bench.put(
        0,
        record(tenant, event("1"), event("2")),
        b"not a record",
        b'{"tenant_id":"\xff"}',
        record(tenant, event("3"), event("nul\0id"), event("4", metadata=b'{"n":"\\u0000"}'), event("5")),
        record(stranger, event("6")),
        record(tenant, event("far", at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)), event("7")),
    )
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 6)
        letters = await until(bench.dead_letters, lambda found: len(found) == 5)
    rows = await bench.system.fetch("select event_id from events order by 1")
    assert [row["event_id"] for row in rows] == ["1", "2", "3", "5", "7", "far"]
    platform = "00000000-0000-0000-0000-000000000000"
    assert [(str(x["tenant_id"]), x["reason"], x["source_offset"], x["record_index"]) for x in letters] == [
        (platform, "not a record", 1, -1),
        (platform, "not a record", 2, -1),
        (tenant.tenant_id, "unstorable", 3, 1),
        (tenant.tenant_id, "unstorable", 3, 2),
        (platform, "unknown tenant", 4, 0),
    ]
    assert letters[0]["payload"] == b"not a record"
    assert b'"n":"\\u0000"' in letters[3]["payload"]


async def test_of_events_with_one_id_the_first_in_the_log_wins_and_is_counted_once(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(
        1,
        record(tenant, event("b", "first"), event("a", "first"), event("b", "second")),
        record(tenant, event("a", "third", at=datetime(2025, 1, 1, tzinfo=UTC)), event("c", "first")),
    )
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 3)
    rows = await bench.system.fetch("select event_id, event_type, source_offset from events order by 1")
    assert [tuple(row) for row in rows] == [("a", "first", 0), ("b", "first", 0), ("c", "first", 1)]
    counted = await bench.system.fetch("select bucket, event_type, count from aggregated_events")
    assert [tuple(row) for row in counted] == [(datetime(2026, 5, 4, 12, tzinfo=UTC), "first", 3)]


async def test_a_worker_that_starts_again_goes_on_where_the_last_commit_was(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, event("1")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 1)
    await bench.put(0, record(tenant, event("1")), record(tenant, event("2")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 2)
    rows = await bench.system.fetch("select next_offset, epoch from stream_offsets where partition = 0")
    assert [tuple(row) for row in rows] == [(3, 2)]
    assert (await bench.system.fetch("select sum(count) from aggregated_events"))[0][0] == 2


async def test_the_aggregates_are_bucketed_by_quarter_hours_and_by_client(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    moments = [datetime(2026, 1, 1, 5, minute, second, tzinfo=UTC) for minute, second in ((14, 59), (15, 0), (29, 59))]
    await bench.put(2, record(tenant, *(event(str(n), at=moment) for n, moment in enumerate(moments))))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 3)
    rows = await bench.system.fetch("select bucket, client_id, count from aggregated_events order by 1")
    assert [tuple(row) for row in rows] == [
        (datetime(2026, 1, 1, 5, 0, tzinfo=UTC), tenant.client_id, 1),
        (datetime(2026, 1, 1, 5, 15, tzinfo=UTC), tenant.client_id, 2),
    ]
