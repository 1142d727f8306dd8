"""No token shows another tenant's data: every route of the OpenAPI document, asked by strangers about victims.

A stranger asks with names that only the victim has, and again with names that nobody has: the answers must not differ
but in the names, and must hold nothing of the victim's that was not in the question. Each route needs a scenario, so a
new one can't be forgotten. Prints routes × tenants × probes and the leaks found.
"""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.e2e.isolation.asking import compared, shown
from tests.e2e.isolation.names import Names, Victim, make_victim
from tests.e2e.isolation.scenarios import SCENARIOS
from tests.e2e.isolation.tampering import TAMPERINGS
from tests.system import Say, System, until

TENANTS = 3
SCOPES = {"events:read", "events:write", "tenant:admin"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def victims(system: System) -> list[Victim]:
    """Each is a victim, and a stranger to the others."""
    return [await make_victim(system) for _ in range(TENANTS)]


async def routes(system: System) -> dict[tuple[str, str], set[str]]:
    """Every route and method of the OpenAPI document, with the scopes that it takes."""
    async with system.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    return {
        (method.upper(), path): {
            scope for way in operation.get("security", ()) for scopes in way.values() for scope in scopes
        }
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


async def test_every_route_has_a_scenario(system: System) -> None:
    assert set(await routes(system)) == set(SCENARIOS), "each route of the OpenAPI document needs a scenario"


async def test_no_route_shows_one_tenant_what_is_anothers(system: System, victims: list[Victim], say: Say) -> None:
    leaks: list[str] = []
    probes = 0
    for stranger, victim in itertools.pairwise([*victims, victims[0]]):
        nobody = Names.of_nobody(victim.names)
        async with system.client(stranger.tenant) as client:
            for scenario in SCENARIOS.values():
                about_victim = scenario(victim.names, stranger.tenant)
                for known, unknown in zip(about_victim, scenario(nobody, stranger.tenant), strict=True):
                    probes += 2
                    leaks += (await compared(client, known, unknown, victim.names, nobody)).leaks(victim)
    say(f"{len(SCENARIOS)} routes × {len(victims)} tenants × {probes} probes, leaks {len(leaks)}")
    assert leaks == []


# Routes that read, and show something to whom the names belong.
TELLING = [
    ("GET", "/api/v1/events/count"),
    ("GET", "/api/v1/events/trend"),
    ("GET", "/api/v1/events/stats"),
    ("GET", "/api/v1/events/user/{user_id}"),
    ("GET", "/api/v1/events/search"),
    ("POST", "/api/v1/events/search"),
    ("GET", "/api/v1/usage"),
    ("GET", "/api/v1/audit"),
    ("GET", "/api/v1/clients"),
    ("GET", "/api/v1/clients/{client_id}"),
    ("GET", "/api/v1/dead-letters"),
    ("GET", "/api/v1/dead-letters/{dead_letter_id}"),
    ("GET", "/api/v1/replays"),
    ("GET", "/api/v1/replays/{replay_id}"),
    ("GET", "/api/v1/replays/{replay_id}/events"),
    ("GET", "/api/v1/erasures"),
    ("GET", "/api/v1/erasures/{erasure_id}"),
    ("POST", "/oauth/introspect"),
]


@pytest.mark.parametrize("route", TELLING, ids=" ".join)
async def test_a_leak_would_be_seen_for_the_owner_of_the_names_sees_one(
    system: System, victims: list[Victim], route: tuple[str, str]
) -> None:
    owner = victims[0]
    nobody = Names.of_nobody(owner.names)
    found: list[str] = []
    async with system.client(owner.tenant) as client:
        for known, unknown in zip(
            SCENARIOS[route](owner.names, owner.tenant), SCENARIOS[route](nobody, owner.tenant), strict=True
        ):
            found += (await compared(client, known, unknown, owner.names, nobody)).leaks(owner)
    assert found


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_nothing_beside_the_token_says_whose_data_is_shown(
    system: System, victims: list[Victim], tampering: str
) -> None:
    stranger, victim = victims[0].tenant, victims[1]
    names, nobody = victim.names, Names.of_nobody(victim.names)
    leaks: list[str] = []
    async with system.client(stranger) as client:
        for scenario in SCENARIOS.values():
            probe = next(scenario(names, stranger))
            tampered = TAMPERINGS[tampering](probe, names)
            other = TAMPERINGS[tampering](next(scenario(nobody, stranger)), nobody)
            leaks += (await compared(client, tampered, other, names, nobody)).leaks(victim)
            if tampering != "parameters":  # those are refused
                leaks += (await compared(client, tampered, probe, names, names)).leaks(victim)
    assert leaks == []


async def test_no_route_of_a_tenant_or_the_platform_answers_without_a_token(
    system: System, victims: list[Victim]
) -> None:
    guarded = {route for route, scopes in (await routes(system)).items() if scopes}
    assert len(guarded) > 20
    async with system.client() as nobody:
        for route in sorted(guarded):
            method, path, further = next(SCENARIOS[route](victims[0].names, victims[1].tenant))
            answer = await nobody.request(method, path, **further)
            assert answer.status_code == 401, f"{method} {path}: {answer.text}"
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_no_route_answers_a_token_without_its_scope(system: System, victims: list[Victim]) -> None:
    for route, needed in (await routes(system)).items():
        if not needed:
            continue
        (scope,) = needed
        async with system.client(victims[1].tenant, " ".join(sorted(SCOPES - needed))) as client:
            method, path, further = next(SCENARIOS[route](victims[0].names, victims[1].tenant))
            answer = await client.request(method, path, **further)
        assert answer.status_code == 403, f"{method} {path}: {answer.text}"
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        assert answer.json()["detail"] == f"The token lacks the scope {scope}."


async def test_what_was_asked_about_is_what_it_was(system: System, victims: list[Victim]) -> None:
    for victim in victims:
        names = victim.names
        for event_id in (names.text, names.given):
            stored = await system.fetch(
                "select event_type, client_id from events where tenant_id = $1 and event_id = $2",
                names.tenant_id,
                event_id,
            )
            assert [tuple(row) for row in stored] == [(names.text, victim.tenant.client_id)]
        kept = await system.fetch(
            "select secret_id::text, expires_at from client_secrets where client_id = $1", names.client_id
        )
        assert [tuple(row) for row in kept] == [(names.secret_id, None)]
        letter = await system.fetch(
            "select status, event_type from dead_letters where dead_letter_id::text = $1", names.dead_letter_id
        )
        assert [tuple(row) for row in letter] == [("open", None)]
        replay = await system.fetch("select state from replays where replay_id::text = $1", names.replay_id)
        assert replay[0]["state"] in {"running", "done"}, "done: its owner has read it"
        strangers = [other.tenant.client_id for other in victims if other is not victim]
        foreign = await system.fetch(
            "select action from audit_log where tenant_id = $1 and actor = any ($2)", names.tenant_id, strangers
        )
        assert foreign == []
        async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {names.token}"}) as client:
            answer = await client.get(f"/api/v1/clients/{names.client_id}")
        assert answer.status_code == 200, "the token still holds"
        assert answer.json()["name"] == victim.client_name
        assert answer.json()["revoked_at"] is None


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/api/v1/events/search", {"limit": 1, "sort": "newest"}),
        ("/api/v1/events/user/{text}", {"limit": 1, "started_at": "1970-01-01", "ended_at": "2100-01-01"}),
        ("/api/v1/clients", {"limit": 1}),
        ("/api/v1/audit", {"limit": 1}),
        ("/api/v1/dead-letters", {"limit": 1}),
        ("/api/v1/replays", {"limit": 1}),
        ("/api/v1/erasures", {"limit": 1}),
    ],
)
async def test_a_cursor_of_one_tenant_is_no_key_for_another(
    system: System, victims: list[Victim], path: str, parameters: dict[str, Any]
) -> None:
    owner, stranger = victims[0], victims[1]
    target = path.format(text=owner.names.text)
    async with system.client(owner.tenant) as mine, system.client(stranger.tenant) as other:

        async def page() -> Any:
            return (await mine.get(target, params=parameters)).json()

        cursor = (await until(page, lambda found: bool(found.get("next_cursor"))))["next_cursor"]
        answer = await other.get(target, params={**parameters, "cursor": cursor})
        assert answer.status_code == 422, answer.text
        assert (await mine.get(target, params={**parameters, "cursor": cursor})).status_code == 200
    assert shown(answer, owner, ("GET", target, {"params": {"cursor": cursor}})) == []
