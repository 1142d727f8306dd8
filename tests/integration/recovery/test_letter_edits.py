"""Mending a dead letter over HTTP: which letters, by which rules, and how a fault is told."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.recovery.lettered import LETTERS, lettered, poisoned
from tests.integration.recovery.test_letters import STATUSES, actions, listed
from tests.integration.tenants.managing import pointers
from tests.system import System

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("status", STATUSES)
async def test_only_an_open_letter_can_be_edited(system: System, status: str) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant)
    await system.fetch("update dead_letters set status = $2 where dead_letter_id = $1", uuid.UUID(letter_id), status)
    async with system.client(tenant) as http:
        answer = await http.patch(f"{LETTERS}/{letter_id}", json={"metadata": {}})
    assert answer.status_code == (200 if status == "open" else 409), answer.text


@pytest.mark.parametrize("members", [{"worker": "index", "reason": "not indexable"}, {"record_index": -1}])
async def test_what_is_no_single_event_of_the_store_can_not_be_edited(system: System, members: dict[str, Any]) -> None:
    tenant = await system.tenant()
    letter_id = await lettered(system, tenant, **members)
    async with system.client(tenant) as http:
        answer = await http.patch(f"{LETTERS}/{letter_id}", json={"metadata": {}})
    assert answer.status_code == 409
    assert "Only a single event" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metadata": {"a": 1}, "event_id": None}, {"/event_id"}),
        ({"metadata": {"a": 1}, "user_id": "somebody else"}, {"/user_id"}),
        ({"metadata": {"a": 1}, "userId": None}, {"/user_id"}),
        ({"metadata": []}, {"/metadata"}),
        ({"metadata": {"a": "\0"}}, {"/metadata/a"}),
        ({"metadata": {}, "event_type": ""}, {"/event_type"}),
        ({"metadata": {}, "event_type": "a", "name": "b"}, {"/name"}),
        ({"metadata": {}, "event_type": 7}, {"/event_type"}),
        ({"metadata": {}, "timestamp": "2500-01-01"}, {"/timestamp"}),
        ({"metadata": {}, "tenant_id": "x"}, {"/tenant_id"}),
        ({}, {""}),
        ([], {""}),
    ],
)
async def test_an_edit_is_held_to_the_rules_of_sending_and_a_fault_is_named_by_its_place(
    system: System, changes: Any, expected: set[str]
) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant)
    async with system.client(tenant) as http:
        answer = await http.patch(f"{LETTERS}/{letter_id}", json=changes)
        if expected == {"/event_id"}:  # null: as if it had never been sent, so a new one
            assert uuid.UUID(answer.json()["event_id"]).version == 7
            return
        assert pointers(answer) == expected
        (letter,) = await listed(http)
    assert not letter["edited"]
    assert await actions(system, tenant) == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"a": "\xff"}', "application/json", 400),
        (b'{"metadata": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b'{"metadata": {"a": "' + b"x" * 70_000 + b'"}}', "application/json", 413),
        (b'{"metadata": {"a": "' + b"x" * 65_500 + b'"}}', "application/json", 422),
    ],
)
async def test_a_body_that_is_no_event_is_refused(system: System, content: bytes, kind: str, status: int) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant)
    async with system.client(tenant) as http:
        answer = await http.patch(f"{LETTERS}/{letter_id}", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text


async def test_a_second_edit_goes_on_from_the_first_and_the_original_stays(system: System) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant, metadata=b'{"n":"\\u0000","big":10000000000000000000000001}')
    async with system.client(tenant) as http:
        path = f"{LETTERS}/{letter_id}"
        first = (await http.patch(path, content=b'{"metadata": {"n": 1.10}}', headers=JSON)).text
        assert '"edit":{' in first
        assert '"metadata":{"n": 1.10}' in first
        second = (await http.patch(path, json={"event_type": "renamed"})).json()
        assert second["edit"]["metadata"] == {"n": 1.1}
        assert (second["edit"]["event_type"], second["event_type"]) == ("renamed", "renamed")
        shown = (await http.get(path)).text
    assert '"metadata":{"n":"\\u0000","big":10000000000000000000000001}' in shown
