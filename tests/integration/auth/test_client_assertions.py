"""private_key_jwt over HTTP and a real database: once per client, whatever process is asked."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter

import jwt
import pytest

from auth.clients import create_key_client
from auth.jwks import ALGORITHMS
from auth.metadata import PATHS
from auth.scopes import TENANT_SCOPES
from tests.client_keys import ClientKey, form_of
from tests.integration.auth.conftest import Gateway, credentials, running

GRANT = {"grant_type": "client_credentials"}
KEYS = {algorithm: ClientKey.make(algorithm) for algorithm in ALGORITHMS}


async def client_with_keys(gateway: Gateway, *keys: ClientKey) -> str:
    """A client of a fresh tenant; returns its id."""
    tenant = await gateway.tenant()
    jwks = {"keys": [key.public for key in keys]}
    async with gateway.auth_engine.begin() as connection:
        return await create_key_client(connection, jwks, tenant.tenant_id, "with keys", TENANT_SCOPES)


async def status_of(gateway: Gateway, form: dict[str, str], path: str = "/oauth/token") -> int:
    async with gateway.client() as client:
        return (await client.post(path, data=form)).status_code


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_client_with_a_key_gets_a_token_and_uses_it(gateway: Gateway, algorithm: str) -> None:
    key = KEYS[algorithm]
    client_id = await client_with_keys(gateway, *KEYS.values())
    async with gateway.client() as client:
        assertion = key.assertion(client_id, gateway.settings.issuer)
        answer = await client.post("/oauth/token", data=GRANT | form_of(assertion, scope="events:read"))
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/read", headers=headers)).json()["client_id"] == client_id


async def test_an_assertion_counts_once_however_many_ask_at_once_and_whichever_process(gateway: Gateway) -> None:
    key = KEYS["ES256"]
    client_id = await client_with_keys(gateway, key)
    async with running(gateway.settings) as other:
        for _ in range(5):
            form = GRANT | form_of(key.assertion(client_id, gateway.settings.issuer))
            asked = [status_of(process, form) for process in (gateway, other) for _ in range(3)]
            assert Counter(await asyncio.gather(*asked)) == {200: 1, 401: 5}
            assert await status_of(other, form) == 401


async def test_an_assertion_used_at_one_endpoint_is_used_at_all(gateway: Gateway) -> None:
    key = KEYS["ES256"]
    client_id = await client_with_keys(gateway, key)
    for first in PATHS.values():
        form = GRANT | {"token": "x"} | form_of(key.assertion(client_id, gateway.settings.issuer))
        assert await status_of(gateway, form, first) == 200
        assert {await status_of(gateway, form, path) for path in PATHS.values()} == {401}


async def test_two_clients_may_use_the_same_jti(gateway: Gateway) -> None:
    key, jti = KEYS["EdDSA"], secrets.token_hex(8)
    for client_id in (await client_with_keys(gateway, key), await client_with_keys(gateway, key)):
        form = GRANT | form_of(key.assertion(client_id, gateway.settings.issuer, jti=jti))
        assert [await status_of(gateway, form) for _ in range(2)] == [200, 401]


async def test_a_refused_assertion_is_not_used_up(gateway: Gateway) -> None:
    key, jti = KEYS["ES256"], secrets.token_hex(8)
    client_id = await client_with_keys(gateway, key)
    stranger = ClientKey.make(kid=key.kid)
    forged = GRANT | form_of(stranger.assertion(client_id, gateway.settings.issuer, jti=jti))
    right = GRANT | form_of(key.assertion(client_id, gateway.settings.issuer, jti=jti))
    assert [await status_of(gateway, form) for form in (forged, right)] == [401, 200]


async def test_a_used_assertion_is_remembered_beyond_its_end(gateway: Gateway) -> None:
    key, end = KEYS["ES256"], int(time.time()) + 60
    client_id = await client_with_keys(gateway, key)
    assert await status_of(gateway, GRANT | form_of(key.assertion(client_id, gateway.settings.issuer, exp=end))) == 200
    kept = await gateway.scalar(
        "select extract(epoch from expires_at) from client_assertions where client_id = :id", id=client_id
    )
    assert end < kept <= end + 120


async def test_every_failure_gets_the_same_answer(gateway: Gateway) -> None:
    key, issuer = KEYS["ES256"], gateway.settings.issuer
    tenant, client_id = await gateway.tenant(), await client_with_keys(gateway, key)
    used = form_of(key.assertion(client_id, issuer))
    assert await status_of(gateway, GRANT | used) == 200
    forms = (
        credentials(tenant) | {"client_secret": "sls_wrong"},
        GRANT | used,
        GRANT | form_of(key.assertion(client_id, issuer, exp=1)),
        GRANT | form_of(key.assertion(client_id, "https://other.example.com")),
        GRANT | form_of(key.assertion(client_id, f"{issuer}/oauth/token")),
        GRANT | form_of(key.assertion("slc_unknown", issuer)),
        GRANT | form_of(key.assertion(tenant.client_id, issuer)),
        GRANT | form_of(key.assertion(client_id, issuer), client_id=tenant.client_id),
        GRANT | form_of("a.b.c"),
        GRANT | form_of(key.assertion("\0\ud800", issuer)),
        GRANT | {"client_id": client_id, "client_secret": "sls_any"},
    )
    async with gateway.client() as client:
        answers = [await client.post("/oauth/token", data=form) for form in forms]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {'Basic realm="sluice", charset="UTF-8"'}


async def test_with_the_option_the_token_endpoints_url_is_an_audience_too(gateway: Gateway) -> None:
    key = KEYS["ES256"]
    client_id = await client_with_keys(gateway, key)
    allowing = gateway.settings.model_copy(update={"assertion_audience_token_url": True})
    async with running(allowing) as other:
        for audience in (gateway.settings.issuer, f"{gateway.settings.issuer}/oauth/token"):
            assert await status_of(other, GRANT | form_of(key.assertion(client_id, audience))) == 200
        both = [gateway.settings.issuer, f"{gateway.settings.issuer}/oauth/token"]
        assertion = key.assertion(client_id, "", aud=both)
        assert jwt.decode(assertion, options={"verify_signature": False})["aud"] == both
        assert await status_of(other, GRANT | form_of(assertion)) == 401
