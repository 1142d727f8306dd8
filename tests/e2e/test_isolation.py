"""No token shows another tenant's data: every route of the OpenAPI document, asked by a stranger about a victim.

Each route needs a scenario here, so a new one can't be forgotten. A scenario asks with a name that only the
victim has and again with one that nobody has: the answers must not differ, and must not hold what only the
victim's events hold. Prints routes × tenants × probes and the leaks found.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest_asyncio

from tests.system import MadeTenant, System, until

Probe = tuple[str, str, dict[str, Any]]
Scenario = Callable[[str], Iterator[Probe]]
HOSTILE = ('" OR *', "*", "tenant_id:*", '{"match_all":{}}', "') OR 1=1 --", "\\", "a AND b", "_exists_:x", "/.*/")


def token_route(name: str) -> Iterator[Probe]:
    yield "POST", "/oauth/token", {"data": {"grant_type": "client_credentials"}, "auth": (name, "guess")}
    yield (
        "POST",
        "/oauth/token",
        {"data": {"grant_type": "client_credentials", "client_id": name, "client_secret": "x"}},
    )


def plain(method: str, path: str) -> Scenario:
    def probes(_: str) -> Iterator[Probe]:
        yield method, path, {}

    return probes


def filtered(path: str, **always: str) -> Scenario:
    """A read route with each filter set to the name, and with hostile values."""

    def probes(name: str) -> Iterator[Probe]:
        yield "GET", path, {"params": always}
        for parameter in ("event_type", "client_id", "eventType", "name"):
            yield "GET", path, {"params": {**always, parameter: name}}
        for text in HOSTILE:
            yield "GET", path, {"params": {**always, "event_type": text}}
            yield "GET", path, {"params": {**always, "client_id": text}}

    return probes


def timeline(name: str) -> Iterator[Probe]:
    wide = {"started_at": "1970-01-01", "ended_at": "2100-01-01"}
    yield "GET", f"/api/v1/events/user/{name}", {"params": wide}
    yield "GET", f"/api/v1/events/user/{name}", {"params": {**wide, "event_type": name}}
    for text in HOSTILE:
        yield "GET", f"/api/v1/events/user/{text.replace('/', '%2F').replace('?', '')}", {"params": wide}


def search_get(name: str) -> Iterator[Probe]:
    yield from filtered("/api/v1/events/search")(name)
    for text in (name, f'"{name}"', *HOSTILE):
        yield "GET", "/api/v1/events/search", {"params": {"q": text}}
    yield "GET", "/api/v1/events/search", {"params": {"user_id": name, "sort": "newest"}}
    yield "GET", "/api/v1/events/search", {"params": {"cursor": name}}
    yield "GET", "/api/v1/events/search", {"params": {"sort": "tenant_id"}}


def search_post(name: str) -> Iterator[Probe]:
    for text in (name, f'"{name}"', *HOSTILE):
        yield "POST", "/api/v1/events/search", {"json": {"q": text}}
    bodies: tuple[dict[str, Any], ...] = (
        {"user_id": name},
        {"event_type": name},
        {"client_id": name},
        {"tenant_id": name},
        {"q": {"match_all": {}}},
        {"query": {"match_all": {}}},
        {"cursor": name},
        {"routing": name},
    )
    for body in bodies:
        yield "POST", "/api/v1/events/search", {"json": body}


def send_event(name: str) -> Iterator[Probe]:
    # Its own event with the victim's ids: taken, and the victim's stays what it is (checked at the end).
    yield "POST", "/api/v1/events", {"json": {"event_type": "mine", "event_id": name, "user_id": "mine"}}
    yield "POST", "/api/v1/events", {"json": {"event_type": "mine", "tenant_id": name}}
    yield "POST", "/api/v1/events", {"json": {"event_type": "mine", "client_id": name}}


def send_batch(name: str) -> Iterator[Probe]:
    yield "POST", "/api/v1/events/batch", {"json": [{"event_type": "mine", "event_id": name}]}
    yield "POST", "/api/v1/events/batch", {"json": {"events": [{"event_type": "mine"}], "tenant_id": name}}


SCENARIOS: dict[tuple[str, str], Scenario] = {
    ("POST", "/oauth/token"): token_route,
    ("GET", "/.well-known/oauth-authorization-server"): plain("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/jwks.json"): plain("GET", "/.well-known/jwks.json"),
    ("GET", "/api/v1/health"): plain("GET", "/api/v1/health"),
    ("GET", "/api/v1/ready"): plain("GET", "/api/v1/ready"),
    ("GET", "/api/v1/events/count"): filtered("/api/v1/events/count"),
    ("GET", "/api/v1/events/trend"): filtered("/api/v1/events/trend", interval="daily"),
    ("GET", "/api/v1/events/stats"): filtered("/api/v1/events/stats"),
    ("GET", "/api/v1/events/user/{user_id}"): timeline,
    ("GET", "/api/v1/events/search"): search_get,
    ("POST", "/api/v1/events/search"): search_post,
    ("POST", "/api/v1/events"): send_event,
    ("POST", "/api/v1/events/batch"): send_batch,
}


@dataclass
class Victim:
    """A tenant whose every text is `name` or holds it."""

    tenant: MadeTenant
    name: str
    secrets: list[str] = field(default_factory=list)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def victims(system: System) -> list[Victim]:
    """Three tenants with stored and searchable events."""
    made = []
    for _ in range(3):
        tenant = await system.tenant(f"victim-{secrets.token_hex(4)}")
        name = f"n{secrets.token_hex(8)}"
        hidden = f"s{secrets.token_hex(8)}"
        async with system.client(tenant) as client:
            events = [
                {"event_type": name, "event_id": name, "user_id": name, "metadata": {"note": f"{name} {hidden}"}},
                {"event_type": hidden, "event_id": hidden, "user_id": hidden, "metadata": {hidden: [hidden]}},
            ]
            assert (await client.post("/api/v1/events/batch", json=events)).status_code == 202

            async def found(client: httpx.AsyncClient = client) -> Any:
                return (await client.get("/api/v1/events/search")).json().get("total")

            await until(found, lambda total: total == 2)
        made.append(Victim(tenant, name, [hidden, tenant.tenant_id, tenant.client_id]))
    return made


async def test_every_route_has_a_scenario(system: System) -> None:
    async with system.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert routes == set(SCENARIOS), "each route of the OpenAPI document needs a scenario in this module"


def comparable(answer: httpx.Response, name: str) -> tuple[int, str]:
    """Status and body, without what differs between any two requests, the asked name made neutral."""
    body = answer.text.replace(name, "NAME")
    body = re.sub(r'"(request_id|event_id|took_ms)":\s*("[^"]*"|\d+)', r'"\1":0', body)
    return answer.status_code, re.sub(r"seconds?\W+\d+", "", body)


async def test_no_route_shows_one_tenant_what_is_another_s(system: System, victims: list[Victim]) -> None:
    leaks: list[str] = []
    probes = 0
    for stranger in victims:
        others = [victim for victim in victims if victim is not stranger]
        async with system.client(stranger.tenant) as client:
            for (method, path), scenario in SCENARIOS.items():
                for victim in others:
                    nobody = f"n{secrets.token_hex(8)}"
                    for known, unknown in zip(scenario(victim.name), scenario(nobody), strict=True):
                        about_victim = await client.request(known[0], known[1], **known[2])
                        about_nobody = await client.request(unknown[0], unknown[1], **unknown[2])
                        probes += 2
                        where = f"{method} {path} {json.dumps(known[2], default=str)}"
                        if comparable(about_victim, victim.name) != comparable(about_nobody, nobody):
                            leaks.append(f"{where}: differs: {about_victim.text[:300]} / {about_nobody.text[:300]}")
                        whole = about_victim.text + str(about_victim.headers)
                        leaks += [f"{where}: shows {text}" for text in victim.secrets if text in whole]
                        assert about_victim.status_code < 500, where
    print(f"{len(SCENARIOS)} routes × {len(victims)} tenants × {probes} probes, leaks {len(leaks)}")
    assert leaks == []


async def test_the_victims_events_are_what_they_were(system: System, victims: list[Victim]) -> None:
    for victim in victims:
        rows = await system.fetch(
            "select event_type, client_id from events where tenant_id = $1 and event_id = $2",
            victim.tenant.tenant_id,
            victim.name,
        )
        assert [tuple(row) for row in rows] == [(victim.name, victim.tenant.client_id)]


async def test_a_cursor_of_one_tenant_is_no_key_for_another(system: System, victims: list[Victim]) -> None:
    first, second = victims[0], victims[1]
    async with system.client(first.tenant) as owner, system.client(second.tenant) as stranger:
        questions: tuple[tuple[str, dict[str, Any]], ...] = (
            ("/api/v1/events/search", {"limit": 1, "sort": "newest"}),
            (f"/api/v1/events/user/{first.name}", {"limit": 1, "started_at": "1970-01-01", "ended_at": "2100-01-01"}),
        )
        for path, parameters in questions:
            await owner.post("/api/v1/events", json={"event_type": "more", "user_id": first.name})

            async def page(path: str = path, parameters: Any = parameters) -> Any:
                return (await owner.get(path, params=parameters)).json()

            cursor = (await until(page, lambda found: bool(found.get("next_cursor"))))["next_cursor"]
            answer = await stranger.get(path, params={**parameters, "cursor": cursor})
            assert first.secrets[0] not in answer.text
            assert first.tenant.tenant_id not in answer.text
            if answer.status_code == 200:
                found = answer.json()
                assert not any(first.name in json.dumps(item) for item in found.get("hits", found.get("events", [])))
