"""Each target gets exactly the events that were asked for, in their order and marked, and nothing is counted again."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.settings import ReplaySettings
from search import execute
from search.client import make_client
from search.scope import scoped
from search.verify import tenant_total
from tests.integration.replays.pieces import REPLAYS, Pieces, shown, started, stored
from tests.integration.replays.receiver import Receiver
from tests.system import MadeTenant, System, until


async def counted(http: httpx.AsyncClient) -> tuple[Any, ...]:
    """What must not change: how much there is, and how much was used."""
    count = (await http.get("/api/v1/events/count")).json()["count"]
    usage = (await http.get("/api/v1/usage")).json()["totals"]
    trend = (await http.get("/api/v1/events/trend", params={"interval": "daily"})).json()["series"]
    return count, usage, trend


async def replayed_records(system: System, tenant: MadeTenant) -> list[tuple[bytes, dict[str, Any]]]:
    """Key and value of all that is in the topic of replays for this tenant."""
    settings = system.settings(ReplaySettings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(settings.replay_topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.key, json.loads(record.value)) for record in batch]
        return [(key, value) for key, value in found if value["tenant_id"] == tenant.tenant_id]
    finally:
        await consumer.stop()


async def test_the_index_has_each_event_once_after_some_were_lost_there(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces
) -> None:
    await stored(system, tenant, http, 25)
    settings = system.settings(ReplaySettings)
    client = make_client(settings.elasticsearch_url.get_secret_value())
    tenant_id = UUID(tenant.tenant_id)
    try:

        async def indexed() -> int:
            await execute.refresh(client, settings.index_prefix)
            return await tenant_total(client, settings.index_prefix, tenant_id)

        await until(indexed, lambda total: total == 25)
        before = await counted(http)
        await execute.delete(
            client, settings.index_prefix, scoped(tenant_id, {"term": {"event_type": "click"}}), most=1000
        )
        assert await indexed() == 13
        done = await pieces.all(http, await started(http, "index"))
        assert (done["state"], done["total"], done["sent"], done["refused"], done["share"]) == ("done", 25, 25, 0, 1.0)
        assert await indexed() == 25
    finally:
        await client.close()
    found = (await http.get("/api/v1/events/search", params={"q": "häuser", "limit": 100})).json()
    assert found["total"] == len({hit["event_id"] for hit in found["hits"]}) == 25
    assert await counted(http) == before


async def test_the_topic_gets_every_event_marked_in_order_and_under_the_key_that_it_had(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces
) -> None:
    sent = await stored(system, tenant, http, 30)
    before = await counted(http)
    replay = await started(http, "kafka")
    assert (await pieces.all(http, replay))["sent"] == 30
    records = await replayed_records(system, tenant)
    assert {key for key, _ in records} == {tenant.tenant_id.encode()}
    assert [event["event_id"] for _, value in records for event in value["events"]] == sent
    assert all(value["replayed"] and value["replay_id"] == replay["replay_id"] for _, value in records)
    assert await counted(http) == before


async def test_users_of_a_tenant_with_several_shards_stay_together_and_in_order(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces
) -> None:
    sent = await stored(system, tenant, http, 30)
    await system.fetch("update tenants set shards = 4 where tenant_id = $1", tenant.tenant_id)
    await pieces.all(http, await started(http, "kafka"))
    keys: dict[str, set[bytes]] = {}
    of_user: dict[str, list[str]] = {}
    for key, value in await replayed_records(system, tenant):
        for event in value["events"]:
            keys.setdefault(event["user_id"], set()).add(key)
            of_user.setdefault(event["user_id"], []).append(event["event_id"])
    assert all(len(found) == 1 for found in keys.values())
    assert len(set().union(*keys.values())) > 1
    assert all(found == sorted(found) for found in of_user.values())
    assert sorted(each for found in of_user.values() for each in found) == sent


async def test_a_webhook_gets_signed_batches_in_order_and_its_secret_is_shown_once(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver
) -> None:
    sent = await stored(system, tenant, http, 230)
    before = await counted(http)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    secret = replay["webhook_secret"]
    assert secret.startswith("whsec_")
    done = await pieces.all(http, replay)
    assert (done["state"], done["sent"], done["problem"]) == ("done", 230, None)
    assert "webhook_secret" not in done
    assert "webhook_secret" not in await shown(http, replay)
    bodies = receiver.verified(secret)
    assert [len(body["data"]["events"]) for body in bodies] == [100, 100, 30]
    assert receiver.events() == sent
    assert len(set(receiver.ids())) == 3
    for body in bodies:
        assert body["type"] == "events.replayed"
        assert body["data"]["replayed"] is True
        assert body["data"]["replay_id"] == replay["replay_id"]
        assert body["data"]["tenant_id"] == tenant.tenant_id
    assert await counted(http) == before
    kept = await system.fetch("select webhook_secret from replays where replay_id = $1", replay["replay_id"])
    assert [row[0] for row in kept] == [None], "a finished replay needs no secret any more"


async def lines_of(http: httpx.AsyncClient, replay: dict[str, Any], **parameters: str) -> list[dict[str, Any]]:
    answer = await http.get(f"{REPLAYS}/{replay['replay_id']}/events", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_ndjson_is_read_as_lines_goes_on_behind_an_event_and_counts_each_once(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    sent = await stored(system, tenant, http, 2100)
    before = await counted(http)
    replay = await started(http, "ndjson")
    assert (await shown(http, replay))["share"] == 0
    behind = await lines_of(http, replay, after=sent[1999])
    assert [line["event_id"] for line in behind] == sent[2000:]
    lines = await lines_of(http, replay)
    assert [line["event_id"] for line in lines] == sent
    assert lines[0] == {
        "event_id": sent[0],
        "event_type": "view",
        "user_id": "u0",
        "client_id": tenant.client_id,
        "timestamp": "2026-03-01T00:00:00Z",
        "received_at": lines[0]["received_at"],
        "metadata": {"number": 0, "text": "häuser 修"},
        "replay_id": replay["replay_id"],
        "replayed": True,
    }
    done = await shown(http, replay)
    assert (done["state"], done["share"]) == ("done", 1)
    assert done["finished_at"] is not None
    assert [line["event_id"] for line in await lines_of(http, replay, after=sent[-1])] == []
    assert await counted(http) == before


async def test_sent_counts_what_was_read_not_how_often(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    sent = await stored(system, tenant, http, 1500)
    replay = await started(http, "ndjson")
    path = f"{REPLAYS}/{replay['replay_id']}/events"
    async with http.stream("GET", path) as answer:
        async for _ in answer.aiter_lines():
            break
    for _ in range(2):
        assert [line["event_id"] for line in await lines_of(http, replay)] == sent
    assert (await shown(http, replay))["sent"] == 1500
