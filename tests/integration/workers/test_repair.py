"""`sluice verify --repair`: each place is damaged by hand, found, mended, and agrees again."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.cli import verify
from app.cli.stores import stores
from app.database import connect
from app.settings import VerifySettings
from search.bulk import bulk_write
from tests.integration.workers.conftest import NOW, Bench, event, record
from tests.integration.workers.upkeep import (
    Command,
    a_row,
    agreeing,
    indexed_ids,
    record_at,
    remove_documents,
    search_client,
    state,
    verified,
    verified_one,
)  # fmt: skip
from tests.system import MadeTenant, until
from workers.search_rebuilds import RebuildActiveError, active, claimed

LATER = NOW + timedelta(hours=2)
IDS = [f"e{n}" for n in range(8)]


@pytest.fixture
async def filled(bench: Bench) -> MadeTenant:
    """Eight events of two hours by receipt and by timestamp, stored and indexed."""
    tenant = await bench.system.tenant()
    await bench.put(
        0,
        record(tenant, *(event(i) for i in IDS[:5])),
        record_at(tenant, LATER, *(event(i, "other", at=LATER) for i in IDS[5:])),
    )
    async with bench.running("store", "index"):
        await agreeing(bench, tenant, len(IDS))
    return tenant


async def test_each_kind_of_damage_is_found_where_it_is_and_mended_and_nothing_else_is_touched(
    bench: Bench, filled: MadeTenant
) -> None:
    untouched = await state(bench)
    await bench.system.fetch("update aggregated_events set count = count + 3 where event_type = 'other'")
    await bench.system.fetch("delete from aggregated_events where event_type = 't'")
    await bench.system.fetch("update usage set bytes = bytes + 1 where hour = $1", NOW)
    await bench.system.fetch("update monthly_usage set stored = 1")
    await remove_documents(bench, filled, ["e1", "e6"])
    async with search_client(bench) as client:
        forged = [
            a_row(filled, "forged", received_at=LATER),
            a_row(filled, "e2", received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        ]
        assert (await bulk_write(client, bench.settings.index_prefix, forged)).written == 2

    finding = await verified_one(bench, filled)
    found = finding.found
    assert not found.agrees
    assert (found.wrong_buckets, found.wrong_usage, found.missing, found.extra, found.doubled) == (2, 2, 2, 1, 1)
    assert found.examples == ["not in the index: e1", "twice in the index: e2", "not in the index: e6",
                              "only in the index: forged"]  # fmt: skip
    hours = {each.hour: (each.buckets, each.usage, each.missing, each.extra, each.doubled) for each in found.hours}
    assert hours == {NOW: (1, 1, 1, 0, 1), LATER: (1, 0, 1, 1, 0)}
    assert found.wrong_hours == 2

    finding = await verified_one(bench, filled, repair=True)
    assert not finding.found.agrees
    assert finding.after is not None
    assert finding.last.agrees
    assert finding.counts is not None
    assert (finding.counts.buckets, finding.counts.usage, finding.counts.months) == (2, 1, 1)
    assert finding.documents is not None
    assert (finding.documents.indexed, finding.documents.removed, finding.documents.refused) == (3, 3, 0)
    assert await indexed_ids(bench, filled) == IDS
    assert await state(bench) == untouched
    again = await verified_one(bench, filled, repair=True)
    assert (again.after, again.found.agrees) == (None, True)


async def test_events_that_are_gone_are_counted_down_and_what_retention_took_stays_counted(
    bench: Bench, filled: MadeTenant
) -> None:
    # As retention leaves it: three of the five events of the first hour.
    await bench.system.fetch("delete from events where event_id in ('e0', 'e1', 'e2')")
    await bench.system.fetch("update aggregated_events set expired = 3 where event_type = 't'")
    await bench.system.fetch("update usage set removed = 3, removed_bytes = 18 where hour = $1", NOW)
    await remove_documents(bench, filled, ["e0", "e1", "e2"])
    assert (await verified_one(bench, filled)).found.agrees
    untouched = await state(bench)
    # By hand: a whole hour, and one event of the other.
    await bench.system.fetch("delete from events where event_type = 'other' or event_id = 'e3'")
    finding = await verified_one(bench, filled, repair=True)
    assert (finding.found.agrees, finding.last.agrees) == (False, True)
    assert finding.found.extra == 4
    counts = await bench.system.fetch("select event_type, count, expired from aggregated_events order by 1")
    assert [tuple(row) for row in counts] == [("t", 4, 3)]
    usage = await bench.system.fetch("select stored, removed, bytes, removed_bytes from usage order by hour")
    assert [tuple(row) for row in usage] == [(4, 3, 24, 18), (0, 0, 0, 0)]
    assert [row[0] for row in await bench.system.fetch("select stored from monthly_usage")] == [4]
    assert await indexed_ids(bench, filled) == ["e4"]
    assert untouched["events"][1] == (await state(bench))["events"][0]


async def test_repair_under_live_traffic_mends_the_damage_and_loses_no_count(bench: Bench, filled: MadeTenant) -> None:
    sent = 0

    async def send(stopping: asyncio.Event) -> None:
        nonlocal sent
        while not stopping.is_set():
            # Into the very buckets and hours that are being mended.
            await bench.put(sent % 4, record(filled, *(event(f"live{sent}-{n}") for n in range(20))))
            sent += 1

    async with bench.running("store", "index"):
        stopping = asyncio.Event()
        traffic = asyncio.create_task(send(stopping))
        try:
            for _ in range(4):
                await bench.system.fetch("update aggregated_events set count = count + 5 where event_type = 't'")
                await bench.system.fetch("update usage set stored = stored + 5 where hour = $1", NOW)
                await remove_documents(bench, filled, ["e4"])
                finding = await verified_one(bench, filled, repair=True)
                assert not finding.found.agrees
                assert finding.last.agrees, finding.last
        finally:
            stopping.set()
            await traffic
        await agreeing(bench, filled, len(IDS) + 20 * sent)
    assert sent > 4


async def test_what_only_waits_is_left_to_the_index_worker(bench: Bench, filled: MadeTenant) -> None:
    await bench.put(1, record(filled, event("later")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(filled), lambda count: count == len(IDS) + 1)
    await remove_documents(bench, filled, ["e0"])
    finding = await verified_one(bench, filled, repair=True)
    assert finding.last.agrees
    assert (finding.last.waiting, finding.last.missing) == (1, 0)
    assert await indexed_ids(bench, filled) == IDS


async def test_a_tenant_that_is_deleted_meanwhile_is_not_judged(bench: Bench, filled: MadeTenant) -> None:
    await bench.system.fetch("delete from events where tenant_id = $1", UUID(filled.tenant_id))
    assert not (await verified_one(bench, filled)).found.agrees
    async with stores(bench.system.settings(VerifySettings), "test") as held:
        await bench.system.fetch("update tenants set status = 'deleting' where tenant_id = $1", UUID(filled.tenant_id))
        found = await verify.report(held, UUID(filled.tenant_id))
    assert found.leaving
    assert found.agrees
    assert UUID(filled.tenant_id) not in {each.found.tenant_id for each in await verified(bench)}


async def test_deletions_wait_while_the_index_is_repaired_and_one_repair_is_at_work_at_a_time(bench: Bench) -> None:
    url = bench.settings.postgres_worker_url.get_secret_value()
    connection = await connect(url, name="test")
    try:
        assert not await active(connection)
        async with claimed(url):
            assert await active(connection)
            with pytest.raises(RebuildActiveError):
                async with claimed(url):
                    pass
        assert not await active(connection)
        async with connection.transaction():
            assert not await active(connection)  # and so deletes something
            begun = asyncio.create_task(_claim(url))
            done, _ = await asyncio.wait({begun}, timeout=0.5)
            assert not done
        await asyncio.wait_for(begun, 30)
        # One that was killed is forgotten after a minute.
        await connection.execute("insert into search_rebuilds (rebuild_id) values (gen_random_uuid())")
        assert await active(connection)
        await connection.execute("update search_rebuilds set alive_at = now() - interval '61 seconds'")
        assert not await active(connection)
        await asyncio.wait_for(_claim(url), 30)
    finally:
        await connection.close()


async def _claim(url: str) -> None:
    async with claimed(url):
        pass


async def test_the_command_says_what_it_found_and_what_it_mended(
    bench: Bench, filled: MadeTenant, command: Command
) -> None:
    await bench.system.fetch("update aggregated_events set count = count + 1 where event_type = 't'")
    status, out, err = await command("verify", "--tenant", filled.tenant_id, "--repair", "--json")
    assert (status, err) == (0, "")
    (found,) = json.loads(out)
    assert (found["agrees"], found["after"]["agrees"]) == (False, True)
    assert found["repaired"] == {"buckets": 1, "usage": 0, "months": 0, "indexed": 0, "removed": 0, "refused": 0}
    assert [(hour["hour"], hour["buckets"]) for hour in found["hours"]] == [("2026-05-04 12:00:00+00:00", 1)]
    await bench.system.fetch("update aggregated_events set count = count + 1 where event_type = 't'")
    status, out, _ = await command("verify", "--tenant", filled.tenant_id)
    assert status == 1
    assert "2026-05-04T12:00Z: 1 buckets" in out.replace("\n", " ")
