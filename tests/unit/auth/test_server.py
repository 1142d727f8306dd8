"""The decision on a token request, without a database: what was loaded is an argument."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

import jwt
import pytest
from starlette.datastructures import Headers

from auth.server import Answer, Asked, decide
from tests.unit.auth.asking import CLIENT, POST, SECRET, SETTINGS, SIGNING_KEY, SUSPENDED, ask, basic

if TYPE_CHECKING:
    from collections.abc import Callable

# RFC 6749 section 5.2, error_description.
ALLOWED = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")


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


def under(issuer: str) -> Answer:
    settings = SETTINGS.model_copy(update={"issuer": issuer})
    form = {"grant_type": "client_credentials", **POST}
    return decide(settings, Asked("token", Headers(), form, ip_address("::1"), CLIENT, None, SIGNING_KEY)).answer


def test_over_plain_http_to_another_machine_no_token_is_given() -> None:
    answer = under("http://events.example.com")
    assert (answer.status, answer.body["error"]) == (400, "insecure_transport")


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8000", "http://localhost:8000", "https://a.example/sluice/"])
def test_over_tls_or_to_the_same_machine_a_token_is_given(issuer: str) -> None:
    assert under(issuer).status == 200
