"""Erasing a user: the cut, against a store that is at work; every place; whoever is killed or waited for; receipts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.events.users import user_hash
from app.recovery.erasures import Erasure, list_erasures, request_erasure
from deploy.local.servers import Endpoints
from search.bulk import bulk_write
from search.client import make_client
from tenants.audit import Actor
from tenants.pages import PageAsked
from tests.integration.workers.removing import POISON, Sent, Site, ids, record_of
from tests.system import System, until
from workers import erasure, erasure_receipt
from workers.dead_letters import Retry, header_of
from workers.main import run_until

BEFORE = datetime.now(UTC) - timedelta(hours=2)
AFTER = datetime.now(UTC) + timedelta(hours=2)
OTHERS = [Sent("other", BEFORE, "v"), Sent("nobody's", BEFORE, None), Sent("late", AFTER)]


@pytest.fixture(scope="module")
async def own_system(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> System:
    return await System.create(endpoints, tmp_path_factory.mktemp("erasing"))


@pytest.fixture
async def site(own_system: System) -> AsyncIterator[Site]:
    async with Site.of(own_system) as made:
        yield made


def many(count: int, user: str = "u") -> list[Sent]:
    return [Sent(f"{user}{number}", BEFORE, user) for number in range(count)]


async def entries(site: Site, tenant_id: UUID) -> list[asyncpg.Record]:
    return await site.system.fetch("select * from audit_log where tenant_id = $1 order by at", tenant_id)


async def waiting_for_locks(site: Site) -> int:
    rows = await site.system.fetch(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return int(rows[0][0])


async def test_what_was_received_until_the_cut_goes_from_every_place_and_nothing_else(site: Site) -> None:
    tenant_id, neighbour = await site.tenant(), await site.tenant()
    await site.store(tenant_id, [*many(30), *OTHERS])
    await site.store(neighbour, many(3))
    told = await site.erase(tenant_id, "u")
    assert told.deleted == {"events": 30, "search": 30}
    assert (told.step, told.problem) == ("done", None)
    assert await site.stored(tenant_id) == await site.found(tenant_id) == ids(OTHERS)
    assert (await site.counted(tenant_id), await site.usage(tenant_id)) == (3, (33, 30))
    assert await site.stored(neighbour) == await site.found(neighbour) == ["u0", "u1", "u2"]
    for each in (tenant_id, neighbour):
        assert (await site.verify(each)).agrees
    # No name of a type is left behind with a count of nothing.
    await site.store(tenant_id, [Sent("secret", BEFORE, "w", event_type="only w does this")])
    await site.erase(tenant_id, "w")
    types = await site.system.fetch("select distinct event_type from aggregated_events where tenant_id = $1", tenant_id)
    assert [row["event_type"] for row in types] == ["t"]


async def test_an_event_of_before_the_cut_that_comes_after_it_is_neither_stored_nor_a_duplicate_nor_dead(
    site: Site,
) -> None:
    tenant_id, neighbour = await site.tenant(), await site.tenant()
    await site.store(tenant_id, [Sent("first", BEFORE, "v")])
    erased = await site.erase(tenant_id, "u")
    at_the_cut, just_after = erased.cut_at, erased.cut_at + timedelta(microseconds=1)
    await site.store(
        tenant_id,
        [
            *many(5),
            Sent("at", at_the_cut),
            Sent("after", just_after),
            Sent("poison", BEFORE, metadata=POISON),
            Sent("other", BEFORE, "v"),
            Sent("first", BEFORE, "v"),
        ],
    )
    await site.store(neighbour, many(2))
    assert await site.stored(tenant_id) == ["after", "first", "other"]
    assert await site.stored(neighbour) == ["u0", "u1"]
    rows = await site.system.fetch("select stored, duplicates from usage where tenant_id = $1", tenant_id)
    assert (sum(row["stored"] for row in rows), sum(row["duplicates"] for row in rows)) == (3, 1)
    assert await site.system.fetch("select 1 from dead_letters where tenant_id = $1", tenant_id) == []
    assert (await site.verify(tenant_id)).agrees


async def test_a_store_transaction_that_is_under_way_comes_before_the_cut(site: Site) -> None:
    tenant_id = await site.tenant()
    work = site.step.prepare([record_of(tenant_id, sent) for sent in many(3)])
    transaction = site.worker.transaction()
    await transaction.start()
    await site.step.apply(site.worker, work)
    asking = asyncio.create_task(site.ask(tenant_id, "u"))
    await until(lambda: waiting_for_locks(site), lambda count: count == 1)
    assert not asking.done()
    committed = datetime.now(UTC)
    await transaction.commit()
    asked = await asking
    assert asked.cut_at >= committed - timedelta(seconds=1)
    assert await site.stored(tenant_id) == ["u0", "u1", "u2"]
    told = await site.erase(tenant_id, "u")
    assert told.erasure_id == asked.erasure_id
    assert await site.stored(tenant_id) == []


async def test_a_store_transaction_that_begins_while_the_cut_is_made_waits_and_then_stores_nothing_of_the_user(
    site: Site,
) -> None:
    tenant_id = await site.tenant()
    work = site.step.prepare([record_of(tenant_id, sent) for sent in [*many(3), *OTHERS]])

    async def store() -> None:
        async with site.worker.transaction():
            await site.step.apply(site.worker, work)

    async with site.engine.begin() as connection:
        await request_erasure(connection, tenant_id, "u", Actor.operator())
        storing = asyncio.create_task(store())
        await until(lambda: waiting_for_locks(site), lambda count: count == 1)
        assert not storing.done()
    await storing
    assert await site.stored(tenant_id) == ids(OTHERS)


async def test_storing_and_removing_at_once_neither_deadlock_nor_lose_count(site: Site) -> None:
    tenant_id = await site.tenant(retention_days=7)
    old = datetime.now(UTC) - timedelta(days=9)
    await site.store(tenant_id, [*many(400), *(Sent(f"old{number}", old, "v") for number in range(400))])
    connection = await asyncpg.connect(site.settings.postgres_worker_url.get_secret_value())

    async def store() -> None:
        for turn in range(15):
            batch = [Sent(f"{turn}-{number}", (BEFORE, old)[number % 2], "v") for number in range(40)]
            # Of the same hours and quarter hours, and ids that are just being removed.
            again = [Sent(f"old{number}", old, "v") for number in range(turn, 400, 40)]
            work = site.step.prepare([record_of(tenant_id, sent) for sent in [*batch, *again]])
            async with connection.transaction():
                await site.step.apply(connection, work)

    await asyncio.gather(store(), site.erase(tenant_id, "u"), site.expire())
    await connection.close()
    await site.index(tenant_id)
    await site.expire()
    assert (await site.verify(tenant_id)).agrees
    rows = await site.system.fetch("select distinct received_at from events where tenant_id = $1", tenant_id)
    assert [row["received_at"] for row in rows] == [BEFORE]


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("kept", [True, False], ids=["after what it removed", "before anything"])
@pytest.mark.parametrize("step", ["rows", "letters", "index", "cache", "verify", "done"])
async def test_a_worker_that_is_killed_at_any_step_leaves_it_to_the_next_one_which_ends_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str, kept: bool
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 4)
    tenant_id = await site.tenant()
    await site.store(tenant_id, [*many(10), *OTHERS, Sent("poison", BEFORE, metadata=POISON)])
    asked = await site.ask(tenant_id, "u")

    async def killed_at_move(connection: Any, job: Any, following: str) -> None:
        if following != step:
            return await erasure_receipt.move(connection, job, following)
        if kept:
            await erasure_receipt.move(connection, job, following)
        raise KilledError

    async def killed_at_end(*arguments: Any) -> bool:
        if kept:
            await erasure_receipt.finish(*arguments)
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(erasure, "move", killed_at_move)
        if step == "done":
            patched.setattr(erasure, "finish", killed_at_end)
        with pytest.raises(KilledError):
            async with site.erasures() as mortal:
                while True:
                    await mortal.turn()
    told = await finished(site, tenant_id, asked)
    assert told.deleted["events"] == 10
    assert told.deleted["dead_letters"] == 1
    # Those of a request that was never written down are missing from it.
    assert told.deleted.get("search", 0) in ({8, 10} if step == "cache" else {10})
    assert await site.stored(tenant_id) == await site.found(tenant_id) == ids(OTHERS)
    assert [entry["action"] for entry in await entries(site, tenant_id)] == ["erasure.requested", "erasure.finished"]
    assert (await site.verify(tenant_id)).agrees


async def turned_until(site: Site, tenant_id: UUID, asked: Erasure, wanted: Callable[[Erasure], bool]) -> Erasure:
    """The receipt, once a worker that goes on and on has come so far."""
    async with site.erasures() as duty:

        async def turned() -> Erasure:
            await duty.turn()
            return await site.receipt(tenant_id, asked)

        return await until(turned, wanted)


async def finished(site: Site, tenant_id: UUID, asked: Erasure) -> Erasure:
    return await turned_until(site, tenant_id, asked, lambda told: told.finished_at is not None)


async def hindered(site: Site, tenant_id: UUID, asked: Erasure) -> Erasure:
    return await turned_until(site, tenant_id, asked, lambda told: told.problem is not None)


async def test_two_workers_share_an_erasure_and_each_event_is_counted_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 7)
    tenant_id = await site.tenant()
    await site.store(tenant_id, [*many(60), *OTHERS])
    asked = await site.ask(tenant_id, "u")
    first, second = await asyncio.gather(finished(site, tenant_id, asked), finished(site, tenant_id, asked))
    assert first == second
    assert first.deleted == {"events": 60, "search": 60}
    assert await site.usage(tenant_id) == (63, 60)
    assert len(await entries(site, tenant_id)) == 2


async def test_documents_go_only_after_the_index_worker_has_passed_what_was_stored_before_the_cut(
    site: Site,
) -> None:
    tenant_id = await site.tenant()
    await site.store(tenant_id, many(3))
    await site.pass_positions("index", 5)
    await site.pass_positions("store", 10)
    asked = await site.ask(tenant_id, "u")
    told = await hindered(site, tenant_id, asked)
    assert (told.step, told.problem) == (
        "index",
        "The index worker has yet to pass what was stored before the erasure.",
    )
    assert told.deleted == {"events": 3}
    # While it waits nothing disagrees: what is being removed is not compared.
    assert (await site.verify(tenant_id)).agrees
    await site.pass_positions("index", 10)
    told = await finished(site, tenant_id, asked)
    assert (told.deleted["search"], told.problem) == (3, None)


async def test_a_rebuild_of_the_search_index_is_waited_for(site: Site) -> None:
    tenant_id = await site.tenant()
    await site.store(tenant_id, many(3))
    await site.system.fetch("insert into search_rebuilds (rebuild_id) values (gen_random_uuid())")
    asked = await site.ask(tenant_id, "u")
    try:
        told = await hindered(site, tenant_id, asked)
        assert "being rebuilt" in (told.problem or "")
        assert await site.total_documents(tenant_id, "u") == 3
    finally:
        await site.system.fetch("delete from search_rebuilds")
    assert (await finished(site, tenant_id, asked)).deleted["search"] == 3


async def test_a_server_that_is_away_is_named_in_the_receipt_and_waited_for(site: Site) -> None:
    tenant_id = await site.tenant()
    await site.store(tenant_id, many(3))
    asked = await site.ask(tenant_id, "u")
    there = site.search
    site.search = make_client("http://127.0.0.1:9")
    try:
        told = await hindered(site, tenant_id, asked)
    finally:
        await site.search.close()
        site.search = there
    assert "IndexUnavailable" in (told.problem or "")
    assert (await finished(site, tenant_id, asked)).problem is None


async def test_a_document_that_is_written_behind_the_workers_back_is_found_by_the_last_look(site: Site) -> None:
    tenant_id = await site.tenant()
    await site.store(tenant_id, many(2))
    rows = await site.system.fetch("select *, metadata::text as metadata from events where tenant_id = $1", tenant_id)
    asked = await site.ask(tenant_id, "u")
    async with site.erasures() as duty:
        while (await site.receipt(tenant_id, asked)).step != "verify":
            await duty.turn()
        assert (await bulk_write(site.search, site.settings.index_prefix, [dict(rows[0])])).written == 1
        await duty.turn()
        told = await site.receipt(tenant_id, asked)
        assert (told.step, told.problem) == ("rows", "Something was left in search; it is removed again.")
    assert (await finished(site, tenant_id, asked)).deleted["search"] == 3
    assert await site.found(tenant_id) == []


async def letters(site: Site, tenant_id: UUID) -> dict[str, UUID]:
    rows = await site.system.fetch("select event_id, dead_letter_id from dead_letters where tenant_id = $1", tenant_id)
    return {row["event_id"]: row["dead_letter_id"] for row in rows}


async def test_dead_letters_of_the_user_go_and_others_stay(site: Site) -> None:
    tenant_id = await site.tenant()
    dead = [Sent("mine", BEFORE), Sent("edited", BEFORE, None), Sent("late", AFTER), Sent("other", BEFORE, "v")]
    dead.append(Sent("no", BEFORE, None))
    await site.store(tenant_id, [Sent(x.event_id, x.received_at, x.user_id, metadata=POISON) for x in dead])
    known = await letters(site, tenant_id)
    assert len(known) == 5
    # As the tenant may: the column says whose the event is now.
    await site.system.fetch(
        "update dead_letters set user_id = 'u', retry_payload = payload where dead_letter_id = $1", known["edited"]
    )
    told = await site.erase(tenant_id, "u")
    assert told.deleted == {"dead_letters": 2}
    assert set(await letters(site, tenant_id)) == {"late", "other", "no"}


async def test_a_dead_letter_that_was_under_way_again_is_not_stored_after_the_cut_and_one_of_another_user_is(
    site: Site,
) -> None:
    tenant_id = await site.tenant()
    await site.store(tenant_id, [Sent(user, BEFORE, user, metadata=POISON) for user in ("u", "v")])
    known = await letters(site, tenant_id)
    # Sent again, and mended, before the erasure.
    again = []
    for user in ("u", "v"):
        sent = record_of(tenant_id, Sent(user, BEFORE, user))
        object.__setattr__(sent, "headers", (header_of(Retry(tenant_id, known[user])),))
        again.append(sent)
    await site.system.fetch("update dead_letters set status = 'sent' where tenant_id = $1", tenant_id)
    await site.erase(tenant_id, "u")
    async with site.worker.transaction():
        await site.step.apply(site.worker, site.step.prepare(again))
    assert await site.stored(tenant_id) == ["v"]
    rows = await site.system.fetch("select event_id, status from dead_letters where tenant_id = $1", tenant_id)
    assert [tuple(row) for row in rows] == [("v", "resolved")]


async def test_what_redis_keeps_of_the_tenant_goes_but_its_bucket_does_not_become_full(site: Site) -> None:
    tenant_id, neighbour = await site.tenant(), await site.tenant()
    prefix = site.settings.redis_prefix
    bucket, cache, of_neighbour = (
        f"{prefix}:bucket:{{{tenant_id}}}", f"{prefix}:latest:{{{tenant_id}}}", f"{prefix}:latest:{{{neighbour}}}",
    )  # fmt: skip
    for key in (bucket, cache, of_neighbour):
        await site.redis.set(key, "x", ex=60)
    told = await site.erase(tenant_id, "u")
    assert told.deleted == {"cache": 1}
    assert [await site.redis.exists(key) for key in (bucket, cache, of_neighbour)] == [1, 0, 1]


async def test_asking_again_answers_the_open_receipt_and_after_its_end_a_new_one(site: Site) -> None:
    tenant_id, neighbour = await site.tenant(), await site.tenant()
    asked = await site.ask(tenant_id, "u")
    assert await site.ask(tenant_id, "u") == asked
    other, of_neighbour = await site.ask(tenant_id, "v"), await site.ask(neighbour, "u")
    assert len({asked.erasure_id, other.erasure_id, of_neighbour.erasure_id}) == 3
    assert asked.user_hash == user_hash(tenant_id, "u").hex() != of_neighbour.user_hash
    told = await finished(site, tenant_id, asked)
    again = await site.ask(tenant_id, "u")
    assert again.erasure_id != asked.erasure_id
    assert again.cut_at > asked.cut_at
    # What was received between the two is gone after the second.
    between = Sent("between", asked.cut_at + (again.cut_at - asked.cut_at) / 2)
    await site.store(tenant_id, [between])
    assert await site.stored(tenant_id) == []
    async with site.engine.connect() as connection:
        listed, last = await list_erasures(connection, tenant_id, PageAsked(2))
        assert [each.erasure_id for each in listed] == [again.erasure_id, other.erasure_id]
        rest, end = await list_erasures(connection, tenant_id, PageAsked(2, last))
    assert (rest, end) == ([told], None)


async def test_a_final_receipt_and_the_audit_log_know_what_was_removed_and_not_who_it_was(site: Site) -> None:
    tenant_id = await site.tenant()
    who = "someone@example.com"
    await site.store(tenant_id, [Sent("e", BEFORE, who)])
    told = await site.erase(tenant_id, who)
    assert told.kafka_until is not None
    assert told.finished_at is not None
    days = told.kafka_until - told.finished_at
    assert timedelta(days=7) < days < timedelta(days=9)
    (row,) = await site.system.fetch("select * from erasures where tenant_id = $1", tenant_id)
    logged = await entries(site, tenant_id)
    requested, closed = logged
    assert (requested["actor_kind"], closed["actor_kind"], closed["actor"]) == ("operator", "worker", "maintain")
    assert requested["subject"] == closed["subject"] == str(told.erasure_id)
    assert told.user_hash in requested["detail"]
    assert '"events": 1' in closed["detail"]
    assert row["user_id"] is None
    assert who not in str([dict(each) for each in [row, *logged]])


async def test_the_maintain_worker_erases_and_keeps_to_the_plan_by_itself(site: Site) -> None:
    tenant_id = await site.tenant(retention_days=7)
    old = Sent("old", datetime.now(UTC) - timedelta(days=8), "v")
    await site.store(tenant_id, [*many(3), *OTHERS, old])
    asked = await site.ask(tenant_id, "u")
    stopping = asyncio.Event()
    running = asyncio.create_task(run_until(["maintain"], site.settings, stopping))
    try:
        told = await until(lambda: site.receipt(tenant_id, asked), lambda told: told.finished_at is not None)
        await until(lambda: site.found(tenant_id), lambda found: found == ids(OTHERS))
    finally:
        stopping.set()
        await running
    assert told.deleted == {"events": 3, "search": 3}
    assert await site.stored(tenant_id) == ids(OTHERS)
    assert await site.counted(tenant_id) == 4
