"""`/api/v1/dead-letters` on a running system: what a tenant sees of its dead letters, and what it does about them."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.integration.recovery.lettered import LETTERS, lettered, poisoned, retrying
from tests.integration.tenants.managing import pointers
from tests.integration.workers.conftest import NOW
from tests.system import MadeTenant, System, until

if TYPE_CHECKING:
    import httpx

STATUSES = ("open", "queued", "sent", "resolved", "discarded")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def listed(http: httpx.AsyncClient, **asked: str) -> list[dict[str, Any]]:
    answer = await http.get(LETTERS, params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["dead_letters"]
    return found


async def actions(system: System, tenant: MadeTenant) -> list[tuple[str, str, dict[str, Any]]]:
    rows = await system.fetch(
        "select action, subject, detail from audit_log where tenant_id = $1 and action like 'dead_letter%' order by at",
        uuid.UUID(tenant.tenant_id),
    )
    return [(row["action"], row["subject"], json.loads(row["detail"])) for row in rows]


async def test_an_event_that_could_not_be_stored_is_mended_retried_stored_once_and_found(system: System) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant, "order-1", b'{"note": "a\\u0000b", "amount": 1e400}')
    async with system.client(tenant) as http, retrying(system) as duty:
        (shown,) = await listed(http)
        assert shown | {"created_at": "", "changed_at": "", "detail": ""} == {
            "dead_letter_id": letter_id,
            "status": "open",
            "worker": "store",
            "reason": "unstorable",
            "detail": "",
            "attempts": 1,
            "event_id": "order-1",
            "event_type": "t",
            "user_id": "u",
            "client_id": tenant.client_id,
            "received_at": "2026-05-04T12:00:00Z",
            "edited": False,
            "created_at": "",
            "changed_at": "",
        }
        assert "Unicode escape sequence" in shown["detail"]

        # As it is it fails again, and says so.
        assert (await http.post(f"{LETTERS}/{letter_id}/retry")).json()["status"] == "queued"
        await duty.turn()
        (again,) = await until(lambda: listed(http), lambda found: found[0]["status"] == "open")
        assert (again["attempts"], again["dead_letter_id"]) == (2, letter_id)

        wrong = await http.patch(f"{LETTERS}/{letter_id}", json={"timestamp": "soon"})
        assert "/timestamp" in pointers(wrong)
        assert "/metadata/note" in pointers(await http.patch(f"{LETTERS}/{letter_id}", json={"event_type": "order"}))
        mended = await http.patch(f"{LETTERS}/{letter_id}", json={"metadata": {"note": "mended"}, "eventType": "order"})
        assert mended.status_code == 200, mended.text
        assert (mended.json()["edited"], mended.json()["event_type"]) == (True, "order")
        assert mended.json()["edit"]["metadata"] == {"note": "mended"}

        assert (await http.post(f"{LETTERS}/{letter_id}/retry")).status_code == 200
        await duty.turn()
        (done,) = await until(lambda: listed(http), lambda found: found[0]["status"] == "resolved")
        assert done["attempts"] == 2
        count = (await http.get("/api/v1/events/count", params={"event_type": "order"})).json()
        assert count == {"event_type": "order", "count": 1}

        async def hits() -> Any:
            return (await http.get("/api/v1/events/search", params={"q": "mended"})).json()["hits"]

        (hit,) = await until(hits, bool)
        assert (hit["event_id"], hit["timestamp"]) == ("order-1", "2026-05-04T12:00:00Z")
    (row,) = await system.fetch("select * from events where tenant_id = $1", uuid.UUID(tenant.tenant_id))
    assert (row["received_at"], row["client_id"]) == (NOW, tenant.client_id)
    assert [(action, subject) for action, subject, _ in await actions(system, tenant)] == [
        ("dead_letter.retried", letter_id),
        ("dead_letter.edited", letter_id),
        ("dead_letter.retried", letter_id),
    ]
    assert "mended" not in str(await actions(system, tenant)), "nothing could erase it there"


# Which status may become which, by what.
ALLOWED = {
    ("retry", "open"): "queued",
    ("retry", "discarded"): "queued",
    ("discard", "open"): "discarded",
    ("discard", "queued"): "discarded",
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("action", ["retry", "discard"])
async def test_a_letter_becomes_only_what_it_may_from_each_status(system: System, action: str, status: str) -> None:
    tenant = await system.tenant()
    letter_id = await lettered(system, tenant, status=status)
    wanted = ALLOWED.get((action, status))
    async with system.client(tenant) as http:
        answer = await http.post(f"{LETTERS}/{letter_id}/{action}")
        assert answer.status_code == (409 if wanted is None else 200), answer.text
        (now,) = await listed(http)
    assert now["status"] == (wanted or status)
    done = {"retry": "retried", "discard": "discarded"}[action]
    expected = [] if wanted is None else [(f"dead_letter.{done}", letter_id, {"was": status})]
    assert await actions(system, tenant) == expected
    if wanted is None:
        assert f"The dead letter is {status}" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("payload", "member"),
    [
        (b'{"a":"\\u0000", "n": 1e400, "n": 00.5}', "base64"),
        (b'{"a":"\\u0000", "n": 1e400,  "n": 0.50}', "json"),
        (b"[1, 2]", "json"),
        (b"\xff\xfe", "base64"),
        (b"", "base64"),
        (b"[" * 100_000 + b"]" * 100_000, "base64"),
        (b'"\\ud800"', "base64"),
        (b"no record", "base64"),
    ],
)
async def test_the_original_is_shown_byte_for_byte(system: System, payload: bytes, member: str) -> None:
    tenant = await system.tenant()
    letter_id = await lettered(system, tenant, payload=payload)
    async with system.client(tenant) as http:
        answer = await http.get(f"{LETTERS}/{letter_id}")
    assert answer.status_code == 200
    told = answer.json()
    if member == "json":
        assert f'"payload":{payload.decode()},' in answer.text
        assert told["payload_base64"] is None
    else:
        assert told["payload"] is None
        assert base64.b64decode(told["payload_base64"]) == payload


async def test_filters_choose_by_status_reason_and_time(system: System) -> None:
    tenant = await system.tenant()
    ids = {}
    for number, (status, reason) in enumerate((s, r) for s in STATUSES for r in ("unstorable", "not indexable")):
        created_at = MOMENT + timedelta(hours=number)
        ids[status, reason] = await lettered(system, tenant, status=status, reason=reason, created_at=created_at)
    newest_first = list(reversed(ids.values()))
    async with system.client(tenant) as http:

        async def found(**asked: str) -> list[str]:
            return [letter["dead_letter_id"] for letter in await listed(http, **asked)]

        assert await found() == newest_first
        for status in STATUSES:
            assert set(await found(status=status)) == {ids[status, "unstorable"], ids[status, "not indexable"]}
        assert set(await found(reason="not indexable")) == {ids[status, "not indexable"] for status in STATUSES}
        assert await found(status="sent", reason="unstorable") == [ids["sent", "unstorable"]]
        assert await found(startedAt="2026-01-02T05:00:00Z", endedAt="2026-01-02T06:04:05Z") == [newest_first[-3]]
        assert await found(started_at="2100-01-01") == []


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"status": "lost"}, "/query/status"),
        ({"reason": ""}, "/query/reason"),
        ({"started_at": "yesterday"}, "/query/started_at"),
        ({"started_at": "2026-01-02", "ended_at": "2026-01-01"}, "/query/ended_at"),
        ({"tenant_id": "00000000-0000-0000-0000-000000000000"}, "/query/tenant_id"),
        ({"limit": "0"}, "/query/limit"),
        ({"cursor": "AAAA"}, "/query/cursor"),
    ],
)
async def test_a_question_that_can_not_be_is_refused_by_pointer(
    system: System, asked: dict[str, str], pointer: str
) -> None:
    async with system.client(await system.tenant()) as http:
        assert pointers(await http.get(LETTERS, params=asked)) == {pointer}
        if set(asked) <= {"reason", "started_at", "ended_at", "tenant_id"}:
            for action in ("retry", "discard"):
                assert pointers(await http.post(f"{LETTERS}/{action}", params=asked)) == {pointer}


async def test_pages_show_each_letter_once_newest_first_while_others_are_added(system: System) -> None:
    tenant = await system.tenant()
    for number in range(5):  # two of one moment
        await lettered(system, tenant, created_at=MOMENT + timedelta(hours=number // 2))
    async with system.client(tenant) as http:
        expected = await listed(http)
        seen: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await http.get(LETTERS, params={"limit": "2"} | ({"cursor": cursor} if cursor else {}))).json()
            seen += page["dead_letters"]
            cursor = page["next_cursor"]
            await lettered(system, tenant)
        assert seen == expected
        first = (await http.get(LETTERS, params={"limit": "1"})).json()["next_cursor"]
        assert pointers(await http.get(LETTERS, params={"cursor": first, "status": "open"})) == {"/query/cursor"}


@pytest.mark.parametrize(("action", "status"), [("retry", "queued"), ("discard", "discarded")])
async def test_many_are_changed_at_once_by_filter_the_oldest_first_and_told_by_number(
    system: System, action: str, status: str
) -> None:
    tenant, other = await system.tenant(), await system.tenant()
    mine = [
        await lettered(system, tenant, reason=reason, created_at=MOMENT + timedelta(hours=number))
        for reason in ("unstorable", "not indexable")
        for number in range(3)
    ]
    kept = [await lettered(system, tenant, status=kept) for kept in STATUSES[1:]]
    theirs = await lettered(system, other)
    async with system.client(tenant) as http:
        chosen = {"reason": "unstorable", "started_at": "2026-01-02T04:00:00Z"}
        answer = await http.post(f"{LETTERS}/{action}", params=chosen)
        assert answer.json() == {"changed": 2, "remaining": 0}
        assert {x["dead_letter_id"] for x in await listed(http, status="open")} == {mine[0], *mine[3:]}
        answer = await http.post(f"{LETTERS}/{action}")
        assert answer.json() == {"changed": 4, "remaining": 0}
        assert (await http.post(f"{LETTERS}/{action}")).json() == {"changed": 0, "remaining": 0}
        statuses = {x["dead_letter_id"]: x["status"] for x in await listed(http)}
    assert {statuses[letter_id] for letter_id in mine} == {status}
    assert [statuses[letter_id] for letter_id in kept] == list(STATUSES[1:])
    rows = await system.fetch("select status from dead_letters where dead_letter_id = $1", uuid.UUID(theirs))
    assert rows[0]["status"] == "open"
    done = {"retry": "retried", "discard": "discarded"}[action]
    assert await actions(system, tenant) == [
        (
            f"dead_letters.{done}",
            tenant.tenant_id,
            {"letters": 2, "reason": "unstorable", "started_at": "2026-01-02T04:00:00Z"},
        ),
        (f"dead_letters.{done}", tenant.tenant_id, {"letters": 4, "reason": None}),
    ]


async def test_more_than_a_request_may_change_are_told_as_remaining(system: System) -> None:
    tenant = await system.tenant()
    await system.fetch(
        """
        insert into dead_letters (tenant_id, reason, detail, topic, source_partition, source_offset, record_index,
                                  payload, created_at)
        select $1, 'unstorable', 'd', 't', 1, n, 0, 'x', now() - make_interval(secs => n)
        from generate_series(1, 1007) n
        """,
        uuid.UUID(tenant.tenant_id),
    )
    async with system.client(tenant) as http:
        assert (await http.post(f"{LETTERS}/discard")).json() == {"changed": 1000, "remaining": 7}
        left = await system.fetch(
            "select max(source_offset) from dead_letters where tenant_id = $1 and status = 'open'",
            uuid.UUID(tenant.tenant_id),
        )
        assert left[0][0] == 7, "the oldest went first"
        assert (await http.post(f"{LETTERS}/discard")).json() == {"changed": 7, "remaining": 0}


async def test_of_another_tenants_letter_there_is_nothing_to_see_or_change(system: System) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant, "secret-event")
    async with system.client(await system.tenant()) as stranger:
        assert await listed(stranger) == []
        for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/retry"), ("POST", "/discard")):
            body: dict[str, Any] = {"json": {"metadata": {}}} if method == "PATCH" else {}
            theirs = await stranger.request(method, f"{LETTERS}/{letter_id}{path}", **body)
            nobodys = await stranger.request(method, f"{LETTERS}/{uuid.uuid4()}{path}", **body)
            assert theirs.status_code == nobodys.status_code == 404
            assert theirs.json()["detail"] == nobodys.json()["detail"]
    async with system.client(tenant) as http:
        (mine,) = await listed(http)
    assert (mine["status"], mine["edited"]) == ("open", False)


@pytest.mark.parametrize(("scope", "status"), [(None, 401), ("events:write events:read", 403)])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", "/retry"),
        ("POST", "/discard"),
        ("GET", "/{id}"),
        ("PATCH", "/{id}"),
        ("POST", "/{id}/retry"),
        ("POST", "/{id}/discard"),
    ],
)
async def test_only_a_client_that_may_manage_the_tenant_gets_an_answer(
    system: System, scope: str | None, status: int, method: str, path: str
) -> None:
    async with system.client(await system.tenant() if scope else None, scope) as http:
        answer = await http.request(method, LETTERS + path.format(id=uuid.uuid4()), json={})
    assert answer.status_code == status


async def test_a_letter_that_is_being_sent_is_not_discarded_behind_its_back(system: System) -> None:
    """The duty holds the row until Kafka has acknowledged; who comes meanwhile waits, and sees what became of it."""
    tenant = await system.tenant()
    letter_id = uuid.UUID(await lettered(system, tenant, status="queued"))
    waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%dead_letters%'"
    connection = await asyncpg.connect(system.admin_url)
    async with system.client(tenant) as http:
        async with connection.transaction():
            await connection.fetch("select 1 from dead_letters where dead_letter_id = $1 for update", letter_id)
            discarding = asyncio.create_task(http.post(f"{LETTERS}/{letter_id}/discard"))
            await until(lambda: system.fetch(waiting), bool)
            await connection.execute("update dead_letters set status = 'sent' where dead_letter_id = $1", letter_id)
        assert (await discarding).status_code == 409
    await connection.close()
