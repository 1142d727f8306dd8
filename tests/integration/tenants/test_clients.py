"""`/api/v1/clients` on a running system: what a client can be made of, and who sees it."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.tenants.managing import CLIENTS, made, pointers, public_jwk, token_answer
from tests.system import System, until


def neutral(answer: httpx.Response, *asked: str) -> tuple[int, str]:
    """Status and body, without the request's id and what was asked for."""
    body = answer.text.replace(answer.headers["x-request-id"], "")
    for name in asked:
        body = body.replace(name, "")
    return answer.status_code, body


async def test_a_client_is_made_with_all_scopes_and_a_secret_that_is_shown_once(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as http:
        answer = await http.post(CLIENTS, json={"name": "checkout"})
        told = answer.json()
        assert answer.status_code == 201, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        shown = await http.get(answer.headers["Location"])
        listed = await http.get(CLIENTS)
    assert told["name"] == "checkout"
    assert told["scopes"] == ["events:write", "events:read", "tenant:admin"]
    assert (told["networks"], told["authentication"], told["keys"]) == ([], "client_secret", [])
    assert (told["events_per_second"], told["burst"], told["revoked_at"], told["last_used_at"]) == (None,) * 4
    (secret,) = told["secrets"]
    assert secret["expires_at"] is None
    client_secret = told.pop("client_secret")
    assert shown.json() == told
    assert [client["client_id"] for client in listed.json()["clients"]] == [tenant.client_id, told["client_id"]]
    assert client_secret not in shown.text + listed.text
    assert (await token_answer(system, told["client_id"], client_secret)).status_code == 200


async def test_what_is_stored_of_a_secret_is_not_the_secret(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
    rows = await system.fetch("select * from client_secrets where client_id = $1", client["client_id"])
    rows += await system.fetch("select * from audit_log where subject = $1", client["client_id"])
    text = str([dict(row) for row in rows])
    assert client["client_secret"].removeprefix("sls_") not in text + system.log("api")
    assert rows[0]["secret_hash"].hex() not in str([dict(row) for row in rows[1:]])


async def test_a_client_can_be_narrowed_in_scopes_networks_and_limits(system: System) -> None:
    async with system.client(await system.tenant(rate=100, burst=500)) as http:
        told = await made(
            http,
            scopes=["events:read", "events:write", "events:read"],
            networks=["192.0.2.0/24", "2001:db8::/32", "192.0.2.0/24", "198.51.100.7"],
            eventsPerSecond=100,
            burst=500,
        )
    assert told["scopes"] == ["events:write", "events:read"]
    assert told["networks"] == ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"]
    assert (told["events_per_second"], told["burst"]) == (100, 500)


async def test_a_client_with_public_keys_has_no_secret(system: System) -> None:
    key = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), kid="mine")
    async with system.client(await system.tenant()) as http:
        told = await made(http, jwks={"keys": [key]})
        assert (told["client_secret"], told["authentication"]) == (None, "private_key_jwt")
        assert told["keys"] == [{"kid": "mine", "last_used_at": None}]
        assert told["secrets"] == []
        rotated = await http.post(f"{CLIENTS}/{told['client_id']}/secrets", json={})
        assert rotated.status_code == 409
        audit = (await http.get("/api/v1/audit", params={"action": "client.created", "limit": 1})).json()
    assert audit["entries"][0]["detail"]["jwks"] == ["mine"]
    assert (await token_answer(system, told["client_id"], "sls_guess")).status_code == 401


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "  "}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "a\u2028b"}, "/name"),
        ({"name": 7}, "/name"),
        ({"name": None}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["events:fly"]}, "/scopes/0"),
        ({"scopes": ["events:read", "platform:admin"]}, "/scopes/1"),
        ({"scopes": "events:read"}, "/scopes"),
        ({"networks": ["192.0.2.1/24"]}, "/networks/0"),
        ({"networks": ["192.0.2.0/24", "everywhere"]}, "/networks/1"),
        ({"networks": ["::ffff:192.0.2.0/120"]}, "/networks/0"),
        ({"networks": ["10.0.0.0/8"] * 51}, "/networks"),
        ({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}, "/jwks/keys/0/kty"),
        ({"events_per_second": 5}, "/burst"),
        ({"burst": 5}, "/events_per_second"),
        ({"events_per_second": 5, "burst": None}, "/burst"),
        ({"events_per_second": 0, "burst": 1}, "/events_per_second"),
        ({"events_per_second": 101, "burst": 1}, "/events_per_second"),
        ({"events_per_second": 1, "burst": 501}, "/burst"),
        ({"events_per_second": 1, "burst": 0}, "/burst"),
        ({"events_per_second": 1, "burst": 1.5}, "/burst"),
        ({"events_per_second": "5", "burst": 1}, "/events_per_second"),
        ({"events_per_second": 1, "eventsPerSecond": 1, "burst": 1}, "/eventsPerSecond"),
        ({"tenant_id": str(uuid.UUID(int=0))}, "/tenant_id"),
        ({"client_id": "slc_mine"}, "/client_id"),
        ({"client_secret": "mine"}, "/client_secret"),
    ],
)
async def test_what_a_client_can_not_be_is_refused_by_pointer_and_makes_none(
    system: System, members: dict[str, Any], pointer: str
) -> None:
    async with system.client(await system.tenant(rate=100, burst=500)) as http:
        answer = await http.post(CLIENTS, json={"name": "refused"} | members)
        told = pointers(answer)
        assert any(found in {pointer, pointer.replace("/eventsPerSecond", "/events_per_second")} for found in told)
        assert len(told) == 1, told
        assert len((await http.get(CLIENTS)).json()["clients"]) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"name": "\\ud800"}', "application/json", 400),
        (b'{"name": "a", "events_per_second": NaN, "burst": 1}', "application/json", 400),
        (b"[" * 30_000, "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"name": "a", "name": "b"}', "application/json", 422),
        (b'{"name": "a"}', "text/plain", 415),
        (b'{"name": "' + b"a" * 70_000 + b'"}', "application/json", 413),
    ],
)
async def test_a_body_that_is_none_is_refused_as_such(
    system: System, body: bytes, content_type: str, status: int
) -> None:
    async with system.client(await system.tenant()) as http:
        answer = await http.post(CLIENTS, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


ROUTES: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/{client}", {}),
    ("PATCH", "/{client}", {"json": {"name": "taken over"}}),
    ("DELETE", "/{client}", {}),
    ("POST", "/{client}/secrets", {"json": {}}),
    ("PATCH", "/{client}/secrets/{secret}", {"json": {"expires_at": None}}),
    ("DELETE", "/{client}/secrets/{secret}", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), ROUTES)
async def test_another_tenants_client_is_answered_exactly_like_one_that_does_not_exist(
    system: System, method: str, path: str, request_: dict[str, Any]
) -> None:
    victim = await system.tenant()
    async with system.client(victim) as http:
        theirs = await made(http, scopes=["events:read"])
        before = (await http.get(CLIENTS)).json()
    secret = theirs["secrets"][0]["secret_id"]
    nobody = {"client": f"slc_{secrets.token_hex(16)}", "secret": str(uuid.uuid4())}
    async with system.client(await system.tenant()) as stranger:
        own = {"client": (await stranger.get(CLIENTS)).json()["clients"][0]["client_id"], "secret": secret}
        asked = [{"client": theirs["client_id"], "secret": secret}, nobody]
        if "{secret}" in path:
            asked += [own, own | {"secret": nobody["secret"]}]
        answers = []
        for ids in asked:
            answer = await stranger.request(method, CLIENTS + path.format(**ids), **request_)
            answers.append(neutral(answer, *ids.values()))
    assert {status for status, _ in answers} == {404}
    assert answers[0] == answers[1]
    assert answers[2:3] == answers[3:]
    async with system.client(victim) as http:
        assert (await http.get(CLIENTS)).json() == before


@pytest.mark.parametrize("name", ["%00", "a%00b", "%FF", "%E2%80%A8", "x" * 500, "..%2Fclients"])
async def test_an_id_that_no_client_can_have_is_not_found(system: System, name: str) -> None:
    async with system.client(await system.tenant()) as http:
        for path in (f"{CLIENTS}/{name}", f"{CLIENTS}/{name}/secrets/{name}"):
            assert (await http.request("DELETE", path)).status_code == 404


async def test_pages_hold_each_client_once_while_more_are_made(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        names = [(await made(http, name=f"client {number}"))["client_id"] for number in range(6)]
        seen: list[str] = []
        cursor = None
        while True:
            asked = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await http.get(CLIENTS, params=asked)).json()
            seen += [client["client_id"] for client in page["clients"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            if len(seen) == 2:
                names.append((await made(http, name="late"))["client_id"])
    assert seen[1:] == names


async def test_a_cursor_of_one_tenant_or_of_another_list_is_refused(system: System) -> None:
    async with system.client(await system.tenant()) as http, system.client(await system.tenant()) as stranger:
        await made(http)
        cursor = (await http.get(CLIENTS, params={"limit": "1"})).json()["next_cursor"]
        assert pointers(await stranger.get(CLIENTS, params={"cursor": cursor})) == {"/query/cursor"}
        assert pointers(await http.get("/api/v1/audit", params={"cursor": cursor})) == {"/query/cursor"}
        assert pointers(await http.get(CLIENTS, params={"cursor": cursor[:-1]})) == {"/query/cursor"}
        for wrong in ({"limit": "0"}, {"limit": "1001"}, {"limit": "many"}, {"offset": "1"}):
            assert pointers(await http.get(CLIENTS, params=wrong)) == {f"/query/{next(iter(wrong))}"}


@pytest.mark.parametrize(("scope", "status"), [(None, 401), ("events:write events:read", 403)])
async def test_only_a_client_that_may_manage_the_tenant_reaches_its_clients(
    system: System, scope: str | None, status: int
) -> None:
    tenant = await system.tenant()
    async with system.client(tenant if scope else None, scope) as http:
        for method, path, request_ in [("GET", "", {}), ("POST", "", {"json": {"name": "a"}}), *ROUTES]:
            named = path.format(client=tenant.client_id, secret=uuid.UUID(int=1))
            assert (await http.request(method, CLIENTS + named, **request_)).status_code == status


async def test_a_tenant_has_at_most_a_hundred_active_clients(system: System) -> None:
    tenant = await system.tenant()
    await system.fetch(
        "insert into oauth_clients (tenant_id, client_id, name, scopes) "
        "select $1::uuid, 'slc_filler_' || $1::uuid || n, 'filler', '{events:read}' from generate_series(1, 98) n",
        uuid.UUID(tenant.tenant_id),
    )
    async with system.client(tenant) as http:
        last = await made(http)
        assert (await http.post(CLIENTS, json={"name": "one too many"})).status_code == 409
        assert (await http.delete(f"{CLIENTS}/{last['client_id']}")).status_code == 204
        await made(http)


async def test_a_new_client_is_admitted_at_once_by_the_process_that_made_it(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        token = (await token_answer(system, client["client_id"], client["client_secret"])).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await http.get(CLIENTS, headers=headers)).status_code == 200

        async def used() -> Any:
            return (await http.get(f"{CLIENTS}/{client['client_id']}")).json()

        shown = await until(used, lambda told: told["last_used_at"] is not None)
    assert shown["secrets"][0]["last_used_at"] == shown["last_used_at"] > shown["created_at"]
