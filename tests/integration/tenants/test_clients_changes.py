"""Changing and revoking a tenant's clients on a running system, and that a tenant can't lock itself out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.tenants.managing import (
    CLIENTS,
    administrator_of,
    credentials,
    made,
    pointers,
    public_jwk,
    token_answer,
)
from tests.system import MadeTenant, System


@pytest.fixture(scope="module")
async def administrator(system: System) -> MadeTenant:
    """A client of the platform."""
    return await administrator_of(system)


async def test_a_change_replaces_what_it_names_and_tells_the_audit_log_both(system: System) -> None:
    async with system.client(await system.tenant(rate=100, burst=500)) as http:
        client = await made(http, networks=["192.0.2.0/24"], events_per_second=5, burst=10)
        where = f"{CLIENTS}/{client['client_id']}"
        changed = await http.patch(where, json={"name": "renamed", "scopes": ["events:write"], "networks": []})
        assert changed.status_code == 200, changed.text
        expected = {"name": "renamed", "scopes": ["events:write"], "networks": []}
        told = {name: value for name, value in client.items() if name != "client_secret"}
        assert changed.json() == told | expected
        assert (await http.get(where)).json() == changed.json()
        cleared = (await http.patch(where, json={"eventsPerSecond": None, "burst": None})).json()
        assert (cleared["events_per_second"], cleared["burst"]) == (None, None)
        entries = (await http.get("/api/v1/audit", params={"action": "client.changed"})).json()["entries"]
    assert [entry["detail"] for entry in entries] == [
        {"events_per_second": {"from": 5, "to": None}, "burst": {"from": 10, "to": None}},
        {
            "name": {"from": "made", "to": "renamed"},
            "scopes": {"from": ["events:write", "events:read", "tenant:admin"], "to": ["events:write"]},
            "networks": {"from": ["192.0.2.0/24"], "to": []},
        },
    ]


async def test_a_change_to_what_is_already_so_changes_nothing_and_is_no_news(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        answer = await http.patch(f"{CLIENTS}/{client['client_id']}", json={"name": "made", "networks": []})
        assert answer.status_code == 200
        assert (await http.get("/api/v1/audit", params={"action": "client.changed"})).json()["entries"] == []


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({}, ""),
        ({"name": None}, "/name"),
        ({"name": "a\x7fb"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["platform:admin"]}, "/scopes/0"),
        ({"networks": ["nowhere"]}, "/networks/0"),
        ({"events_per_second": 5}, "/burst"),
        ({"burst": None}, "/events_per_second"),
        ({"events_per_second": 101, "burst": 1}, "/events_per_second"),
        ({"jwks": None}, "/jwks"),
        ({"jwks": {"keys": []}}, "/jwks"),
        ({"revoked_at": None}, "/revoked_at"),
        ({"secrets": []}, "/secrets"),
    ],
)
async def test_a_change_that_can_not_be_is_refused_by_pointer_and_changes_nothing(
    system: System, members: dict[str, Any], pointer: str
) -> None:
    async with system.client(await system.tenant(rate=100, burst=500)) as http:
        where = f"{CLIENTS}/{(await made(http))['client_id']}"
        before = (await http.get(where)).json()
        assert pointers(await http.patch(where, json=members)) == {pointer}
        assert (await http.get(where)).json() == before


async def test_keys_can_be_replaced_but_a_secret_does_not_become_keys(system: System) -> None:
    old = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), kid="old")
    new = public_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), kid="new")
    async with system.client(await system.tenant()) as http:
        with_keys, with_secret = await made(http, jwks={"keys": [old]}), await made(http)
        where = f"{CLIENTS}/{with_keys['client_id']}"
        changed = await http.patch(where, json={"jwks": {"keys": [old, new]}})
        assert [key["kid"] for key in changed.json()["keys"]] == ["old", "new"]
        changed = await http.patch(where, json={"jwks": {"keys": [new]}})
        assert [key["kid"] for key in changed.json()["keys"]] == ["new"]
        refused = await http.patch(f"{CLIENTS}/{with_secret['client_id']}", json={"jwks": {"keys": [new]}})
        assert pointers(refused) == {"/jwks"}
        entries = (await http.get("/api/v1/audit", params={"action": "client.changed"})).json()["entries"]
    assert entries[0]["detail"] == {"jwks": {"from": ["old", "new"], "to": ["new"]}}
    assert new["x"] not in str(entries)


async def test_a_revoked_clients_secret_and_tokens_are_refused_and_again_is_no_error(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        token = (await token_answer(system, client["client_id"], client["client_secret"])).json()["access_token"]
        theirs = {"Authorization": f"Bearer {token}"}
        assert (await http.get(CLIENTS, headers=theirs)).status_code == 200
        where = f"{CLIENTS}/{client['client_id']}"
        for _ in range(2):
            revoked = await http.delete(where)
            assert (revoked.status_code, revoked.content) == (204, b"")
            # By the process that answered, at once.
            assert (await http.get(CLIENTS, headers=theirs)).status_code == 401
        assert (await token_answer(system, client["client_id"], client["client_secret"])).status_code == 401
        shown = (await http.get(where)).json()
        assert shown["revoked_at"] is not None
        assert shown["secrets"][0]["expires_at"] is not None
        entries = (await http.get("/api/v1/audit", params={"action": "client.revoked"})).json()["entries"]
        assert [entry["subject"] for entry in entries] == [client["client_id"]]
        assert (await http.patch(where, json={"name": "back"})).status_code == 409
        assert (await http.post(f"{where}/secrets", json={})).status_code == 409


async def test_a_client_may_revoke_itself_if_another_can_manage_the_tenant(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as http:
        other = await made(http)
        assert (await http.delete(f"{CLIENTS}/{tenant.client_id}")).status_code == 204
        assert (await http.get(CLIENTS)).status_code == 401
    async with system.client(credentials(tenant, other)) as http:
        assert (await http.get(f"{CLIENTS}/{tenant.client_id}")).json()["revoked_at"] is not None


async def test_the_last_client_that_can_manage_the_tenant_stays(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as http:
        await made(http, scopes=["events:write", "events:read"])
        gone = await made(http)
        await http.delete(f"{CLIENTS}/{gone['client_id']}")
        where = f"{CLIENTS}/{tenant.client_id}"
        for refused in (await http.delete(where), await http.patch(where, json={"scopes": ["events:read"]})):
            assert refused.status_code == 409
            assert refused.json()["type"] == "urn:sluice:problem:conflict"
            assert "tenant:admin" in refused.json()["detail"]
        assert (await http.patch(where, json={"scopes": ["tenant:admin"]})).status_code == 200


async def test_two_managing_clients_that_revoke_each_other_at_once_leave_one(system: System) -> None:
    for _ in range(5):
        tenant = await system.tenant()
        async with system.client(tenant) as first:
            other = await made(first)
            async with system.client(credentials(tenant, other)) as second:
                answers = await asyncio.gather(
                    first.delete(f"{CLIENTS}/{other['client_id']}"), second.delete(f"{CLIENTS}/{tenant.client_id}")
                )
        # Who comes second finds itself the last, or itself revoked already.
        done, refused = sorted(answer.status_code for answer in answers)
        assert done == 204
        assert refused in {401, 409}
        (left,) = await system.fetch(
            "select count(*) from oauth_clients where tenant_id = $1 and revoked_at is null", tenant.tenant_id
        )
        assert left[0] == 1


async def test_many_at_once_never_make_more_than_a_hundred_clients(system: System) -> None:
    tenant = await system.tenant()
    await system.fetch(
        "insert into oauth_clients (tenant_id, client_id, name, scopes) "
        "select $1::uuid, 'slc_filler_' || $1::uuid || n, 'filler', '{events:read}' from generate_series(1, 96) n",
        tenant.tenant_id,
    )
    async with system.client(tenant) as http:
        answers = await asyncio.gather(*(http.post(CLIENTS, json={"name": "one of ten"}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 7


async def test_the_platform_can_do_what_a_tenant_that_locked_itself_out_can_not(
    system: System, administrator: MadeTenant
) -> None:
    tenant = await system.tenant()
    path = f"/api/v1/admin/tenants/{tenant.tenant_id}/clients"
    async with system.client(administrator) as http:
        assert (await http.delete(f"{path}/{tenant.client_id}")).status_code == 204
        assert (await token_answer(system, tenant.client_id, tenant.client_secret)).status_code == 401
        answer = await http.post(path, json={"name": "recovery"})
        assert answer.status_code == 201, answer.text
        assert pointers(await http.post(path, json={"name": "a", "scopes": ["platform:admin"]})) == {"/scopes/0"}
    async with system.client(credentials(tenant, answer.json())) as theirs:
        listed = (await theirs.get(CLIENTS)).json()["clients"]
        assert [client["revoked_at"] is None for client in listed] == [False, True]
        entries = (await theirs.get("/api/v1/audit")).json()["entries"]
    assert [entry["action"] for entry in entries[:2]] == ["client.created", "client.revoked"]
    for entry in entries[:2]:
        assert entry["actor"] == {"kind": "platform", "client_id": None, "address": None, "request_id": None}


async def test_the_platforms_own_clients_are_out_of_the_api_s_reach(system: System, administrator: MadeTenant) -> None:
    path = f"/api/v1/admin/tenants/{PLATFORM_TENANT_ID}/clients"
    async with system.client(administrator) as http:
        assert (await http.post(path, json={"name": "another"})).status_code == 403
        assert (await http.delete(f"{path}/{administrator.client_id}")).status_code == 403
        assert (await http.get(CLIENTS)).status_code == 403
    # Should one of them hold tenant:admin some day, it still can't reach those that hold more.
    await system.fetch(
        "update oauth_clients set scopes = '{platform:admin,tenant:admin}' where client_id = $1",
        administrator.client_id,
    )
    async with system.client(administrator) as http:
        for method, where in (("GET", CLIENTS), ("POST", f"{CLIENTS}/{administrator.client_id}/secrets")):
            assert (await http.request(method, where, json={})).status_code == 403


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_tenants_client_has_no_part_in_what_the_platform_does(system: System, method: str) -> None:
    tenant = await system.tenant()
    path = f"/api/v1/admin/tenants/{tenant.tenant_id}/clients"
    path += f"/{tenant.client_id}" if method == "DELETE" else ""
    async with system.client(tenant) as http, system.client() as nobody:
        assert (await http.request(method, path, json={"name": "a"})).status_code == 403
        assert (await nobody.request(method, path, json={"name": "a"})).status_code == 401


async def test_an_unknown_tenant_is_not_found(system: System, administrator: MadeTenant) -> None:
    path = "/api/v1/admin/tenants/00000000-0000-0000-0000-00000000beef/clients"
    async with system.client(administrator) as http:
        assert (await http.post(path, json={"name": "a"})).status_code == 404
        assert (await http.delete(f"{path}/slc_a")).status_code == 404
