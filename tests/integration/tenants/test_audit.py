"""`GET /api/v1/audit` on a running system: who did what, when and from where, as a tenant may see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.database import create_engine
from tenants.audit import Action, Actor, Entry, Filters, read, record
from tenants.pages import PageAsked
from tests.integration.tenants.managing import CLIENTS, made, pointers
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tenants.lifecycle import CreatedTenant
    from tests.integration.conftest import Database

AUDIT = "/api/v1/audit"


async def entries(http: httpx.AsyncClient, **asked: str) -> list[dict[str, Any]]:
    answer = await http.get(AUDIT, params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


async def test_an_action_is_told_with_who_when_and_from_where(system: System) -> None:
    tenant = await system.tenant()
    before = datetime.now(UTC) - timedelta(seconds=1)
    async with system.client(tenant) as http:
        answer = await http.post(CLIENTS, json={"name": "checkout"}, headers={"X-Request-Id": "mine-7"})
        entry = (await entries(http))[0]
    assert entry["action"] == "client.created"
    assert entry["subject"] == answer.json()["client_id"]
    assert entry["detail"] == {"name": "checkout", "scopes": answer.json()["scopes"], "networks": []}
    assert before < datetime.fromisoformat(entry["at"]) < datetime.now(UTC) + timedelta(seconds=1)
    assert entry["at"].endswith("Z")
    assert entry["actor"] == {
        "kind": "client",
        "client_id": tenant.client_id,
        "address": "127.0.0.1",
        "request_id": "mine-7",
    }


async def test_of_those_who_act_for_the_platform_a_tenant_learns_the_kind_only(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as http:
        found = await entries(http)
    made_by_command = next(entry for entry in found if entry["subject"] == tenant.client_id)
    assert made_by_command["actor"] == {"kind": "operator", "client_id": None, "address": None, "request_id": None}
    rows = await system.fetch("select actor from audit_log where tenant_id = $1", tenant.tenant_id)
    assert not [row["actor"] for row in rows if row["actor"] in str(found).replace("'kind': 'operator'", "")]


async def test_filters_choose_by_action_and_by_time(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        await http.delete(f"{CLIENTS}/{client['client_id']}")
        revoked, created = (await entries(http))[:2]
        assert [entry["action"] for entry in (revoked, created)] == ["client.revoked", "client.created"]
        assert await entries(http, action="client.revoked") == [revoked]
        assert await entries(http, started_at=revoked["at"]) == [revoked]
        assert await entries(http, startedAt=created["at"], endedAt=revoked["at"]) == [created]
        assert await entries(http, started_at="2100-01-01") == []
        assert await entries(http, action="client.flown") == []


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"action": ""}, "/query/action"),
        ({"action": "x" * 101}, "/query/action"),
        ({"started_at": "yesterday"}, "/query/started_at"),
        ({"started_at": "2026-01-02", "ended_at": "2026-01-01"}, "/query/ended_at"),
        ({"started_at": "2026-01-02", "startedAt": "2026-01-02"}, "/query/startedAt"),
        ({"tenant_id": "00000000-0000-0000-0000-000000000000"}, "/query/tenant_id"),
        ({"limit": "0"}, "/query/limit"),
        ({"cursor": "AAAA"}, "/query/cursor"),
    ],
)
async def test_a_question_that_can_not_be_is_refused_by_pointer(
    system: System, asked: dict[str, str], pointer: str
) -> None:
    async with system.client(await system.tenant()) as http:
        assert pointers(await http.get(AUDIT, params=asked)) == {pointer}


async def test_pages_show_each_entry_once_newest_first_while_others_are_added(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        for number in range(5):
            await made(http, name=f"client {number}")
        expected = await entries(http)
        seen: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await http.get(AUDIT, params={"limit": "2"} | ({"cursor": cursor} if cursor else {}))).json()
            seen += page["entries"]
            cursor = page["next_cursor"]
            await made(http, name="meanwhile")
        assert seen == expected
        assert [entry["at"] for entry in seen] == sorted((entry["at"] for entry in seen), reverse=True)


async def test_a_cursor_goes_on_only_with_the_same_filters_and_tenant(system: System) -> None:
    async with system.client(await system.tenant()) as http, system.client(await system.tenant()) as stranger:
        await made(http)
        cursor = (await http.get(AUDIT, params={"limit": "1"})).json()["next_cursor"]
        assert (await http.get(AUDIT, params={"limit": "5", "cursor": cursor})).status_code == 200
        for changed in ({"action": "client.created"}, {"started_at": "2026-01-01"}):
            assert pointers(await http.get(AUDIT, params={"cursor": cursor, **changed})) == {"/query/cursor"}
        assert pointers(await stranger.get(AUDIT, params={"cursor": cursor})) == {"/query/cursor"}


async def test_one_tenants_log_shows_nothing_of_anothers(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as http, system.client(await system.tenant()) as stranger:
        client = await made(http)
        theirs = (await stranger.get(AUDIT)).text
    assert client["client_id"] not in theirs
    assert tenant.client_id not in theirs
    assert tenant.tenant_id not in theirs


@pytest.mark.parametrize(("scope", "status"), [(None, 401), ("events:write events:read", 403)])
async def test_only_a_client_that_may_manage_the_tenant_reads_its_log(
    system: System, scope: str | None, status: int
) -> None:
    async with system.client(await system.tenant() if scope else None, scope) as http:
        assert (await http.get(AUDIT)).status_code == status


@pytest.fixture
async def auth_connection_engine(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database.auth_url, pool_size=1)
    yield engine
    await engine.dispose()


async def test_the_platform_reads_every_tenants_entries_in_full(
    auth_connection_engine: AsyncEngine, tenants: list[CreatedTenant]
) -> None:
    actor = Actor("operator", "somebody")
    found: list[Entry] = []
    async with auth_connection_engine.begin() as connection:
        for tenant in tenants:
            await record(connection, tenant.tenant_id, actor, Action("test.read", "a subject", {"b": [1]}))
    async with auth_connection_engine.begin() as connection:
        page, last = await read(connection, None, Filters(action="test.read"), PageAsked(limit=1))
        found += page
        assert last is not None
        page, last = await read(connection, None, Filters(action="test.read"), PageAsked(1, last))
        found += page
        assert last is None
        own, _ = await read(connection, tenants[0].tenant_id, Filters(action="test.read"), PageAsked())
    assert {entry.tenant_id for entry in found} == {tenant.tenant_id for tenant in tenants}
    assert {entry.actor for entry in found} == {actor}
    assert {entry.action.detail["b"][0] for entry in found} == {1}
    assert [entry.tenant_id for entry in own] == [tenants[0].tenant_id]


async def test_an_entry_of_an_action_that_is_not_committed_does_not_stay(
    auth_connection_engine: AsyncEngine, tenants: list[CreatedTenant]
) -> None:
    async with auth_connection_engine.connect() as connection:
        await record(connection, tenants[0].tenant_id, Actor.operator(), Action("test.undone", "a"))
        await connection.rollback()
        count = text("select count(*) from audit_log where action = 'test.undone'")
        assert (await connection.execute(count)).scalar_one() == 0
