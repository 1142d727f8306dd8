"""What can be asked of a replay: refused with the place of the fault, or just what is then sent; how many at once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.database import create_engine
from app.recovery import selection
from app.recovery.selection import Estimate, Selection, estimate
from app.settings import GatewaySettings
from tenants.session import tenant_session
from tests.integration.replays.pieces import FIRST, REPLAYS, moved, shown, started, stored
from tests.integration.tenants.managing import pointers
from tests.system import MadeTenant, System


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"target": "webhook", "webhook_url": "https://10.0.0.1/hook"}, "/webhook_url"),
        ({"target": "webhook", "webhook_url": "https://user@example.com/"}, "/webhook_url"),
        ({"target": "webhook", "webhook_url": "ftp://example.com/"}, "/webhook_url"),
        ({"target": "webhook"}, ""),
        ({"target": "index", "webhook_url": "https://example.com/"}, ""),
        ({"target": "ndjson", "events_per_second": 5}, ""),
        ({"target": "kafka", "events_per_second": 0}, "/events_per_second"),
        ({"target": "raw"}, "/target"),
        ({}, "/target"),
        ({"target": "kafka", "started_at": "2026-02-30"}, "/started_at"),
        ({"target": "kafka", "started_at": "2026-02-02", "ended_at": "2026-02-01"}, ""),
        ({"target": "kafka", "user_id": "a\0"}, "/user_id"),
        ({"target": "kafka", "eventType": "a", "name": "a"}, "/name"),
        ({"target": "kafka", "event_type": ""}, "/event_type"),
    ],
)
async def test_an_order_that_can_not_be_is_refused_with_the_place_of_the_fault(
    http: httpx.AsyncClient, members: dict[str, Any], pointer: str
) -> None:
    assert pointers(await http.post(REPLAYS, json=members)) == {pointer}


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, range(90)),
        ({"event_type": "click"}, range(1, 90, 2)),
        ({"name": "click"}, range(1, 90, 2)),
        ({"userId": "u1"}, range(1, 90, 3)),
        ({"eventType": "view", "user_id": "u1"}, range(4, 90, 6)),
        ({"started_at": "2026-03-01T00:30:00Z", "ended_at": "2026-03-01T01:00:00Z"}, range(30, 60)),
        ({"endedAt": "2026-03-01T01:00:00+01:00"}, range(0)),
        ({"started_at": "2026-03-02"}, range(0)),
    ],
)
async def test_a_dry_run_says_how_much_is_then_sent(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, filters: dict[str, str], wanted: range
) -> None:
    sent = await stored(system, tenant, http, 90)
    dry = await http.post(REPLAYS, json={"target": "ndjson", "dry_run": True, **filters})
    assert dry.status_code == 200, dry.text
    assert (dry.json()["events"], dry.json()["estimated"]) == (len(wanted), False)
    replay = await started(http, "ndjson", **filters)
    lines = (await http.get(f"{REPLAYS}/{replay['replay_id']}/events")).text.splitlines()
    assert [line.split('"')[3] for line in lines] == [sent[number] for number in wanted]
    found = await shown(http, replay)
    assert (found["total"], found["sent"], found["total_estimated"]) == (len(wanted), len(wanted), False)
    if not filters:
        usage = (await http.get("/api/v1/usage")).json()["totals"]
        assert dry.json()["bytes"] == usage["bytes"]
    assert [row["state"] for row in (await http.get(REPLAYS)).json()["replays"]] == ["done"], "a dry run is no job"


async def test_what_is_too_much_to_count_is_estimated_and_said_to_be(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(system, tenant, http, 40)
    engine = create_engine(system.settings(GatewaySettings).postgres_app_url.get_secret_value(), pool_size=1)

    async def found(measured: int, counted: int) -> Estimate:
        monkeypatch.setattr(selection, "MEASURED", measured)
        monkeypatch.setattr(selection, "COUNTED", counted)
        tenant_id = UUID(tenant.tenant_id)
        async with tenant_session(engine, tenant_id) as connection:
            (now,) = (await system.fetch("select clock_timestamp()"))[0]
            return await estimate(connection, Selection(tenant_id, now, event_type="click"))

    try:
        exact = await found(20, 20)
        assert exact == Estimate(20, exact.size, estimated=False)
        sampled = await found(10, 20)
        assert (sampled.events, sampled.estimated) == (20, True)
        assert abs(sampled.size - exact.size) < exact.size / 10
        guessed = await found(10, 15)
        assert guessed.estimated
        assert guessed.events >= 16
    finally:
        await engine.dispose()


async def test_a_tenant_has_at_most_four_unfinished_replays_however_many_ask_at_once(
    tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    assert tenant.tenant_id
    answers = await asyncio.gather(*(http.post(REPLAYS, json={"target": "ndjson"}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [409] * 6
    made = [answer.json() for answer in answers if answer.status_code == 201]
    await moved(http, made[0], "pause")
    assert (await http.post(REPLAYS, json={"target": "ndjson"})).status_code == 409
    await moved(http, made[1], "cancel")
    assert (await http.post(REPLAYS, json={"target": "ndjson"})).status_code == 201

    first = (await http.get(REPLAYS, params={"limit": "3"})).json()
    rest = (await http.get(REPLAYS, params={"limit": "3", "cursor": first["next_cursor"]})).json()
    assert rest["next_cursor"] is None
    told = [replay["replay_id"] for replay in first["replays"] + rest["replays"]]
    assert len(set(told)) == len(told) == 5
    assert {replay["replay_id"] for replay in made} < set(told)


async def test_what_is_received_after_the_request_is_not_part_of_it(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    sent = await stored(system, tenant, http, 5)
    replay = await started(http, "ndjson")
    await stored(system, tenant, http, 5, timestamp=FIRST.isoformat())
    lines = (await http.get(f"{REPLAYS}/{replay['replay_id']}/events")).text.splitlines()
    assert [line.split('"')[3] for line in lines] == sent
