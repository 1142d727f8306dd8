"""`sluice replay --rebuild`: what Kafka still holds comes back as it was, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.events.users import user_hash
from tests.integration.workers.conftest import NOW, Bench, event, record
from tests.integration.workers.upkeep import (
    Command,
    agreeing,
    indexed_ids,
    rebuilt,
    record_at,
    remove_documents,
    state,
    verified,
    verified_one,
)
from tests.system import MadeTenant, until
from workers.history import HistoryError
from workers.offsets import LogMismatchError

IDS = [f"e{n:02}" for n in range(30)]
LATER = NOW + timedelta(hours=3)


@pytest.fixture
async def filled(bench: Bench) -> MadeTenant:
    """All that can become of an event: stored, sent again, dead-lettered, suppressed, of another tenant, of none."""
    tenant, other, erasing = [await bench.system.tenant() for _ in range(3)]
    await bench.system.fetch(
        "insert into erasures (tenant_id, user_hash, finished_at) values ($1, $2, now())",
        UUID(erasing.tenant_id), user_hash(UUID(erasing.tenant_id), "u"),
    )  # fmt: skip
    nobody = MadeTenant("7f5ad4c1-0000-4000-8000-000000000000", "c", "")
    await bench.put(
        0,
        record(tenant, *(event(i, metadata=b'{"n": 1.50}') for i in IDS[:20])),
        b"poison",
        record(tenant, event("e03", "again"), event("bad", metadata=b'{"t":"\\u0000"}')),
        record(other, event("e00"), event("only")),
        record(erasing, event("e00")),
        record(nobody, event("e00")),
    )
    await bench.put(2, record_at(tenant, LATER, *(event(i, "late", at=LATER) for i in (*IDS[20:], "e07"))))
    async with bench.running("store", "index"):
        await agreeing(bench, tenant, len(IDS))
        await agreeing(bench, other, 2)
    assert await bench.system.counted(erasing) == 0
    return tenant


async def lose(bench: Bench, tenant: MadeTenant, *tables: str) -> None:
    for table in tables:
        await bench.system.fetch(f"delete from {table} where tenant_id = $1", UUID(tenant.tenant_id))  # noqa: S608


async def test_rows_and_aggregates_that_are_gone_come_back_as_they_were(bench: Bench, filled: MadeTenant) -> None:
    before = await state(bench)
    await lose(bench, filled, "events", "aggregated_events")
    await remove_documents(bench, filled, ["e05", "e25"])
    done = await rebuilt(bench)
    assert await state(bench) == before
    assert await indexed_ids(bench, filled) == IDS
    assert (done["records"], done["events"], done["restored"], done["suppressed"]) == (7, 37, len(IDS), 1)
    assert (done["refused"], done["expired"], done["indexed"]) == (3, 0, 2)
    assert all(finding.found.agrees for finding in await verified(bench))


async def test_where_nothing_is_gone_nothing_changes(bench: Bench, filled: MadeTenant) -> None:
    before = await state(bench)
    for _ in range(2):
        done = await rebuilt(bench)
        assert [done[name] for name in ("restored", "buckets", "usage", "months", "indexed", "removed")] == [0] * 6
    assert await state(bench) == before
    # Nor where only counts are.
    await lose(bench, filled, "aggregated_events")
    done = await rebuilt(bench)
    assert (done["restored"], done["buckets"]) == (0, 2)
    assert await state(bench) == before


async def test_where_usage_is_gone_too_all_but_the_duplicates_is_counted_again(
    bench: Bench, filled: MadeTenant
) -> None:
    before = await state(bench)
    await lose(bench, filled, "events", "aggregated_events", "usage", "monthly_usage")
    assert (await rebuilt(bench))["restored"] == len(IDS)
    after = await state(bench)
    columns = [
        row["attname"]
        for row in await bench.system.fetch(
            "select attname from pg_attribute where attrelid = 'usage'::regclass and attnum > 0 order by attnum"
        )
    ]
    place = columns.index("duplicates")
    without = {
        name: [row[:place] + row[place + 1 :] for row in found["usage"]]
        for name, found in (("before", before), ("after", after))
    }
    assert without["after"] == without["before"]
    assert {table: rows for table, rows in after.items() if table != "usage"} == {
        table: rows for table, rows in before.items() if table != "usage"
    }


async def test_what_retention_removed_does_not_come_back_not_even_as_what_was_its_duplicate(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.system.fetch(
        "insert into plans (plan_id, events_per_second, burst, retention_days) values ('week', 1, 1, 7)"
    )
    await bench.system.fetch("update tenants set plan_id = 'week' where tenant_id = $1", UUID(tenant.tenant_id))
    now = datetime.now(UTC)
    old, new = now - timedelta(days=9), now - timedelta(days=1)
    await bench.put(0, record_at(tenant, old, event("old"), event("older")), record_at(tenant, new, event("new")))
    await bench.put(0, record_at(tenant, new, event("old")))
    async with bench.running("store", "index"):
        await until(lambda: bench.system.counted(tenant), lambda count: count == 3)
        await until(lambda: indexed_ids(bench, tenant), lambda found: len(found) == 3)
    # As retention leaves it.
    size = "octet_length(event_id) + octet_length(event_type) + octet_length(user_id) + octet_length(metadata::text)"
    gone = f"select sum({size}) from events where event_id <> 'new'"  # noqa: S608
    await bench.system.fetch(f"update usage set removed = stored, removed_bytes = ({gone}) where stored = 2")  # noqa: S608
    await bench.system.fetch("update aggregated_events set expired = 2")
    await bench.system.fetch("delete from events where event_id <> 'new'")
    await remove_documents(bench, tenant, ["old", "older"])
    before = await state(bench)
    assert (await verified_one(bench, tenant)).found.agrees
    done = await rebuilt(bench)
    assert (done["restored"], done["expired"], done["present"]) == (0, 2, 2)
    assert await state(bench) == before


async def test_the_store_worker_may_go_on_meanwhile(bench: Bench, filled: MadeTenant) -> None:
    sent = 0

    async def send(stopping: asyncio.Event) -> None:
        nonlocal sent
        while not stopping.is_set():
            await bench.put(sent % 4, record(filled, event(f"live{sent}"), event("e01"), event("e29")))
            sent += 1

    stopping = asyncio.Event()
    async with bench.running("store", "index"):
        traffic = asyncio.create_task(send(stopping))
        try:
            for _ in range(3):
                await lose(bench, filled, "aggregated_events")
                await bench.system.fetch("delete from events where event_type in ('t', 'late') and event_id like 'e%'")
                await rebuilt(bench)
        finally:
            stopping.set()
            await traffic
        # What was lost again while the last one ran comes now.
        await rebuilt(bench)
        await agreeing(bench, filled, len(IDS) + sent)
    counted = await bench.system.fetch(
        "select sum(count)::bigint from aggregated_events where tenant_id = $1", UUID(filled.tenant_id)
    )
    assert counted[0][0] == len(IDS) + sent
    assert sorted(await indexed_ids(bench, filled)) == sorted([*IDS, *(f"live{n}" for n in range(sent))])


async def test_a_log_that_is_not_the_one_that_was_stored_is_not_read_back(bench: Bench, filled: MadeTenant) -> None:
    before = await state(bench)
    group = bench.settings.group("store")
    await bench.system.fetch("update stream_offsets set next_offset = 999 where consumer_group = $1", group)
    with pytest.raises(HistoryError, match="999"):
        await rebuilt(bench)
    await bench.system.fetch("update stream_offsets set topic_id = gen_random_uuid()")
    with pytest.raises(LogMismatchError, match="made again"):
        await rebuilt(bench)
    assert await state(bench) == before
    assert await bench.system.counted(filled) == len(IDS)


async def test_the_command_tells_what_it_did(bench: Bench, filled: MadeTenant, command: Command) -> None:
    await lose(bench, filled, "events")
    status, out, err = await command("replay", "--rebuild", "--json")
    assert (status, err) == (0, "")
    done: dict[str, Any] = json.loads(out)
    assert (done["restored"], done["refused"], done["not_indexable"]) == (len(IDS), 3, 0)
    assert filled.tenant_id in done["tenants"]
    status, out, _ = await command("replay", "--rebuild")
    assert status == 0
    assert "0 restored, 35 there already" in out
    assert (await command("replay", "--rebuild", "list"))[0] == 2
