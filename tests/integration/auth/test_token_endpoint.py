"""The token endpoint over HTTP and a real database."""

from __future__ import annotations

import asyncio
import base64
import time
import warnings
from urllib.parse import urlencode

import httpx
import jwt
import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from jwt import PyJWKSet
from sqlalchemy import text

from app.database import create_engine
from tests.integration.auth.conftest import Gateway, credentials
from tests.integration.reads.proxy import Relay

with warnings.catch_warnings():
    # Authlib is moving to httpx's successor, and says so to everyone who imports its client over httpx.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_authlibs_own_client_gets_a_token_and_uses_it(gateway: Gateway, method: str) -> None:
    tenant = await gateway.tenant()
    async with AsyncOAuth2Client(
        tenant.client_id,
        tenant.client_secret,
        token_endpoint_auth_method=method,
        token_endpoint=f"{gateway.settings.issuer}/oauth/token",
        grant_type="client_credentials",
        scope="events:read",
        transport=gateway.transport,
        base_url=gateway.settings.issuer,
    ) as client:
        token = await client.fetch_token()
        answer = await client.get("/read")
    assert token["scope"] == "events:read"
    assert answer.json() == {"tenant_id": str(tenant.tenant_id), "client_id": tenant.client_id}


async def test_a_stranger_verifies_a_token_with_nothing_but_the_published_documents(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    async with gateway.client() as client:
        told = (await client.get("/.well-known/oauth-authorization-server")).json()
        keys = PyJWKSet.from_dict((await client.get(httpx.URL(told["jwks_uri"]).path)).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], issuer=told["issuer"], audience=told["issuer"])
    assert claims["tenant_id"] == str(tenant.tenant_id)
    assert claims["exp"] - claims["iat"] == gateway.settings.token_lifetime_seconds <= 600


async def test_published_keys_hold_nothing_private_and_may_be_cached_for_a_minute(gateway: Gateway) -> None:
    async with gateway.client() as client:
        answer = await client.get("/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    for key in answer.json()["keys"]:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}


async def test_a_token_answer_is_never_cached(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.client() as client:
        answer = await client.post("/oauth/token", data=credentials(tenant))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    assert answer.json()["expires_in"] == 600


BAD_REQUESTS: dict[str, tuple[dict[str, str], str, int, str]] = {
    "JSON": ({"Content-Type": "application/json"}, '{"grant_type": "client_credentials"}', 400, "invalid_request"),
    "no content type": ({}, "grant_type=client_credentials", 400, "invalid_request"),
    "an empty body": (FORM, "", 400, "invalid_request"),
    "a parameter twice": (FORM, "grant_type=client_credentials&grant_type=client_credentials", 400, "invalid_request"),
    "compressed": (FORM | {"Content-Encoding": "gzip"}, "grant_type=client_credentials", 400, "invalid_request"),
    "too large": (FORM, "grant_type=client_credentials&x=" + "x" * 17_000, 413, "invalid_request"),
    "another grant": (FORM, "grant_type=authorization_code&code=x", 400, "unsupported_grant_type"),
    "no credentials": (FORM, "grant_type=client_credentials", 401, "invalid_client"),
    "an id with NUL": (FORM, "grant_type=client_credentials&client_id=a%00b&client_secret=c", 401, "invalid_client"),
    "an id that is no ASCII": (
        FORM,
        "grant_type=client_credentials&client_id=%C3%A9&client_secret=c",
        401,
        "invalid_client",
    ),
    "an id of SQL": (FORM, "grant_type=client_credentials&client_id=%27or%271&client_secret=c", 401, "invalid_client"),
    "Basic that is no base64": (
        FORM | {"Authorization": "Basic §"},
        "grant_type=client_credentials",
        401,
        "invalid_client",
    ),
    "Basic that is no UTF-8": (
        FORM | {"Authorization": "Basic //8="},
        "grant_type=client_credentials",
        401,
        "invalid_client",
    ),
    "another scheme": (FORM | {"Authorization": "Bearer x"}, "grant_type=client_credentials", 401, "invalid_client"),
}


@pytest.mark.parametrize(("headers", "body", "status", "error"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_bad_request_gets_the_error_of_rfc_6749(
    gateway: Gateway, headers: dict[str, str], body: str, status: int, error: str
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with gateway.client() as client:
        answer = await client.post("/oauth/token", headers=raw, content=body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"].isascii()
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get("WWW-Authenticate", "").startswith("Basic realm=") == (status == 401)


async def test_a_wrong_secret_and_an_unknown_client_get_the_same_answer(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    wrong = credentials(tenant) | {"client_secret": "sls_wrong"}
    unknown = wrong | {"client_id": "slc_unknown"}
    async with gateway.client() as client:
        answers = [await client.post("/oauth/token", data=form) for form in (wrong, unknown)]
    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].content == answers[1].content
    assert answers[0].headers == answers[1].headers


async def test_a_secret_in_the_url_is_refused_even_if_it_is_right(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.client() as client:
        answer = await client.post(f"/oauth/token?{urlencode(credentials(tenant))}", headers=FORM)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_header_and_form_together_are_refused_even_if_both_are_right(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.client(auth=(tenant.client_id, tenant.client_secret)) as client:
        answer = await client.post("/oauth/token", data=credentials(tenant))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_secret_of_one_tenant_opens_no_client_of_another(gateway: Gateway) -> None:
    one, other = await gateway.tenant(), await gateway.tenant()
    async with gateway.client() as client:
        answer = await client.post("/oauth/token", data=credentials(one) | {"client_secret": other.client_secret})
    assert answer.status_code == 401


async def test_a_client_gets_no_scope_beyond_its_own(gateway: Gateway) -> None:
    tenant = await gateway.tenant(scopes=("events:write",))
    async with gateway.client() as client:
        refused = await client.post("/oauth/token", data=credentials(tenant) | {"scope": "events:write events:read"})
        granted = await client.post("/oauth/token", data=credentials(tenant))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    assert granted.json()["scope"] == "events:write"


async def test_a_revoked_client_gets_no_token_and_a_suspended_tenants_client_is_told_why(gateway: Gateway) -> None:
    revoked, suspended = await gateway.tenant(), await gateway.tenant()
    await gateway.execute("update oauth_clients set revoked_at = now() where client_id = :id", id=revoked.client_id)
    await gateway.execute("update tenants set status = 'suspended' where tenant_id = :id", id=suspended.tenant_id)
    async with gateway.client() as client:
        answers = [await client.post("/oauth/token", data=credentials(tenant)) for tenant in (revoked, suspended)]
    assert (answers[0].status_code, answers[0].json()["error"]) == (401, "invalid_client")
    assert (answers[1].status_code, answers[1].json()["error"]) == (400, "unauthorized_client")
    assert "suspended" in answers[1].json()["error_description"]


async def test_many_at_once_each_get_their_own_tenants_token(gateway: Gateway) -> None:
    tenants = [await gateway.tenant() for _ in range(10)]
    tokens = await asyncio.gather(*(gateway.token(tenant) for tenant in tenants))
    told = [jwt.decode(token, options={"verify_signature": False})["tenant_id"] for token in tokens]
    assert told == [str(tenant.tenant_id) for tenant in tenants]


async def test_without_postgres_the_answer_is_503_in_the_shape_of_oauth(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await gateway.tenant()
    parts = gateway.settings.postgres_auth_url.get_secret_value().rpartition(":")
    nobody_listens = create_engine(f"{parts[0]}:9/none")
    monkeypatch.setattr(gateway.app.state.sluice, "auth_engine", nobody_listens)
    async with gateway.client() as client:
        answer = await client.post("/oauth/token", data=credentials(tenant))
    await nobody_listens.dispose()
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_postgres_that_accepts_and_never_answers_is_not_waited_for_long(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await gateway.tenant()
    relay = Relay(gateway.settings.postgres_auth_url.get_secret_value())
    await relay.mend()
    through_relay = create_engine(relay.url, pool_size=1)
    monkeypatch.setattr(gateway.app.state.sluice, "auth_engine", through_relay)
    monkeypatch.setattr("auth.endpoints.ANSWER_SECONDS", 0.3)
    async with gateway.client() as client:
        assert (await client.post("/oauth/token", data=credentials(tenant))).status_code == 200
        relay.freeze()
        began = time.monotonic()
        answer = await client.post("/oauth/token", data=credentials(tenant))
        assert time.monotonic() - began < 3
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    await relay.cut()
    await through_relay.dispose()


async def test_secrets_are_stored_as_keyed_hashes_only(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.auth_engine.connect() as connection:
        query = text("select row_to_json(c)::text from oauth_clients c where client_id = :id")
        row = await connection.scalar(query, {"id": tenant.client_id})
    random_part = tenant.client_secret.partition("_")[2]
    assert tenant.client_secret not in row
    assert random_part not in row
    assert base64.urlsafe_b64decode(random_part + "=").hex() not in row
