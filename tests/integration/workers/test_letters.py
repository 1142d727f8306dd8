"""Dead letters that are tried again: sent to the store or written to the index, each counted once, whatever dies."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.events.record import decoder, partition_key, shard_of
from app.settings import MaintainSettings
from search.client import make_client
from search.verify import tenant_total
from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.workers.conftest import NOW, Bench, event, record
from tests.integration.workers.test_index import report
from tests.integration.workers.test_maintain import as_maintain, maintaining
from tests.system import MadeTenant, until
from workers.connections import Connections
from workers.dead_letters import HEADER, Retry, header_of, retry_of
from workers.letters import StoreRetries
from workers.sender import Sender

POISON = b'{"n":"\\u0000"}'
MENDED = b'{"n":"mended"}'


@asynccontextmanager
async def store_retries(bench: Bench) -> AsyncIterator[StoreRetries]:
    """The duty, to be turned by hand."""
    settings = bench.system.settings(MaintainSettings)
    connections, sender = Connections(settings), Sender(settings.kafka_bootstrap)
    try:
        yield StoreRetries(connections, sender, settings.raw_topic)
    finally:
        await connections.close()
        await sender.close()


async def letters(bench: Bench) -> list[dict[str, Any]]:
    rows = await bench.system.fetch("select * from dead_letters order by source_offset, record_index")
    return [dict(row) for row in rows]


async def only_letter(bench: Bench) -> dict[str, Any]:
    (letter,) = await letters(bench)
    return letter


async def refused(bench: Bench, tenant: MadeTenant, event_id: str = "1") -> dict[str, Any]:
    """An event that PostgreSQL refuses, as a dead letter of the store."""
    await bench.put(0, record(tenant, event(event_id, metadata=POISON)))
    async with bench.running("store"):
        await until(lambda: letters(bench), bool)
    return await only_letter(bench)


async def queue(bench: Bench, metadata: bytes | None = None) -> None:
    """As the API would, of every letter: with another content, if there is one."""
    for letter in await letters(bench):
        payload = json.loads(letter["payload"]) if metadata is not None else None
        edit = None if payload is None else json.dumps(payload | {"metadata": json.loads(metadata or b"")}).encode()
        await bench.system.fetch(
            "update dead_letters set status = 'queued', retry_payload = coalesce($2, retry_payload) "
            "where dead_letter_id = $1",
            letter["dead_letter_id"],
            edit,
        )


async def settled(bench: Bench) -> dict[str, Any]:
    """The one letter, once the store has said what became of it."""
    await until(lambda: letters(bench), lambda found: {x["status"] for x in found} <= {"open", "resolved"})
    return await only_letter(bench)


async def position(bench: Bench) -> int:
    """How many records were stored."""
    return int((await bench.system.fetch("select sum(next_offset) from stream_offsets"))[0][0])


async def indexed(bench: Bench, tenant: MadeTenant) -> int:
    """How many events of the tenant search knows."""
    client = make_client(bench.settings.elasticsearch_url.get_secret_value())
    try:
        return await tenant_total(client, bench.settings.index_prefix, UUID(tenant.tenant_id))
    finally:
        await client.close()


async def log_of(bench: Bench) -> list[ConsumerRecord]:
    """Everything in the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bench.settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(bench.settings.raw_topic, number) for number in range(4)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def test_a_letter_says_which_worker_why_and_whose_event_it_was(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    letter = await refused(bench, tenant)
    assert (letter["worker"], letter["status"], letter["attempts"]) == ("store", "open", 1)
    assert (letter["reason"], letter["source_partition"], letter["source_offset"], letter["record_index"]) == (
        "unstorable", 0, 0, 0,
    )  # fmt: skip
    assert "Unicode escape sequence" in letter["detail"]
    assert (letter["event_id"], letter["event_type"], letter["user_id"]) == ("1", "t", "u")
    assert (letter["client_id"], letter["received_at"]) == (tenant.client_id, NOW)
    assert (letter["retry_payload"], letter["copied_at"]) == (None, None)


async def test_what_no_column_can_hold_is_in_the_original_alone_and_stops_nothing(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, event("nul\0id"), event(secrets.token_hex(5_000)), event("1")))
    async with bench.running("store"):
        await until(lambda: letters(bench), lambda found: len(found) == 2)
    assert [(x["event_id"], x["user_id"]) for x in await letters(bench)] == [(None, "u"), (None, "u")]
    assert [len(json.loads(x["payload"])["event_id"]) for x in await letters(bench)] == [6, 10_000]
    assert await bench.system.counted(tenant) == 1


async def test_a_mended_letter_is_stored_with_its_first_receipt_counted_once_and_searchable(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    letter = await refused(bench, tenant)
    await queue(bench, MENDED)
    async with store_retries(bench) as duty, bench.running("store", "index"):
        assert await duty.turn()
        assert (await settled(bench))["status"] == "resolved"
        await until(lambda: indexed(bench, tenant), (1).__eq__)
    assert (await report(bench, tenant)).agrees
    (row,) = await bench.system.fetch("select * from events")
    assert (row["event_id"], row["received_at"], row["client_id"]) == ("1", NOW, tenant.client_id)
    assert json.loads(row["metadata"]) == {"n": "mended"}
    (usage,) = await bench.system.fetch("select stored, duplicates, hour from usage")
    assert tuple(usage) == (1, 0, NOW)
    (sent,) = [record for record in await log_of(bench) if record.headers]
    assert sent.headers == ((HEADER, f"{tenant.tenant_id}/{letter['dead_letter_id']}".encode()),)
    assert sent.key == partition_key(UUID(tenant.tenant_id), 0, 1)
    assert decoder.decode(sent.value).received_at == NOW


async def test_an_ordinary_record_carries_nothing_of_this(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await bench.put(0, record(tenant, event("1")))
    assert [record.headers for record in await log_of(bench)] == [()]


async def test_the_maintain_worker_sends_and_copies_letters_by_itself(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refused(bench, tenant)
    await queue(bench, MENDED)
    async with bench.running("store"), maintaining(as_maintain(bench)):
        found = await until(lambda: letters(bench), lambda seen: seen[0]["status"] == "resolved")
        assert await bench.system.counted(tenant) == 1
        found = await until(lambda: letters(bench), lambda seen: seen[0]["copied_at"] is not None)
    assert found[0]["status"] == "resolved"


async def test_a_letter_that_is_refused_again_is_the_same_letter_with_an_attempt_more(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    first = await refused(bench, tenant)
    for attempts in (2, 3):
        await queue(bench)
        async with store_retries(bench) as duty, bench.running("store"):
            await duty.turn()
            letter = await settled(bench)
        assert (letter["status"], letter["attempts"]) == ("open", attempts)
        assert letter["dead_letter_id"] == first["dead_letter_id"]
        assert (letter["source_offset"], letter["payload"]) == (first["source_offset"], first["payload"])
    assert await bench.system.fetch("select * from usage") == []


async def test_one_that_was_sent_twice_counts_once_and_fails_once(bench: Bench) -> None:
    """A process dies between Kafka's acknowledgement and the mark: the letter is still queued, and sent again."""
    tenant = await bench.system.tenant()
    await refused(bench, tenant)

    async def send_without_mark(duty: StoreRetries) -> None:
        await duty.turn()
        await bench.system.fetch("update dead_letters set status = 'queued'")

    await queue(bench)
    async with store_retries(bench) as duty:
        await send_without_mark(duty)
        await duty.turn()
    async with bench.running("store"):
        await until(lambda: position(bench), lambda found: found == 3)
    letter = await only_letter(bench)
    assert (letter["status"], letter["attempts"]) == ("open", 2)
    await queue(bench, MENDED)
    async with store_retries(bench) as duty:
        await send_without_mark(duty)
        await send_without_mark(duty)
        await duty.turn()
    async with bench.running("store", "index"):
        assert (await settled(bench))["status"] == "resolved"
        await until(lambda: indexed(bench, tenant), (1).__eq__)
    assert (await report(bench, tenant)).agrees
    assert [tuple(row) for row in await bench.system.fetch("select count(*), sum(1) from events")] == [(1, 1)]
    assert (await only_letter(bench))["attempts"] == 2


async def test_a_letter_whose_event_was_sent_again_by_its_client_is_a_duplicate_and_resolved(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refused(bench, tenant)
    await bench.put(1, record(tenant, event("1", "sent again")))
    await queue(bench, MENDED)
    async with bench.running("store"):
        await until(lambda: bench.system.counted(tenant), lambda found: found == 1)
        async with store_retries(bench) as duty:
            await duty.turn()
        assert (await settled(bench))["status"] == "resolved"
    assert [row[0] for row in await bench.system.fetch("select event_type from events")] == ["sent again"]


async def test_nothing_is_sent_that_nobody_asked_for_and_what_was_sent_only_when_it_is_overdue(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refused(bench, tenant)
    async with store_retries(bench) as duty:
        for status in ("open", "sent", "resolved", "discarded"):
            await bench.system.fetch("update dead_letters set status = $1, changed_at = now()", status)
            assert not await duty.turn(), status
        await bench.system.fetch("update dead_letters set status = 'sent', changed_at = now() - interval '11 minutes'")
        assert await duty.turn()
        assert not await duty.turn()
    assert len(await log_of(bench)) == 2


async def test_a_letter_that_another_process_is_at_is_left_to_it(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refused(bench, tenant)
    await queue(bench)
    other = await asyncpg.connect(bench.system.admin_url)
    async with store_retries(bench) as duty:
        async with other.transaction():
            await other.fetch("select 1 from dead_letters for update")
            assert not await duty.turn()
        assert await duty.turn()
    await other.close()


async def test_while_kafka_is_away_a_letter_stays_queued(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refused(bench, tenant)
    await queue(bench)
    settings = bench.system.settings(MaintainSettings)
    connections, sender = Connections(settings), Sender("127.0.0.1:9")
    with pytest.raises(Exception, match="Unable to bootstrap"):
        await StoreRetries(connections, sender, settings.raw_topic).turn()
    connections.drop()
    await sender.close()
    assert (await only_letter(bench))["status"] == "queued"


async def test_a_letter_goes_to_its_users_shard_as_the_gateway_would_send_it(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    tenant_id = UUID(tenant.tenant_id)
    await refused(bench, tenant)
    await bench.system.fetch("update plans set shards = 8 where plan_id = 'standard'")
    await bench.system.fetch("update tenants set shards = 8")
    await queue(bench)
    async with store_retries(bench) as duty:
        await duty.turn()
    (sent,) = [record for record in await log_of(bench) if record.headers]
    assert sent.key == partition_key(tenant_id, shard_of("u", 8), 8)


async def test_a_record_that_belongs_to_nobody_is_sent_as_it_is_and_stays_one_letter(bench: Bench) -> None:
    await bench.put(0, b"no record")
    async with bench.running("store"):
        await until(lambda: letters(bench), bool)
        await queue(bench)
        async with store_retries(bench) as duty:
            await duty.turn()
        letter = await settled(bench)
    assert (letter["tenant_id"], letter["reason"], letter["attempts"]) == (PLATFORM_TENANT_ID, "not a record", 2)
    assert [record.value for record in await log_of(bench)] == [b"no record"] * 2


async def test_an_event_of_an_unknown_tenant_is_stored_once_that_tenant_is_there(bench: Bench) -> None:
    """As after a database was restored from a backup that is older than the tenant."""
    tenant_id = uuid4()
    await bench.put(0, record(MadeTenant(str(tenant_id), "c", ""), event("1")))
    async with bench.running("store"):
        await until(lambda: letters(bench), bool)
        assert (await only_letter(bench))["reason"] == "unknown tenant"
        await bench.system.fetch(
            "insert into tenants (tenant_id, name, plan_id) values ($1, 'back', 'free')", tenant_id
        )
        await queue(bench)
        async with store_retries(bench) as duty:
            await duty.turn()
        assert (await settled(bench))["status"] == "resolved"
    assert [row[0] for row in await bench.system.fetch("select tenant_id from events")] == [tenant_id]


async def test_a_letter_that_was_removed_meanwhile_makes_room_for_a_new_one(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    first = await refused(bench, tenant)
    await queue(bench)
    async with store_retries(bench) as duty:
        await duty.turn()
    await bench.system.fetch("delete from dead_letters")
    async with bench.running("store"):
        await until(lambda: letters(bench), bool)
    second = await only_letter(bench)
    assert second["dead_letter_id"] != first["dead_letter_id"]
    assert (second["attempts"], second["event_id"]) == (1, "1")


async def test_a_letter_of_a_tenant_that_is_being_deleted_does_not_come_back(bench: Bench) -> None:
    tenant = await bench.system.tenant()
    await refused(bench, tenant)
    await queue(bench, MENDED)
    await bench.system.fetch("update tenants set status = 'deleting' where tenant_id = $1", UUID(tenant.tenant_id))
    async with store_retries(bench) as duty, bench.running("store"):
        await duty.turn()
        await settled(bench)
    assert await bench.system.counted(tenant) == 0


@pytest.mark.parametrize("value", [b"", b"x", b"/", b"\xff", b"1/2"])
def test_a_header_that_names_no_letter_is_none(value: bytes) -> None:
    def with_headers(*headers: tuple[str, bytes]) -> ConsumerRecord:
        return ConsumerRecord("t", 0, 0, 0, 0, None, b"", None, 0, 0, headers)

    assert retry_of(with_headers((HEADER, value))) is None
    retry = Retry(uuid4(), uuid4())
    assert retry_of(with_headers(("traceparent", b"00-1"), header_of(retry))) == retry
