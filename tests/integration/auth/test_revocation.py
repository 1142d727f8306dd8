"""Revocation and introspection over HTTP and a real database."""

from __future__ import annotations

import asyncio
import time

import httpx
import jwt
import pytest

from app.database import create_engine
from auth.clients import create_client
from auth.credentials import key_bytes
from tenants.lifecycle import CreatedTenant
from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.auth.conftest import Gateway, credentials, running


async def ask(gateway: Gateway, path: str, tenant: CreatedTenant, token: str, **more: str) -> httpx.Response:
    """The client of `tenant`, authenticated by Basic, sends a token."""
    async with gateway.client(auth=(tenant.client_id, tenant.client_secret)) as client:
        return await client.post(path, data={"token": token} | more)


async def revoke(gateway: Gateway, tenant: CreatedTenant, token: str, **more: str) -> httpx.Response:
    return await ask(gateway, "/oauth/revoke", tenant, token, **more)


async def introspect(gateway: Gateway, tenant: CreatedTenant, token: str) -> dict[str, object]:
    answer = await ask(gateway, "/oauth/introspect", tenant, token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    told: dict[str, object] = answer.json()
    return told


async def use(gateway: Gateway, token: str) -> httpx.Response:
    async with gateway.client(headers={"Authorization": f"Bearer {token}"}) as client:
        return await client.get("/read")


async def second_client(gateway: Gateway, tenant: CreatedTenant) -> CreatedTenant:
    """Another client of the same tenant."""
    key = key_bytes(gateway.settings.secret_hash_key)
    async with gateway.auth_engine.begin() as connection:
        made = await create_client(connection, key, tenant.tenant_id, "second", ("events:read",))
    return CreatedTenant(tenant.tenant_id, made.client_id, made.client_secret)


async def test_a_revoked_token_is_refused_at_once_here_and_within_a_second_elsewhere(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    revoked, kept = await gateway.token(tenant), await gateway.token(tenant)
    async with running(gateway.settings) as other:
        assert (await use(other, revoked)).status_code == (await use(gateway, revoked)).status_code == 200
        answer = await revoke(gateway, tenant, revoked)
        began = time.monotonic()
        assert (answer.status_code, answer.content) == (200, b"{}")
        assert answer.headers["Cache-Control"] == "no-store"
        refused = await use(gateway, revoked)
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        while (await use(other, revoked)).status_code != 401:
            assert time.monotonic() - began < 1
            await asyncio.sleep(0.02)
        assert (await use(gateway, kept)).status_code == (await use(other, kept)).status_code == 200


async def test_whatever_is_sent_as_a_token_gets_the_same_answer_and_has_no_effect(gateway: Gateway) -> None:
    tenant, stranger = await gateway.tenant(), await gateway.tenant()
    colleague = await second_client(gateway, tenant)
    own, foreign = await gateway.token(tenant), await gateway.token(stranger)
    colleagues = await gateway.token(colleague)
    gone = await gateway.token(tenant)
    first = await revoke(gateway, tenant, gone)
    others = [gone, foreign, colleagues, "garbage", "two words", "\0", "ä", "x" * 5000, own[:-4], tenant.client_secret]
    answers = [await revoke(gateway, tenant, token) for token in others]
    assert {(answer.status_code, answer.content) for answer in [first, *answers]} == {(200, b"{}")}
    # The length of no answer and no header tells either.
    assert {tuple(answer.headers.items()) for answer in answers} == {tuple(first.headers.items())}
    for token in (own, foreign, colleagues):
        assert (await use(gateway, token)).status_code == 200
    count = "select count(*) from token_revocations where tenant_id = :tenant_id"
    assert await gateway.scalar(count, tenant_id=tenant.tenant_id) == 1


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "urn:example:unknown"])
async def test_a_hint_has_no_influence(gateway: Gateway, hint: str) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    assert (await revoke(gateway, tenant, token, token_type_hint=hint)).status_code == 200
    assert (await use(gateway, token)).status_code == 401


async def test_revoking_the_same_token_many_times_at_once_is_one_revocation(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    answers = await asyncio.gather(*(revoke(gateway, tenant, token) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    assert await gateway.scalar("select count(*) from token_revocations where jti = :jti", jti=jti) == 1


async def test_introspection_tells_a_client_about_the_tokens_of_its_tenant_only(gateway: Gateway) -> None:
    tenant, stranger = await gateway.tenant(), await gateway.tenant()
    colleague = await second_client(gateway, tenant)
    token = await gateway.token(tenant)
    claims = jwt.decode(token, options={"verify_signature": False})
    expected = claims | {"active": True, "token_type": "Bearer"}
    assert await introspect(gateway, tenant, token) == expected
    assert await introspect(gateway, colleague, token) == expected
    assert await introspect(gateway, stranger, token) == {"active": False}


async def test_a_client_of_the_platform_may_introspect_any_token(gateway: Gateway) -> None:
    token = await gateway.token(await gateway.tenant())
    platform = await second_client(gateway, CreatedTenant(PLATFORM_TENANT_ID, "", ""))
    assert (await introspect(gateway, platform, token))["active"] is True


async def test_a_token_that_does_not_hold_is_not_active_and_nothing_more_is_told(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    revoked = await gateway.token(tenant)
    await revoke(gateway, tenant, revoked)
    for token in (revoked, "garbage", revoked[:-3], tenant.client_secret, "x" * 5000):
        assert await introspect(gateway, tenant, token) == {"active": False}


async def test_introspection_tells_what_a_narrowed_clients_token_is_worth_now(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    colleague = await second_client(gateway, tenant)
    token = await gateway.token(tenant)
    await gateway.execute(
        "update oauth_clients set scopes = '{events:read}' where client_id = :id", id=tenant.client_id
    )
    await gateway.directory.refresh()
    assert (await introspect(gateway, colleague, token))["scope"] == "events:read"


BAD = {
    "no token": ({}, 400, "invalid_request"),
    "an empty token": ({"token": ""}, 400, "invalid_request"),
    "a wrong secret": ({"token": "x", "client_secret": "sls_wrong"}, 401, "invalid_client"),
    "no credentials": ({"token": "x", "client_secret": ""}, 401, "invalid_client"),
}


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
@pytest.mark.parametrize(("changes", "status", "error"), BAD.values(), ids=BAD.keys())
async def test_a_bad_request_gets_the_error_of_rfc_6749(
    gateway: Gateway, path: str, changes: dict[str, str], status: int, error: str
) -> None:
    tenant = await gateway.tenant()
    async with gateway.client() as client:
        answer = await client.post(path, data=credentials(tenant) | changes)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get("WWW-Authenticate", "").startswith("Basic realm=") == (status == 401)


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_form_only_and_each_parameter_once(gateway: Gateway, path: str) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with gateway.client(auth=(tenant.client_id, tenant.client_secret)) as client:
        answers = [
            await client.post(path, json={"token": token}),
            await client.post(path, content=f"token={token}&token={token}", headers=form),
            await client.post(path, params={"token": token}, headers=form),
        ]
    assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {(400, "invalid_request")}
    assert (await use(gateway, token)).status_code == 200


async def test_a_suspended_tenants_client_is_told_so_and_changes_nothing(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    await gateway.execute("update tenants set status = 'suspended' where tenant_id = :id", id=tenant.tenant_id)
    await gateway.directory.refresh()
    for path in ("/oauth/revoke", "/oauth/introspect"):
        answer = await ask(gateway, path, tenant, token)
        assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_without_postgres_the_answer_is_503(gateway: Gateway, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    parts = gateway.settings.postgres_auth_url.get_secret_value().rpartition(":")
    nobody_listens = create_engine(f"{parts[0]}:9/none")
    monkeypatch.setattr(gateway.app.state.sluice, "auth_engine", nobody_listens)
    answer = await ask(gateway, path, tenant, token)
    await nobody_listens.dispose()
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await use(gateway, token)).status_code == 200
