"""Answers are as the OpenAPI document describes them: status, media type, schema, headers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.ingest.endpoint import BATCH, SINGLE
from tests.contract.described import OAUTH, resolved
from tests.integration.recovery.lettered import lettered, poisoned
from tests.system import TOP_BURST, System

INGEST_CASES: list[tuple[str, int, dict[str, Any]]] = [
    (SINGLE, 202, {"json": {"event_type": "a"}}),
    (SINGLE, 400, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    (SINGLE, 413, {"json": {"event_type": "a", "metadata": {"x": "y" * 70_000}}}),
    (SINGLE, 415, {"content": b"a=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    (SINGLE, 415, {"content": b"{}", "headers": {"Content-Encoding": "br"}}),
    (SINGLE, 422, {"json": {"metadata": 1, "extra": True}}),
    (BATCH, 202, {"json": [{"event_type": "a"}, {"event_type": 7, "event_id": "b"}]}),
    (BATCH, 400, {"content": b"[{]", "headers": {"Content-Type": "application/json"}}),
    (BATCH, 413, {"json": [{"event_type": "a"}] * 2001}),
    (BATCH, 415, {"content": b"a", "headers": {"Content-Type": "text/csv"}}),
    (BATCH, 422, {"json": [{}, {"event_type": ""}]}),
    (BATCH, 422, {"json": {"events": []}}),
]


@pytest.mark.parametrize(("path", "status", "request_"), INGEST_CASES)
async def test_an_answer_of_the_ingest_routes_is_as_described(
    path: str, status: int, request_: dict[str, Any], system: System, document: dict[str, Any]
) -> None:
    async with system.client(await system.tenant()) as client:
        answer = await client.post(path, **request_)
    _as_described(answer, path, status, document)


@pytest.mark.parametrize("path", [SINGLE, BATCH])
@pytest.mark.parametrize(("status", "scope"), [(401, None), (403, "events:read")])
async def test_a_refusal_of_the_ingest_routes_is_as_described(
    path: str, status: int, scope: str | None, system: System, document: dict[str, Any]
) -> None:
    async with system.client(await system.tenant() if scope else None, scope) as client:
        answer = await client.post(path, json=[{"event_type": "a"}])
    _as_described(answer, path, status, document)


@pytest.mark.parametrize("path", [SINGLE, BATCH])
async def test_an_answer_over_the_limit_is_as_described(path: str, system: System, document: dict[str, Any]) -> None:
    async with system.client(await system.tenant(rate=0.05, burst=1)) as client:
        assert (await client.post(SINGLE, json={"event_type": "a"})).status_code == 202
        event = {"event_type": "a"}
        answer = await client.post(path, json=event if path == SINGLE else [event])
    _as_described(answer, path, 429, document)


async def test_a_batch_over_the_bucket_is_answered_as_described(system: System, document: dict[str, Any]) -> None:
    async with system.client(await system.tenant(rate=TOP_BURST, burst=1)) as client:
        answer = await client.post(BATCH, json=[{"event_type": "a"}] * 2)
    _as_described(answer, BATCH, 413, document)


@pytest.mark.parametrize("path", sorted(OAUTH))
@pytest.mark.parametrize("right", [True, False])
async def test_an_answer_where_clients_authenticate_is_as_described(
    path: str, right: bool, system: System, document: dict[str, Any]
) -> None:
    tenant = await system.tenant()
    form = {"grant_type": "client_credentials"} if path == "/oauth/token" else {"token": "none"}
    async with system.client() as client:
        answer = await client.post(path, data=form, auth=(tenant.client_id, tenant.client_secret if right else "wrong"))
    _as_described(answer, path, 200 if right else 401, document)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/events/count",
        "/api/v1/events/trend",
        "/api/v1/events/stats",
        "/api/v1/events/search",
        "/api/v1/clients",
        "/api/v1/audit",
        "/api/v1/dead-letters",
        "/api/v1/replays",
        "/api/v1/erasures",
        "/api/v1/usage",
        "/api/v1/limits",
    ],
)
async def test_an_answer_of_a_reading_or_managing_route_is_as_described(
    path: str, system: System, document: dict[str, Any]
) -> None:
    async with system.client(await system.tenant()) as client:
        _as_described(await client.get(path), path, 200, document, method="get")
    async with system.client() as nobody:
        _as_described(await nobody.get(path), path, 401, document, method="get")


async def test_answers_about_an_erasure_are_as_described(system: System, document: dict[str, Any]) -> None:
    users, one = "/api/v1/users/{user_id}", "/api/v1/erasures/{erasure_id}"
    async with system.client(await system.tenant()) as client:
        asked = await client.delete(users.format(user_id="u"))
        _as_described(asked, users, 202, document, method="delete")
        _as_described(await client.delete(users.format(user_id="u" * 201)), users, 422, document, method="delete")
        _as_described(await client.delete(users.format(user_id="%ff")), users, 400, document, method="delete")
        _as_described(await client.get(asked.headers["location"]), one, 200, document, method="get")
        _as_described(await client.get(one.format(erasure_id="x")), one, 422, document, method="get")
        nobody = "00000000-0000-4000-8000-000000000000"
        _as_described(await client.get(one.format(erasure_id=nobody)), one, 404, document, method="get")
        listed = await client.get("/api/v1/erasures", params={"limit": 0})
        _as_described(listed, "/api/v1/erasures", 422, document, method="get")


async def test_answers_about_a_replay_are_as_described(system: System, document: dict[str, Any]) -> None:
    every, one = "/api/v1/replays", "/api/v1/replays/{replay_id}"
    async with system.client(await system.tenant()) as client:
        order = {"target": "webhook", "webhook_url": "https://example.com/hook"}
        made = await client.post(every, json=order)
        _as_described(made, every, 201, document)
        _as_described(await client.post(every, json={**order, "dry_run": True}), every, 200, document)
        _as_described(await client.post(every, json={"target": "raw"}), every, 422, document)
        _as_described(await client.get(every), every, 200, document, method="get")
        path = made.headers["location"]
        _as_described(await client.get(path), one, 200, document, method="get")
        _as_described(await client.get(f"{path}0"), one, 422, document, method="get")
        _as_described(await client.get(f"{path}/events"), f"{one}/events", 409, document, method="get")
        for action, status in (("pause", 200), ("resume", 200), ("cancel", 200), ("resume", 409)):
            _as_described(await client.post(f"{path}/{action}"), f"{one}/{action}", status, document)
        nobody = one.format(replay_id="00000000-0000-4000-8000-000000000000")
        for action in ("pause", "resume", "cancel"):
            _as_described(await client.post(f"{nobody}/{action}"), f"{one}/{action}", 404, document)
        read = f"{(await client.post(every, json={'target': 'ndjson'})).headers['location']}/events"
        _as_described(await client.get(read, params={"after": "none"}), f"{one}/events", 422, document, method="get")
        _as_described(await client.get(read + "?%ff"), f"{one}/events", 400, document, method="get")
        for _ in range(3):
            await client.post(every, json={"target": "ndjson"})
        _as_described(await client.post(every, json={"target": "ndjson"}), every, 409, document)


async def test_answers_about_a_dead_letter_are_as_described(system: System, document: dict[str, Any]) -> None:
    tenant = await system.tenant()
    letter_id, unreadable = await poisoned(system, tenant), await lettered(system, tenant, payload=b"\xff")
    one = "/api/v1/dead-letters/{dead_letter_id}"
    async with system.client(tenant) as client:
        path = one.format(dead_letter_id=letter_id)
        _as_described(await client.get(path), one, 200, document, method="get")
        _as_described(await client.get(path + "0"), one, 422, document, method="get")
        whole = await client.get(one.format(dead_letter_id=unreadable))
        _as_described(whole, one, 200, document, method="get")
        for body, status in (({"metadata": {}}, 200), ({"metadata": 1}, 422)):
            _as_described(await client.patch(path, json=body), one, status, document, method="patch")
        for action, status in (("discard", 200), ("discard", 409), ("retry", 200)):
            _as_described(await client.post(f"{path}/{action}"), f"{one}/{action}", status, document)
        for action in ("retry", "discard"):
            every = f"/api/v1/dead-letters/{action}"
            _as_described(await client.post(every), every, 200, document)
            _as_described(await client.post(every, params={"status": "open"}), every, 422, document)


def _as_described(
    answer: httpx.Response, path: str, status: int, document: dict[str, Any], method: str = "post"
) -> None:
    assert answer.status_code == status, answer.text
    described = document["paths"][path][method]["responses"][str(status)]
    schema = described["content"][answer.headers["content-type"]]["schema"]
    faults = [error.message for error in Draft202012Validator(resolved(schema, document)).iter_errors(answer.json())]
    assert faults == [], answer.text
    assert {name for name in described.get("headers", {}) if name not in answer.headers} == set()
