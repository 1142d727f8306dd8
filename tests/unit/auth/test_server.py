"""The decision on a token request, without a database: what was loaded is an argument."""

from __future__ import annotations

import base64
import re
import uuid
from typing import TYPE_CHECKING

import jwt
import pytest
from authlib.oauth2.rfc6749 import InvalidRequestError
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from app.settings import GatewaySettings
from auth import server
from auth.clients import Client
from auth.credentials import hash_secret, secret_matches
from auth.keys import SigningKey
from auth.server import Answer, ClientRefusedError, decide, presented_client_id

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = base64.b64encode(bytes(32)).decode()
SETTINGS = GatewaySettings.model_validate(
    {
        "postgres_auth_url": "postgresql://a",
        "postgres_app_url": "postgresql://b",
        "redis_url": "redis://c",
        "kafka_bootstrap": "d",
        "elasticsearch_url": "http://e",
        "key_encryption_key": KEY,
        "secret_hash_key": KEY,
        "issuer": "https://events.example.com",
    }
)
SIGNING_KEY = SigningKey("key-1", ec.generate_private_key(ec.SECP256R1()), 0)
SECRET = "sls_right"
CLIENT = Client(
    uuid.uuid4(), "slc_a", hash_secret(bytes(32), "slc_a", SECRET), ("events:write", "events:read"), tenant_active=True
)
SUSPENDED = Client(CLIENT.tenant_id, CLIENT.client_id, CLIENT.secret_hash, CLIENT.scopes, tenant_active=False)

# RFC 6749 section 5.2, error_description.
ALLOWED = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")


def basic(client_id: str, secret: str) -> Headers:
    return Headers({"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()})


def ask(form: dict[str, str], headers: Headers | None = None, client: Client | None = CLIENT) -> Answer:
    form = {"grant_type": "client_credentials"} | form
    return decide(SETTINGS, SIGNING_KEY, headers or Headers(), {k: v for k, v in form.items() if v}, client)


POST = {"client_id": CLIENT.client_id, "client_secret": SECRET}


@pytest.mark.parametrize(
    ("form", "headers"), [(POST, None), ({}, basic("slc_a", SECRET)), ({"client_id": "slc_a"}, basic("slc_a", SECRET))]
)
def test_a_right_secret_by_header_or_form_gets_a_token_that_no_cache_may_keep(
    form: dict[str, str], headers: Headers | None
) -> None:
    answer = ask(form, headers)
    assert answer.status == 200
    assert answer.body.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.body["token_type"] == "Bearer"
    assert answer.body["expires_in"] == 600
    assert isinstance(answer.body["expires_in"], int)
    assert answer.body["scope"] == "events:write events:read"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    claims = jwt.decode(answer.body["access_token"], options={"verify_signature": False})
    assert claims["aud"] == claims["iss"] == "https://events.example.com"
    assert claims["tenant_id"] == str(CLIENT.tenant_id)
    assert claims["sub"] == claims["client_id"] == CLIENT.client_id


@pytest.mark.parametrize("scope", ["events:read", "events:read events:read", " events:read "])
def test_a_client_may_ask_for_less_than_it_has(scope: str) -> None:
    answer = ask(POST | {"scope": scope})
    assert answer.body["scope"] == "events:read"
    claims = jwt.decode(answer.body["access_token"], options={"verify_signature": False})
    assert claims["scope"] == "events:read"


ERRORS: dict[str, tuple[Callable[[], Answer], int, str]] = {
    "no grant_type": (lambda: ask(POST | {"grant_type": ""}), 400, "invalid_request"),
    "a grant that is not offered": (lambda: ask(POST | {"grant_type": "password"}), 400, "unsupported_grant_type"),
    "a grant with quotes": (lambda: ask(POST | {"grant_type": 'a"\\é\n'}), 400, "unsupported_grant_type"),
    "more than the client has": (lambda: ask(POST | {"scope": "events:read tenant:admin"}), 400, "invalid_scope"),
    "an unknown scope": (lambda: ask(POST | {"scope": "everything"}), 400, "invalid_scope"),
    "only spaces as scope": (lambda: ask(POST | {"scope": " "}), 400, "invalid_scope"),
    "a suspended tenant": (lambda: ask(POST, client=SUSPENDED), 400, "unauthorized_client"),
    "a wrong secret": (lambda: ask(POST | {"client_secret": "sls_wrong"}), 401, "invalid_client"),
    "a wrong secret by header": (lambda: ask({}, basic("slc_a", "sls_wrong")), 401, "invalid_client"),
    "a wrong secret of a suspended tenant": (
        lambda: ask(POST | {"client_secret": "sls_wrong"}, client=SUSPENDED),
        401,
        "invalid_client",
    ),
    "an unknown client": (lambda: ask(POST, client=None), 401, "invalid_client"),
    "an unknown client by header": (lambda: ask({}, basic("slc_a", SECRET), client=None), 401, "invalid_client"),
    "no credentials": (lambda: ask({}), 401, "invalid_client"),
    "an id without a secret": (lambda: ask({"client_id": "slc_a"}), 401, "invalid_client"),
    "an id without a secret by header": (lambda: ask({}, basic("slc_a", "")), 401, "invalid_client"),
    "a method that is not offered": (lambda: ask({"client_assertion": "x"}), 401, "invalid_client"),
    "another client's secret": (
        lambda: ask({"client_id": "slc_b", "client_secret": SECRET}),
        401,
        "invalid_client",
    ),
}


@pytest.mark.parametrize(("make", "status", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_each_error_has_the_shape_of_rfc_6749(make: Callable[[], Answer], status: int, error: str) -> None:
    answer = make()
    assert (answer.status, answer.body["error"]) == (status, error)
    assert answer.body.keys() == {"error", "error_description"}
    assert ALLOWED.fullmatch(answer.body["error_description"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.headers.get("WWW-Authenticate", "").startswith('Basic realm="')) == (status == 401)


def test_an_unknown_client_and_a_wrong_secret_get_the_same_answer_after_the_same_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[str, str]] = []

    def counting(key: bytes, client_id: str, secret: str, expected: bytes) -> bool:
        compared.append((client_id, secret))
        return secret_matches(key, client_id, secret, expected)

    monkeypatch.setattr(server, "secret_matches", counting)
    wrong = POST | {"client_secret": "sls_wrong"}
    assert ask(wrong) == ask(wrong, client=None)
    assert compared == [("slc_a", "sls_wrong")] * 2


def test_over_plain_http_to_another_machine_no_token_is_given() -> None:
    settings = SETTINGS.model_copy(update={"issuer": "http://events.example.com"})
    form = {"grant_type": "client_credentials", **POST}
    answer = decide(settings, SIGNING_KEY, Headers(), form, CLIENT)
    assert (answer.status, answer.body["error"]) == (400, "insecure_transport")


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8000", "http://localhost:8000", "https://a.example/sluice/"])
def test_over_tls_or_to_the_same_machine_a_token_is_given(issuer: str) -> None:
    form = {"grant_type": "client_credentials", **POST}
    assert decide(SETTINGS.model_copy(update={"issuer": issuer}), SIGNING_KEY, Headers(), form, CLIENT).status == 200


def test_the_client_is_named_by_header_or_form() -> None:
    assert presented_client_id(basic("slc_a", "s"), {}) == "slc_a"
    assert presented_client_id(basic("slc%5Fa", "s"), {}) == "slc_a"
    assert presented_client_id(Headers(), {"client_id": "slc_a"}) == "slc_a"
    assert presented_client_id(Headers(), {}) is None
    assert presented_client_id(Headers({"Authorization": "Bearer x"}), {}) is None


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (basic("slc_a", "s"), {"client_secret": "s"}),
        (basic("slc_a", "s"), {"client_id": "slc_b"}),
        (Headers(raw=[(b"authorization", b"Basic YTpi"), (b"authorization", b"Basic YTpi")]), {}),
    ],
)
def test_authenticating_in_two_ways_at_once_is_an_invalid_request(headers: Headers, form: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        presented_client_id(headers, form)


@given(header=st.text(max_size=60))
def test_any_authorization_header_is_read_or_refused(header: str) -> None:
    raw = f"Basic {header}".encode("latin-1", "replace")
    for value in (raw, b"Basic " + base64.b64encode(raw), b"Basic " + base64.b64encode(b"\xff\xfe:" + raw)):
        headers = Headers(raw=[(b"authorization", value)])
        try:
            presented_client_id(headers, {})
        except ClientRefusedError:
            continue
        assert ask({}, headers).status == 401
