"""Who asks an OAuth endpoint, and whether it proves that."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace
from typing import Any

import pytest
from authlib.oauth2.rfc6749 import InvalidRequestError
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from auth import clients
from auth.authentication import ClientRefusedError, presented_client_id
from auth.clients import Client, Secret
from auth.credentials import hash_secret, matching_hash
from auth.server import Answer
from tests.client_keys import ClientKey, form_of
from tests.unit.auth.asking import CLIENT, KEY_CLIENT, KEY_PAIR, NARROWED, POST, SECRET, SETTINGS, ask, basic, decided

OTHERS = {
    "wrong secret": CLIENT,
    "two secrets": replace(CLIENT, secrets=CLIENT.secrets * 2),
    "no such client": None,
    "no secret": replace(CLIENT, secrets=()),
    "keys": KEY_CLIENT,
    "elsewhere": NARROWED,
}


@pytest.mark.parametrize("client", OTHERS.values(), ids=OTHERS.keys())
def test_whatever_is_wrong_with_a_client_the_answer_is_the_same_after_the_same_work(
    client: Client | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[tuple[str, str]] = []

    def counting(key: bytes, client_id: str, secret: str, hashes: Any) -> int | None:
        assert hashes
        hashed.append((client_id, secret))
        return matching_hash(key, client_id, secret, hashes)

    wrong = POST | {"client_secret": "sls_wrong"}
    expected = ask(wrong)
    monkeypatch.setattr(clients, "matching_hash", counting)
    assert ask(wrong, client=client) == expected
    assert hashed == [("slc_a", "sls_wrong")]


@pytest.mark.parametrize("client", [None, CLIENT, KEY_CLIENT], ids=["no such client", "a secret", "another key"])
def test_a_wrong_assertion_gets_the_answer_of_a_wrong_secret(client: Client | None) -> None:
    assertion = ClientKey.make(kid=KEY_PAIR.kid).assertion("slc_a", SETTINGS.issuer)
    assert ask(form_of(assertion), client=client) == ask(POST | {"client_secret": "sls_wrong"})


def test_the_proof_names_the_secret_or_key_that_was_used() -> None:
    old = Secret(uuid.uuid4(), hash_secret(bytes(32), "slc_a", "sls_old"))
    client = replace(CLIENT, secrets=(*CLIENT.secrets, old))
    by_old = decided(POST | {"client_secret": "sls_old"}, client=client).proof
    by_new = decided(POST, client=client).proof
    assert by_old is not None
    assert by_new is not None
    assert (by_old.credential, by_old.assertion) == (str(old.secret_id), None)
    assert by_new.credential == str(CLIENT.secrets[0].secret_id)
    by_key = decided(form_of(KEY_PAIR.assertion("slc_a", SETTINGS.issuer, jti="one")), client=KEY_CLIENT).proof
    assert by_key is not None
    assert by_key.assertion is not None
    assert (by_key.credential, by_key.assertion.jti) == (KEY_PAIR.kid, "one")


def test_a_client_with_keys_gets_a_token_for_an_assertion_and_for_nothing_else() -> None:
    def answers(**more: str) -> Answer:
        return ask(form_of(KEY_PAIR.assertion("slc_a", SETTINGS.issuer), **more), client=KEY_CLIENT)

    assert answers().status == answers(client_id="slc_a").status == 200
    assert answers(client_assertion_type="urn:ietf:params:oauth:client-assertion-type:saml2-bearer").status == 401
    assert answers(client_assertion_type="").status == 401
    assert ask(POST, client=KEY_CLIENT).status == ask({}, basic("slc_a", SECRET), KEY_CLIENT).status == 401


def test_a_client_without_keys_gets_no_token_for_an_assertion() -> None:
    assert ask(form_of(KEY_PAIR.assertion("slc_a", SETTINGS.issuer))).status == 401


def test_a_client_narrowed_to_networks_is_let_in_from_there_only() -> None:
    for endpoint in ("token", "revocation", "introspection"):
        for address, status in (("198.51.100.7", 200), ("2001:db8::7", 200), ("192.0.2.1", 401), ("2001:db9::", 401)):
            decision = decided(POST | {"token": "x"}, client=NARROWED, endpoint=endpoint, address=address)
            assert decision.answer.status == status
            assert (decision.proof is not None) == (status == 200)


def test_the_client_is_named_by_header_or_form() -> None:
    assert presented_client_id(basic("slc_a", "s"), {}) == "slc_a"
    assert presented_client_id(basic("slc%5Fa", "s"), {}) == "slc_a"
    assert presented_client_id(Headers(), {"client_id": "slc_a"}) == "slc_a"
    assert presented_client_id(Headers(), {}) is None
    assert presented_client_id(Headers({"Authorization": "Bearer x"}), {}) is None
    asserted = form_of(KEY_PAIR.assertion("slc_a", "anybody"))
    assert presented_client_id(Headers(), asserted) == "slc_a"
    assert presented_client_id(Headers(), asserted | {"client_id": "slc_a"}) == "slc_a"
    assert presented_client_id(Headers(), form_of("a.b.c")) is None
    with pytest.raises(ClientRefusedError):
        presented_client_id(Headers(), asserted | {"client_id": "slc_b"})


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (basic("slc_a", "s"), {"client_secret": "s"}),
        (basic("slc_a", "s"), {"client_id": "slc_b"}),
        (Headers(raw=[(b"authorization", b"Basic YTpi"), (b"authorization", b"Basic YTpi")]), {}),
        (basic("slc_a", "s"), form_of("a.b.c")),
        (Headers(), form_of("a.b.c", client_secret="s")),
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
