"""What consumers of the HTTP API rely on, each contract a file, verified on the running system.

A contract's answer says only what its consumer uses: the status, headers as regular expressions, and a JSON Schema of
the members it reads. More may always be there.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.system import TOP_BURST, MadeTenant, System, until

FOLDER = Path(__file__).parent / "consumers"
ALLOWED = {"behaviour", "as", "scope", "tenant", "before", "request", "answer"}


def _interactions() -> list[Any]:
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        contract = json.loads(file.read_text(encoding="utf-8"))
        for interaction in contract["interactions"]:
            assert set(interaction) <= ALLOWED, interaction
            Draft202012Validator.check_schema(interaction["answer"].get("body", True))
            defaults = {"scope": contract.get("scope"), "events": contract.get("events", [])}
            found.append(pytest.param(defaults | interaction, id=f"{file.stem}: {interaction['behaviour']}"))
    return found


@pytest.fixture(scope="module")
async def seeded(system: System) -> dict[str, MadeTenant]:
    """A tenant for each set of events that contracts ask for, stored and searchable; by the events as JSON."""
    tenants: dict[str, MadeTenant] = {}
    for parameters in _interactions():
        (interaction,) = parameters.values
        events = interaction["events"]
        if not events or json.dumps(events) in tenants:
            continue
        tenant = tenants[json.dumps(events)] = await system.tenant()
        async with system.client(tenant) as client:
            answer = await client.post("/api/v1/events/batch", json=events)
            assert answer.json() == {"accepted": len(events), "rejected": []}

            async def searchable(client: httpx.AsyncClient = client) -> int:
                answer = await client.get("/api/v1/events/search")
                assert answer.status_code == 200, answer.text
                return int(answer.json()["total"])

            await until(searchable, len(events).__eq__)
    return tenants


@pytest.mark.parametrize("interaction", _interactions())
async def test_the_api_keeps_what_consumers_rely_on(
    interaction: dict[str, Any], system: System, seeded: dict[str, MadeTenant]
) -> None:
    tenant = seeded.get(json.dumps(interaction["events"]))
    if tenant is None or "tenant" in interaction:
        limits = interaction.get("tenant", {"rate": TOP_BURST, "burst": TOP_BURST})
        tenant = await system.tenant(**limits)
    speaker = interaction.get("as", "tenant")
    async with system.client(tenant if speaker == "tenant" else None, interaction["scope"]) as client:
        if speaker == "basic":
            client.auth = httpx.BasicAuth(tenant.client_id, tenant.client_secret)
        for request in interaction.get("before", []):
            assert (await _send(client, request)).is_success
        answer = await _send(client, interaction["request"])
    _verify(answer, interaction["answer"])


async def _send(client: httpx.AsyncClient, request: dict[str, Any]) -> httpx.Response:
    content = gzip.compress(request["gzip"].encode()) if "gzip" in request else request.get("text")
    return await client.request(
        request["method"], request["path"], headers=request.get("headers"),
        json=request.get("json"), data=request.get("form"), content=content,
    )  # fmt: skip


def _verify(answer: httpx.Response, wanted: dict[str, Any]) -> None:
    assert answer.status_code == wanted["status"], answer.text
    for name, pattern in wanted.get("headers", {}).items():
        assert re.fullmatch(pattern, answer.headers.get(name, "")), f"{name}: {answer.headers.get(name)}"
    if "body" in wanted:
        faults = [error.message for error in Draft202012Validator(wanted["body"]).iter_errors(answer.json())]
        assert faults == [], answer.text


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [(200, {}, {}), (202, {"x": "2"}, {"a": 1}), (202, {}, {"a": 1}), (202, {"x": "1"}, {"a": 2})],
)
def test_the_verifier_refuses_what_breaks_a_contract(
    status: int, headers: dict[str, str], body: dict[str, int]
) -> None:
    wanted = {"status": 202, "headers": {"x": "1"}, "body": {"properties": {"a": {"const": 1}}, "required": ["a"]}}
    with pytest.raises(AssertionError):
        _verify(httpx.Response(status, headers=headers, json=body), wanted)
