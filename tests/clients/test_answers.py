"""What the running system's OAuth endpoints answer on the wire, and that its metadata is true."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from auth.jwks import ALGORITHMS
from tests.client_keys import ClientKey, form_of
from tests.clients.conftest import WithKey
from tests.system import MadeTenant, System

ENDPOINTS = ("token", "revocation", "introspection")
GRANT = {"grant_type": "client_credentials", "token": "x"}


@pytest.fixture
async def told(system: System) -> dict[str, Any]:
    """The metadata document, found where RFC 8414 section 3 says."""
    async with system.client() as client:
        document: dict[str, Any] = (await client.get("/.well-known/oauth-authorization-server")).json()
    return document


async def post(url: str, form: dict[str, str], **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.post(url, data=GRANT | form, **options)


async def authenticate(
    url: str, method: str, tenant: MadeTenant, key: ClientKey, keyed: tuple[str, str]
) -> httpx.Response:
    """A request with right credentials, presented by this method; `keyed` are the id of a client with `key`, and whom
    its assertion is for.
    """
    secret = {"client_id": tenant.client_id, "client_secret": tenant.client_secret}
    if method == "client_secret_basic":
        return await post(url, {}, auth=(tenant.client_id, tenant.client_secret))
    if method == "client_secret_post":
        return await post(url, secret)
    if method == "private_key_jwt":
        return await post(url, form_of(key.assertion(*keyed)))
    if method == "client_secret_jwt":
        return await post(url, form_of(_by_secret(tenant, keyed[1])))
    assert method == "none"
    return await post(url, {"client_id": tenant.client_id})


def _by_secret(tenant: MadeTenant, audience: str) -> str:
    """An assertion under the client's secret instead of a key."""
    claims = {"iss": tenant.client_id, "sub": tenant.client_id, "aud": audience, "jti": "one", "exp": time.time() + 60}
    return jwt.encode(claims, tenant.client_secret, "HS256")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_metadata_tells_the_methods_that_are_really_offered_and_no_others(
    system: System, with_key: WithKey, told: dict[str, Any], endpoint: str
) -> None:
    tenant, key = await system.tenant(), ClientKey.make()
    keyed = (await with_key(key), told["issuer"])
    url = told[f"{endpoint}_endpoint"]
    offered = {
        method
        for method in ("client_secret_basic", "client_secret_post", "private_key_jwt", "client_secret_jwt", "none")
        if (await authenticate(url, method, tenant, key, keyed)).status_code == 200
    }
    assert offered == set(told[f"{endpoint}_endpoint_auth_methods_supported"])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_metadata_tells_the_algorithms_that_assertions_may_really_have(
    with_key: WithKey, told: dict[str, Any], endpoint: str
) -> None:
    accepted = set()
    for algorithm in ALGORITHMS:
        key = ClientKey.make(algorithm)
        form = form_of(key.assertion(await with_key(key), told["issuer"]))
        if (await post(told[f"{endpoint}_endpoint"], form)).status_code == 200:
            accepted.add(algorithm)
    assert accepted == set(told[f"{endpoint}_endpoint_auth_signing_alg_values_supported"])


async def test_the_metadata_tells_the_grants_scopes_and_routes_that_are_really_offered(
    system: System, told: dict[str, Any]
) -> None:
    tenant = await system.tenant()
    assert told["issuer"] == system.url
    grants = ("client_credentials", "authorization_code", "password", "refresh_token", "implicit")
    secret = {"client_id": tenant.client_id, "client_secret": tenant.client_secret}
    answers = {grant: await post(told["token_endpoint"], secret | {"grant_type": grant}) for grant in grants}
    assert [grant for grant, answer in answers.items() if answer.status_code == 200] == told["grant_types_supported"]
    async with system.client() as client:
        document = (await client.get("/openapi.json")).json()
        assert (await client.get(told["jwks_uri"])).json()["keys"]
        assert (await client.get(told["service_documentation"])).status_code == 200
    flows = document["components"]["securitySchemes"]["ClientCredentials"]["flows"]
    assert list(flows["clientCredentials"]["scopes"]) == told["scopes_supported"]
    routes = {path for path in document["paths"] if path.startswith("/oauth/")}
    assert routes == {urlsplit(url).path for name, url in told.items() if name.endswith("_endpoint")}


def bad_requests(tenant: MadeTenant) -> list[tuple[int, dict[str, Any]]]:
    right = {**GRANT, "client_id": tenant.client_id, "client_secret": tenant.client_secret}
    twice = "&".join(f"{name}={value}" for name, value in (*right.items(), ("client_id", tenant.client_id)))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return [
        (200, {"data": right}),
        (400, {"json": right}),
        (400, {"files": {name: (None, value) for name, value in right.items()}}),
        (400, {"content": twice, "headers": form}),
        (400, {"params": right, "headers": form}),
        (400, {"data": right, "auth": (tenant.client_id, tenant.client_secret)}),
        (401, {"data": right | {"client_secret": "sls_wrong"}}),
        (401, {"data": GRANT, "auth": (tenant.client_id, "sls_wrong")}),
        (401, {"data": GRANT, "headers": {"Authorization": "Bearer x"}}),
        (401, {"data": GRANT}),
        (413, {"data": right | {"filling": "x" * 20_000}}),
    ]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_answer_has_the_headers_that_the_rfcs_ask_for(
    system: System, told: dict[str, Any], endpoint: str
) -> None:
    async with system.client() as client:
        for status, request in bad_requests(await system.tenant()):
            answer = await client.post(told[f"{endpoint}_endpoint"], **request)
            assert answer.status_code == status, answer.text
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Content-Type"] == "application/json"
            assert parsedate_to_datetime(answer.headers["Date"])
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
            if status == 401:
                assert answer.headers["WWW-Authenticate"] == 'Basic realm="sluice", charset="UTF-8"'
            if status != 200:
                assert answer.json().keys() == {"error", "error_description"}


async def test_expires_in_is_a_number_on_the_wire(system: System) -> None:
    tenant = await system.tenant()
    form = {"client_id": tenant.client_id, "client_secret": tenant.client_secret}
    answer = await post(f"{system.url}/oauth/token", form)
    assert '"expires_in":600' in answer.text.replace(" ", "")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_endpoint_answers_post_only(system: System, told: dict[str, Any], endpoint: str) -> None:
    async with system.client() as client:
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            answer = await client.request(method, told[f"{endpoint}_endpoint"])
            assert answer.status_code == 405
            assert answer.headers["Allow"] == "POST"
