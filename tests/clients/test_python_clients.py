"""OAuth clients that others wrote, unchanged, get a token from the running system and use it."""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import Any

import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, OKPKey, RSAKey
from oauthlib.oauth2 import BackendApplicationClient  # type: ignore[import-untyped]
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session  # type: ignore[import-untyped]

from auth.jwks import ALGORITHMS
from tests.client_keys import ClientKey
from tests.clients.conftest import WithKey
from tests.system import System

with warnings.catch_warnings():
    # Authlib is moving to httpx's successor, and says so to everyone who imports its client over httpx.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client

SECRET_METHODS = ("client_secret_basic", "client_secret_post")
COUNT = "/api/v1/events/count"


def check(token: dict[str, Any], answer: Any) -> None:
    """What the client holds is as it was granted, and what it asked for with it was answered."""
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 600
    assert token["scope"] in ("events:read", ["events:read"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["count"] == 0


@pytest.mark.parametrize("method", SECRET_METHODS)
async def test_authlibs_httpx_client(system: System, method: str) -> None:
    tenant = await system.tenant()
    async with AsyncOAuth2Client(
        tenant.client_id,
        tenant.client_secret,
        token_endpoint_auth_method=method,
        token_endpoint=f"{system.url}/oauth/token",
        grant_type="client_credentials",
        scope="events:read",
    ) as client:
        token = await client.fetch_token()
        check(token, await client.get(f"{system.url}{COUNT}"))


@pytest.mark.parametrize("method", SECRET_METHODS)
async def test_authlibs_requests_client(system: System, method: str) -> None:
    tenant = await system.tenant()

    def run() -> None:
        with AuthlibSession(
            tenant.client_id, tenant.client_secret, token_endpoint_auth_method=method, scope="events:read"
        ) as client:
            token = client.fetch_token(f"{system.url}/oauth/token", grant_type="client_credentials")
            check(token, client.get(f"{system.url}{COUNT}", timeout=30))

    await asyncio.to_thread(run)


@pytest.mark.parametrize("method", SECRET_METHODS)
async def test_requests_oauthlib(system: System, method: str) -> None:
    tenant = await system.tenant()
    how: dict[str, Any] = (
        {"auth": HTTPBasicAuth(tenant.client_id, tenant.client_secret)}
        if method == "client_secret_basic"
        else {"client_id": tenant.client_id, "client_secret": tenant.client_secret, "include_client_id": True}
    )

    def run() -> None:
        with OAuth2Session(client=BackendApplicationClient(tenant.client_id, scope="events:read")) as client:
            token = client.fetch_token(f"{system.url}/oauth/token", **how)
            check(token, client.get(f"{system.url}{COUNT}", timeout=30))

    await asyncio.to_thread(run)


def asserting(system: System, key: ClientKey) -> PrivateKeyJWT:
    """Authlib's, told by its options whom the assertion is for and that it holds a minute instead of an hour.

    Good for one token: it keeps the `jti` that it drew for the first assertion.
    """
    claims = {"aud": system.url, "exp": int(time.time()) + 60}
    return PrivateKeyJWT(claims=claims, headers={"kid": key.kid}, alg=key.algorithm)


def private_jwk(key: ClientKey) -> Any:
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    kinds: dict[str, Any] = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
    return kinds[key.algorithm].import_key(pem)


# RFC 9864 has a new name for it, Ed25519, which hardly any library knows yet.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_authlibs_httpx_client_without_a_secret(system: System, with_key: WithKey, algorithm: str) -> None:
    key = ClientKey.make(algorithm)
    async with AsyncOAuth2Client(
        await with_key(key),
        private_jwk(key),
        token_endpoint_auth_method=asserting(system, key),
        token_endpoint=f"{system.url}/oauth/token",
        grant_type="client_credentials",
        scope="events:read",
    ) as client:
        token = await client.fetch_token()
        check(token, await client.get(f"{system.url}{COUNT}"))


async def test_authlibs_requests_client_without_a_secret(system: System, with_key: WithKey) -> None:
    key = ClientKey.make("RS256")
    client_id = await with_key(key)

    def run() -> None:
        with AuthlibSession(
            client_id, private_jwk(key), token_endpoint_auth_method=asserting(system, key), scope="events:read"
        ) as client:
            token = client.fetch_token(f"{system.url}/oauth/token", grant_type="client_credentials")
            check(token, client.get(f"{system.url}{COUNT}", timeout=30))

    await asyncio.to_thread(run)


async def test_authlibs_client_revokes_and_introspects(system: System) -> None:
    tenant = await system.tenant()

    def run() -> None:
        with OAuth2Client(
            tenant.client_id,
            tenant.client_secret,
            revocation_endpoint_auth_method="client_secret_post",
            token_endpoint=f"{system.url}/oauth/token",
            grant_type="client_credentials",
        ) as client:
            token = client.fetch_token()["access_token"]
            asked = client.introspect_token(f"{system.url}/oauth/introspect", token=token)
            assert asked.json()["active"] is True
            assert client.revoke_token(f"{system.url}/oauth/revoke", token=token).status_code == 200
            assert client.get(f"{system.url}{COUNT}").status_code == 401

    await asyncio.to_thread(run)
