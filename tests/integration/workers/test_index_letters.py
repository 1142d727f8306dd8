"""Dead letters of the index worker, whose events are stored, and the end of letters that were handled long ago."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.settings import MaintainSettings
from search.client import make_client
from tests.integration.workers.conftest import NOW, Bench, event, record
from tests.integration.workers.test_letters import indexed, letters, only_letter, refused
from tests.system import MadeTenant, until
from workers.connections import Connections, Role
from workers.dead_letters import Retry, resolve
from workers.letter_copies import HandledLetters
from workers.letters import GONE, IndexRetries


@asynccontextmanager
async def index_retries(bench: Bench, url: str | None = None) -> AsyncIterator[IndexRetries]:
    settings = bench.system.settings(MaintainSettings)
    connections, search = Connections(settings), make_client(url or settings.elasticsearch_url.get_secret_value())
    try:
        yield IndexRetries(connections, search, settings.index_prefix)
    finally:
        await connections.close()
        await search.close()


async def unindexable(bench: Bench, tenant: MadeTenant) -> None:
    """Stored events, of which the index has refused one, and nobody told it the other."""
    await bench.put(0, record(tenant, event("1"), event("2")))
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 2)
    await bench.system.fetch(
        """
        insert into dead_letters (tenant_id, worker, reason, detail, topic, source_partition, source_offset,
                                  record_index, payload, event_id, status)
        select tenant_id, 'index', 'not indexable', 'd', $1, source_partition, source_offset, 0, 'x', event_id, 'queued'
        from events where event_id = '1'
        """,
        bench.settings.raw_topic,
    )


async def refuse_all(bench: Bench) -> None:
    """A slice of another mapping: it takes no client's id that is not a number."""
    client = make_client(bench.settings.elasticsearch_url.get_secret_value())
    name = f"{bench.settings.index_prefix}-{NOW:%Y%m}"
    await client.indices.create(index=name, mappings={"properties": {"client_id": {"type": "integer"}}})
    await client.close()


async def test_a_letter_of_the_index_is_written_from_what_is_stored(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await unindexable(bench, tenant)
    async with index_retries(bench) as duty:
        assert await duty.turn()
        assert not await duty.turn()
    assert (await only_letter(bench))["status"] == "resolved"
    await until(lambda: indexed(bench, tenant), (1).__eq__)


async def test_a_letter_of_the_index_that_is_refused_again_is_open_with_the_reason_of_now(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await unindexable(bench, tenant)
    await refuse_all(bench)
    async with index_retries(bench) as duty:
        assert await duty.turn()
    letter = await only_letter(bench)
    assert (letter["status"], letter["attempts"], letter["reason"]) == ("open", 2, "not indexable")
    assert "client_id" in letter["detail"]


async def test_a_letter_of_the_index_whose_event_is_gone_is_resolved_and_says_so(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await unindexable(bench, tenant)
    await bench.system.fetch("delete from events where event_id = '1'")
    async with index_retries(bench) as duty:
        await duty.turn()
    letter = await only_letter(bench)
    assert (letter["status"], letter["detail"]) == ("resolved", GONE)


async def test_while_elasticsearch_is_away_a_letter_stays_queued(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await unindexable(bench, tenant)
    async with index_retries(bench, "http://127.0.0.1:9") as duty:
        with pytest.raises(Exception, match="does not answer"):
            await duty.turn()
    assert ((await only_letter(bench))["status"], (await only_letter(bench))["attempts"]) == ("queued", 1)


async def test_what_the_index_refuses_is_a_letter_with_the_whole_event(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refuse_all(bench)
    await bench.put(0, record(tenant, event("1", metadata=b'{"n":  1.50}')))
    async with bench.running("store", "index"):
        await until(lambda: letters(bench), bool)
    letter = await only_letter(bench)
    assert (letter["worker"], letter["reason"], letter["event_id"], letter["user_id"]) == (
        "index", "not indexable", "1", "u",
    )  # fmt: skip
    assert b'"metadata":{"n": 1.50}' in letter["payload"]


async def test_letters_that_were_handled_a_month_ago_are_removed_and_others_stay(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    statuses = ("open", "queued", "sent", "resolved", "discarded")
    for number, (status, days) in enumerate((status, days) for status in statuses for days in (29, 31)):
        await bench.system.fetch(
            """
            insert into dead_letters (tenant_id, reason, detail, topic, source_partition, source_offset, record_index,
                                      payload, status, changed_at)
            values ($1, 'unstorable', 'd', 't', 0, $2, 0, 'x', $3, now() - make_interval(days => $4))
            """,
            UUID(tenant.tenant_id), number, status, days,
        )  # fmt: skip
    connections = Connections(bench.system.settings(MaintainSettings))
    duty = HandledLetters(connections)
    assert await duty.turn()
    assert not await duty.turn()
    await connections.close()
    left = {(x["status"], (datetime.now(UTC) - x["changed_at"]).days) for x in await letters(bench)}
    assert left == {(status, days) for status in statuses for days in (29, 31)} - {("resolved", 31), ("discarded", 31)}


async def test_what_was_stored_is_resolved_also_if_somebody_has_discarded_it_meanwhile(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    letter = await refused(bench, tenant)
    await bench.system.fetch("update dead_letters set status = 'discarded'")
    connections = Connections(bench.system.settings(MaintainSettings))
    async with connections.bound(Role.WORKER, UUID(tenant.tenant_id)) as connection:
        await resolve(connection, [Retry(UUID(tenant.tenant_id), letter["dead_letter_id"])])
    await connections.close()
    assert (await only_letter(bench))["status"] == "resolved"
