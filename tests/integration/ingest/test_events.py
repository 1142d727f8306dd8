"""The ingest routes over HTTP, on the running system: acknowledged means stored, and every refusal says why."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import zstandard

from tests.system import System, until

SINGLE, BATCH = "/api/v1/events", "/api/v1/events/batch"


async def count(client: httpx.AsyncClient, **filters: str) -> int:
    answer = await client.get("/api/v1/events/count", params=filters)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["count"])


async def test_an_acknowledged_event_is_stored_counted_found_and_on_its_user_s_timeline(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        event = {"event_type": "signup", "user_id": "u 1/ü", "metadata": {"note": "hello 修复"}, "event_id": "e1"}
        answer = await client.post(SINGLE, json=event)
        assert answer.status_code == 202
        assert answer.json() == {"message": "Event received successfully", "event_id": "e1"}
        await until(lambda: count(client), lambda found: found == 1)
        day = datetime.now(UTC).date().isoformat()
        timeline = (await client.get("/api/v1/events/user/u%201%2F%C3%BC", params={"started_at": day})).json()["events"]
        assert [(item["event_id"], item["metadata"]) for item in timeline] == [("e1", {"note": "hello 修复"})]

        async def hits() -> Any:
            return (await client.get("/api/v1/events/search", params={"q": '"修复"'})).json()

        found = await until(hits, lambda page: page["total"] == 1)
        assert found["hits"][0]["client_id"] == tenant.client_id
    rows = await system.fetch("select client_id, user_id from events where tenant_id = $1", tenant.tenant_id)
    assert [tuple(row) for row in rows] == [(tenant.client_id, "u 1/ü")]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [(None, bytes), ("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)
async def test_a_batch_in_each_encoding_keeps_the_good_and_names_the_bad(
    system: System, encoding: str | None, pack: Any
) -> None:
    tenant = await system.tenant()
    lines = b'{"event_type":"a","event_id":"1"}\n{"event_type":""}\n{"event_type":"b","event_id":"2"}\n'
    headers = {"Content-Type": "application/x-ndjson"} | ({"Content-Encoding": encoding} if encoding else {})
    async with system.client(tenant) as client:
        answer = await client.post(BATCH, content=pack(lines), headers=headers)
        assert answer.status_code == 202
        assert answer.json() == {
            "accepted": 2,
            "rejected": [
                {
                    "index": 1,
                    "event_id": None,
                    "errors": [{"pointer": "/event_type", "detail": "must have 1 to 200 characters, has 0"}],
                }
            ],
        }
        await until(lambda: count(client), lambda found: found == 2)


async def test_an_event_id_counts_once_whatever_its_timestamp_and_the_first_content_wins(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        for number, day in enumerate(("2026-01-01", "2026-02-01", "2026-01-01")):
            event = {"event_type": f"t{number}", "event_id": "same", "timestamp": day}
            assert (await client.post(SINGLE, json=event)).status_code == 202
        same = [{"event_type": "t9", "event_id": "same"}, {"event_type": "last", "event_id": "last"}]
        assert (await client.post(BATCH, json=same)).json()["accepted"] == 2
        await until(lambda: count(client, event_type="last"), lambda found: found == 1)
        assert await count(client) == 2
    rows = await system.fetch("select event_type from events where tenant_id = $1 order by 1", tenant.tenant_id)
    assert [row["event_type"] for row in rows] == ["last", "t0"]


async def test_the_same_id_of_two_tenants_is_two_events(system: System) -> None:
    tenants = [await system.tenant(), await system.tenant()]
    for tenant in tenants:
        async with system.client(tenant) as client:
            assert (await client.post(SINGLE, json={"event_type": "a", "event_id": "shared"})).status_code == 202
            await until(lambda client=client: count(client), lambda found: found == 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "pointer"),
    [
        (SINGLE, b"{", {}, 400, ""),
        (SINGLE, b'{"event_type":5}', {}, 422, "/event_type"),
        (SINGLE, b'{"event_type":"a","metadata":{"a":["\\u0000"]}}', {}, 422, "/metadata/a/0"),
        (SINGLE, b'{"event_type":"a"}', {"Content-Type": "text/xml"}, 415, None),
        (SINGLE, b'{"event_type":"a"}', {"Content-Encoding": "br"}, 415, None),
        (SINGLE, b"x", {"Content-Encoding": "gzip"}, 400, None),
        (SINGLE, b'{"event_type":"a","metadata":{"t":"' + b"x" * 65_536 + b'"}}', {}, 413, None),
        (BATCH, b"[]", {}, 422, ""),
        (BATCH, b'[{"event_type":""},{}]', {}, 422, "/0/event_type"),
        (BATCH, b"[" + b'{"event_type":"a"},' * 2000 + b'{"event_type":"a"}]', {}, 413, None),
    ],
)
async def test_bad_input_is_a_problem_that_says_where(
    system: System, path: str, content: bytes, headers: dict[str, str], status: int, pointer: str | None
) -> None:
    async with system.client(await system.tenant()) as client:
        answer = await client.post(path, content=content, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["instance"] == path
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "ratelimit" in answer.headers
    assert "ratelimit-policy" in answer.headers
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


async def test_ingest_wants_a_token_with_its_scope(system: System) -> None:
    async with system.client() as nobody:
        answer = await nobody.post(SINGLE, json={"event_type": "a"})
        assert (answer.status_code, answer.headers["www-authenticate"][:6]) == (401, "Bearer")
    async with system.client(await system.tenant(), scope="events:read") as reader:
        answer = await reader.post(SINGLE, json={"event_type": "a"})
        assert answer.status_code == 403
        assert 'scope="events:write"' in answer.headers["www-authenticate"]


async def test_over_the_limit_is_429_and_after_the_wait_it_is_admitted(system: System) -> None:
    tenant = await system.tenant(rate=5, burst=5)
    async with system.client(tenant) as client:
        statuses = [(await client.post(SINGLE, json={"event_type": "a"})).status_code for _ in range(8)]
        refused = await client.post(BATCH, json=[{"event_type": "a"}] * 5)
        assert 429 in statuses
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["ratelimit-policy"] == '"events";q=5;w=1'
        too_many = await client.post(BATCH, json=[{"event_type": "a"}] * 6)
        assert too_many.status_code in {413, 429}

        async def again() -> int:
            return (await client.post(BATCH, json=[{"event_type": "a"}] * 5)).status_code

        assert await until(again, lambda status: status == 202, seconds=10) == 202


async def test_a_batch_larger_than_the_bucket_is_refused_with_413(system: System) -> None:
    tenant = await system.tenant(rate=5, burst=5)
    async with system.client(tenant) as client:
        answer = await client.post(BATCH, json=[{"event_type": "a"}] * 6)
    assert answer.status_code == 413
    assert answer.json()["bucket_size"] == 5


async def test_a_batch_larger_than_a_record_is_split_and_stored_whole(system: System) -> None:
    tenant = await system.tenant()
    events = [{"event_type": "big", "event_id": str(n), "metadata": {"t": "x" * 30_000}} for n in range(40)]
    async with system.client(tenant) as client:
        assert (await client.post(BATCH, json=events)).json()["accepted"] == 40
        await until(lambda: count(client), lambda found: found == 40)
    records = await system.fetch(
        "select count(distinct (source_partition, source_offset)) from events where tenant_id = $1", tenant.tenant_id
    )
    assert records[0][0] > 1


async def test_other_methods_and_old_paths_are_answered(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:
        assert (await client.put(SINGLE, json={})).status_code == 405
        for old in ("/events", "/api/events"):
            moved = await client.post(old, json={"event_type": "a"})
            assert (moved.status_code, moved.headers["location"]) == (308, SINGLE)
        moved = await client.get("/events/count?event_type=a")
        assert (moved.status_code, moved.headers["location"]) == (308, "/api/v1/events/count?event_type=a")
        assert (await client.get("/nothing")).json()["type"] == "urn:sluice:problem:not-found"


async def test_the_client_s_own_request_id_comes_back(system: System) -> None:
    async with system.client() as client:
        answer = await client.get("/api/v1/ready", headers={"X-Request-Id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        answer = await client.get("/api/v1/ready", headers={"X-Request-Id": "not sane!"})
        assert answer.headers["x-request-id"] != "not sane!"


async def test_the_documentation_needs_no_internet(system: System) -> None:
    async with system.client() as client:
        page = (await client.get("/docs")).text
        assert "//cdn" not in page
        assert "http" not in page.split("<body>")[0].replace("http-equiv", "")
        for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert f"/docs/assets/{name}" in page
            assert (await client.get(f"/docs/assets/{name}")).status_code == 200


async def test_metrics_count_what_was_accepted(system: System) -> None:
    async with system.client(await system.tenant()) as client:
        assert (await client.post(SINGLE, json={"event_type": "a"})).status_code == 202
    async with httpx.AsyncClient() as plain:
        page = (await plain.get(f"http://127.0.0.1:{system.environment['SLUICE_METRICS_PORT']}/metrics")).text
    accepted = next(
        line for line in page.splitlines() if line.startswith('sluice_ingest_events_total{outcome="accepted"}')
    )
    assert float(accepted.split()[1]) >= 1


async def test_a_body_in_the_event_is_kept_digit_for_digit(system: System) -> None:
    tenant = await system.tenant()
    metadata = '{"n":12345678901234567890.123456789,"t":"\\u4fee\\u590d","deep":[[[{"x":null}]]]}'
    async with system.client(tenant) as client:
        body = f'{{"event_type":"a","user_id":"u","metadata":{metadata}}}'
        assert (
            await client.post(SINGLE, content=body, headers={"Content-Type": "application/json"})
        ).status_code == 202
        await until(lambda: count(client), lambda found: found == 1)
        timeline = (await client.get("/api/v1/events/user/u")).text
    assert "12345678901234567890.123456789" in timeline
    assert json.loads(timeline)["events"][0]["metadata"]["t"] == "修复"
