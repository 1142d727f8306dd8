"""Guarded routes: who is let in, who is told what, and how soon a change is known everywhere."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from auth.clients import create_client
from auth.credentials import hash_secret, key_bytes
from tenants.bootstrap import ensure_platform
from tests.integration.auth.conftest import Gateway, credentials, running

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

ROUTES = {"/read": "events:read", "/write": "events:write", "/manage": "tenant:admin", "/platform": "platform:admin"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def within_a_second(happened: Callable[[], bool]) -> None:
    """Polls `happened`; the system's own promise is the deadline."""
    deadline = time.monotonic() + 1.0
    while not happened():
        assert time.monotonic() < deadline, "not within one second"
        await asyncio.sleep(0.01)


async def get(gateway: Gateway, path: str, token: str | None = None) -> httpx.Response:
    async with gateway.client() as client:
        return await client.get(path, headers=bearer(token) if token else {})


@pytest.mark.parametrize("path", ROUTES)
async def test_without_a_token_the_answer_is_401_and_a_bare_challenge(gateway: Gateway, path: str) -> None:
    answer = await get(gateway, path)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sluice"'


@pytest.mark.parametrize("path", ROUTES)
async def test_with_a_token_that_does_not_hold_the_answer_is_401_invalid_token(gateway: Gateway, path: str) -> None:
    answer = await get(gateway, path, "a.b.c")
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("path", "scope"), ROUTES.items())
async def test_with_another_scope_the_answer_is_403_and_names_the_one_it_takes(
    gateway: Gateway, path: str, scope: str
) -> None:
    other = "events:read" if scope == "events:write" else "events:write"
    answer = await get(gateway, path, await gateway.token(await gateway.tenant(), scope=other))
    assert answer.status_code == 403
    assert f'error="insufficient_scope", scope="{scope}"' in answer.headers["WWW-Authenticate"]


async def test_with_the_scope_the_handler_learns_who_calls(gateway: Gateway) -> None:
    one, other = await gateway.tenant(), await gateway.tenant()
    for tenant in (one, other):
        answer = await get(gateway, "/read", await gateway.token(tenant))
        assert answer.json() == {"tenant_id": str(tenant.tenant_id), "client_id": tenant.client_id}


async def test_the_administrator_is_let_in_and_no_other_tenants_client_even_if_its_row_says_so(
    gateway: Gateway,
) -> None:
    admin = (await ensure_platform(gateway.settings, None))["admin"]
    tenant = await gateway.tenant()
    await gateway.execute(
        "update oauth_clients set scopes = '{platform:admin}' where client_id = :id", id=tenant.client_id
    )
    async with gateway.client() as client:
        form = {"grant_type": "client_credentials", **admin}
        token = (await client.post("/oauth/token", data=form)).json()["access_token"]
    assert (await get(gateway, "/platform", token)).status_code == 200
    assert (await get(gateway, "/read", token)).status_code == 403
    assert (await get(gateway, "/platform", await gateway.token(tenant))).status_code == 403


async def test_the_platforms_scope_can_not_be_given_to_another_tenants_client(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.auth_engine.begin() as connection:
        with pytest.raises(ValueError, match="can't hold platform:admin"):
            await create_client(connection, bytes(32), tenant.tenant_id, "x", ["platform:admin"])


async def test_two_authorization_headers_are_a_malformed_request(gateway: Gateway) -> None:
    token = await gateway.token(await gateway.tenant())
    headers = [("Authorization", f"Bearer {token}")] * 2
    async with gateway.client() as client:
        answer = await client.get("/read", headers=headers)
    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]


async def test_a_token_in_the_url_is_not_looked_at(gateway: Gateway) -> None:
    token = await gateway.token(await gateway.tenant())
    assert (await get(gateway, f"/read?access_token={token}")).status_code == 401


async def test_a_token_in_a_form_is_not_looked_at(gateway: Gateway) -> None:
    token = await gateway.token(await gateway.tenant())
    async with gateway.client() as client:
        answer = await client.request("GET", "/read", data={"access_token": token})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sluice"'


async def test_a_tenant_made_elsewhere_can_use_its_token_at_once(gateway: Gateway) -> None:
    async with running(gateway.settings) as elsewhere:
        for _ in range(5):
            tenant = await elsewhere.tenant()
            answer = await get(gateway, "/read", await elsewhere.token(tenant))
            assert answer.status_code == 200


async def test_a_revoked_client_is_refused_within_a_second_by_every_process(gateway: Gateway) -> None:
    async with running(gateway.settings) as other:
        tenant = await gateway.tenant()
        token = await gateway.token(tenant)
        for process in (gateway, other):
            assert (await get(process, "/read", token)).status_code == 200
        await gateway.execute("update oauth_clients set revoked_at = now() where client_id = :id", id=tenant.client_id)
        for process in (gateway, other):
            await within_a_second(lambda p=process: p.directory.access(tenant.client_id) is None)  # type: ignore[misc]
            answer = await get(process, "/read", token)
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_a_suspended_tenant_is_refused_within_a_second_and_welcome_again_when_resumed(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    assert (await get(gateway, "/read", token)).status_code == 200
    for status, answered in (("suspended", 401), ("active", 200)):
        await gateway.execute(
            "update tenants set status = :status where tenant_id = :id", status=status, id=tenant.tenant_id
        )
        active = status == "active"
        await within_a_second(lambda a=active: (gateway.directory.limits(tenant.tenant_id) is not None) == a)  # type: ignore[misc]
        assert (await get(gateway, "/read", token)).status_code == answered


async def test_a_new_secret_replaces_the_old_one_at_once(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    hashed = hash_secret(key_bytes(gateway.settings.secret_hash_key), tenant.client_id, "sls_new")
    await gateway.execute(
        "update client_secrets set secret_hash = :hashed where client_id = :id", hashed=hashed, id=tenant.client_id
    )
    async with gateway.client() as client:
        old = await client.post("/oauth/token", data=credentials(tenant))
        new = await client.post("/oauth/token", data=credentials(tenant) | {"client_secret": "sls_new"})
    assert (old.status_code, new.status_code) == (401, 200)
