"""Retention by plan: what goes and what stays, counted as before; pieces, several processes, one that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from deploy.local.servers import Endpoints
from tenants.bootstrap import DEMO_TENANT_ID
from tests.integration.workers.removing import POISON, Sent, Site, ids
from tests.system import System
from workers import removal, retention

DAYS = 7
NOW = datetime(2026, 5, 4, 12, 20, tzinfo=UTC)
CUTOFF = datetime(2026, 4, 27, 12, tzinfo=UTC)
"""What was received before the start of this hour is too old at `NOW`."""
INSTANT = timedelta(microseconds=1)


@pytest.fixture(scope="module")
async def own_system(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> System:
    return await System.create(endpoints, tmp_path_factory.mktemp("retaining"))


@pytest.fixture
async def site(own_system: System) -> AsyncIterator[Site]:
    async with Site.of(own_system) as made:
        yield made


async def expired(site: Site, tenant_id: UUID) -> tuple[int, int]:
    """Counted in aggregates, and of those expired."""
    rows = await site.system.fetch(
        "select sum(count)::bigint, sum(expired)::bigint from aggregated_events where tenant_id = $1", tenant_id
    )
    return rows[0][0], rows[0][1]


async def test_what_is_older_than_the_plan_keeps_goes_by_the_hour_and_stays_counted(site: Site) -> None:
    tenant_id, unlimited = await site.tenant(DAYS), await site.tenant()
    old = [
        Sent("last of its hour", CUTOFF - INSTANT),
        Sent("first of its hour", CUTOFF - timedelta(hours=1)),
        Sent("ancient", CUTOFF - timedelta(days=400)),
        # By the time of receipt, whatever the client says.
        Sent("from the future", CUTOFF - timedelta(days=1), timestamp=NOW),
    ]
    kept = [Sent("first", CUTOFF), Sent("from the past", NOW, timestamp=CUTOFF - timedelta(days=400)), Sent("now", NOW)]
    for each in (tenant_id, unlimited):
        await site.store(each, [*old, *kept])
    await site.expire(NOW)
    assert await site.stored(tenant_id) == await site.found(tenant_id) == ids(kept)
    assert await expired(site, tenant_id) == (7, 4)
    assert await site.usage(tenant_id) == (7, 4)
    months = await site.system.fetch("select sum(stored)::bigint from monthly_usage where tenant_id = $1", tenant_id)
    assert months[0][0] == 7
    assert await site.stored(unlimited) == await site.found(unlimited) == ids([*old, *kept])
    for each in (tenant_id, unlimited):
        assert (await site.verify(each)).agrees
    # Doing it again changes nothing; a day later more is too old.
    await site.expire(NOW)
    assert await expired(site, tenant_id) == (7, 4)
    await site.expire(NOW + timedelta(days=1))
    assert await site.stored(tenant_id) == ["from the past", "now"]


async def test_the_demo_tenant_is_kept_for_ever(site: Site) -> None:
    sent = [Sent("old", datetime(2001, 1, 1, tzinfo=UTC))]
    await site.store(DEMO_TENANT_ID, sent)
    await site.expire(NOW + timedelta(days=36500))
    assert await site.stored(DEMO_TENANT_ID) == await site.found(DEMO_TENANT_ID) == ["old"]


async def test_a_plan_that_keeps_less_holds_at_once(site: Site) -> None:
    tenant_id = await site.tenant(30)
    await site.store(tenant_id, [Sent("a", NOW - timedelta(days=20)), Sent("b", NOW)])
    await site.expire(NOW)
    assert await site.stored(tenant_id) == ["a", "b"]
    await site.system.fetch("update plans set retention_days = 8 where plan_id = $1", str(tenant_id))
    await site.expire(NOW)
    assert await site.stored(tenant_id) == ["b"]


async def test_dead_letters_go_when_they_are_as_old_as_the_events(site: Site) -> None:
    tenant_id, unlimited = await site.tenant(DAYS), await site.tenant()
    for each in (tenant_id, unlimited):
        await site.store(each, [Sent("young", NOW, metadata=POISON), Sent("old", NOW, metadata=POISON)])
        await site.system.fetch(
            "update dead_letters set created_at = case event_id when 'old' then $2::timestamptz - interval '1 second' "
            "else $2 end where tenant_id = $1",
            each,
            CUTOFF,
        )
    await site.expire(NOW)
    rows = await site.system.fetch(
        "select tenant_id, event_id from dead_letters where tenant_id = any ($1) order by 2", [tenant_id, unlimited]
    )
    assert [row["event_id"] for row in rows if row["tenant_id"] == tenant_id] == ["young"]
    assert len(rows) == 3


async def test_what_is_stored_late_with_an_old_time_of_receipt_goes_the_next_time_documents_too(site: Site) -> None:
    tenant_id = await site.tenant(DAYS)
    await site.store(tenant_id, [Sent("old", CUTOFF - INSTANT)])
    async with site.retention() as duty:
        for event_id in ("late", "later"):
            while await duty.remove(NOW):
                pass
            assert await site.found(tenant_id) == []
            await site.store(tenant_id, [Sent(event_id, CUTOFF - timedelta(days=3))])
            assert await site.found(tenant_id) == [event_id]
        while await duty.remove(NOW):
            pass
    assert await site.stored(tenant_id) == await site.found(tenant_id) == []
    assert await expired(site, tenant_id) == (3, 3)


async def test_documents_wait_for_a_rebuild_of_the_search_index_and_rows_do_not(site: Site) -> None:
    tenant_id = await site.tenant(DAYS)
    await site.store(tenant_id, [Sent("old", CUTOFF - INSTANT)])
    async with site.retention() as duty:
        await site.system.fetch("insert into search_rebuilds (rebuild_id) values (gen_random_uuid())")
        try:
            while await duty.remove(NOW):
                pass
        finally:
            await site.system.fetch("delete from search_rebuilds")
        assert (await site.stored(tenant_id), await site.found(tenant_id)) == ([], ["old"])
        assert (await site.verify(tenant_id)).agrees
        while await duty.remove(NOW):
            pass
    assert await site.found(tenant_id) == []


async def busy(site: Site) -> tuple[UUID, list[Sent]]:
    """A tenant with many events in an hour, unevenly, and some in others; and those of them that stay."""
    tenant_id = await site.tenant(DAYS)
    begin = CUTOFF - timedelta(hours=5)
    burst = [Sent(f"burst{number}", begin + timedelta(seconds=7), f"u{number % 9}") for number in range(60)]
    steady = [Sent(f"steady{number}", begin + timedelta(minutes=number), client_id="d") for number in range(240)]
    kept = [Sent(f"kept{number}", CUTOFF + timedelta(minutes=number)) for number in range(20)]
    await site.store(tenant_id, [*burst, *steady, *kept])
    return tenant_id, kept


async def test_an_hour_with_many_events_is_removed_in_pieces_and_other_tenants_have_their_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 16)
    monkeypatch.setattr(retention, "PIECES", 3)
    (first, kept), (second, _) = await busy(site), await busy(site)
    async with site.retention() as duty:
        assert await duty.remove(NOW)
        left = [len(await site.stored(each)) for each in (first, second)]
        assert all(20 < count < 320 for count in left)
        while await duty.remove(NOW):
            pass
    for each in (first, second):
        assert await site.stored(each) == await site.found(each) == ids(kept)
        assert await expired(site, each) == (320, 300)
        assert (await site.verify(each)).agrees


async def test_several_processes_at_once_count_each_event_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 16)
    tenant_id, kept = await busy(site)
    await asyncio.gather(*(site.expire(NOW) for _ in range(3)))
    await site.expire(NOW)
    assert await site.stored(tenant_id) == await site.found(tenant_id) == ids(kept)
    assert await expired(site, tenant_id) == await site.usage(tenant_id) == (320, 300)


class KilledError(BaseException):
    """The process ends here."""


async def test_one_that_is_killed_between_removing_and_counting_has_removed_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id, kept = await busy(site)

    async def killed(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(removal, "_write_down", killed)
        with pytest.raises(KilledError):
            await site.expire(NOW)
    assert len(await site.stored(tenant_id)) == 320
    await site.expire(NOW)
    assert await site.stored(tenant_id) == ids(kept)
    assert await expired(site, tenant_id) == await site.usage(tenant_id) == (320, 300)
