"""Client assertions: which hold, and that every other is refused, without a database."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from auth import assertions
from auth.assertions import (
    CLOCK_SKEW_SECONDS,
    MAX_ASSERTION_CHARACTERS,
    NOBODYS_KEYS,
    AssertionRefusedError,
    UsedAssertion,
    claimed_client_id,
    verify_assertion,
)
from auth.jwks import ALGORITHMS
from tests.client_keys import ClientKey

ISSUER = "https://events.example.com"
TOKEN_URL = f"{ISSUER}/oauth/token"
KEYS = {algorithm: ClientKey.make(algorithm) for algorithm in ALGORITHMS}
KEY = KEYS["ES256"]
CLIENT = "slc_a"
NOW = int(time.time())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def jwks(*keys: ClientKey) -> dict[str, Any]:
    return {"keys": [key.public for key in keys]}


def verify(
    assertion: str, keys: dict[str, Any] | None = None, audiences: frozenset[str] | None = None
) -> UsedAssertion:
    return verify_assertion(assertion, keys or jwks(KEY), CLIENT, audiences or {ISSUER}, NOW)


def right(**changes: Any) -> str:
    return signed_by(KEY, **changes)


def signed_by(key: ClientKey, **changes: Any) -> str:
    """A right assertion but for `changes`, of the moment at which `verify` looks at it."""
    return key.assertion(CLIENT, ISSUER, **({"iat": NOW, "exp": NOW + 60} | changes))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_assertion_signed_with_the_clients_key_holds_with_each_algorithm(algorithm: str) -> None:
    key = KEYS[algorithm]
    assertion = signed_by(key, jti="one")
    assert verify(assertion, jwks(*KEYS.values())) == UsedAssertion("one", NOW + 60, key.kid)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt"])
def test_the_type_may_be_the_general_or_the_special_one(typ: str) -> None:
    assert verify(right(header={"typ": typ}))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [ISSUER]},
        {"iat": None},
        {"iat": None, "exp": NOW + 300},
        {"iat": NOW, "exp": NOW + 300},
        {"iat": NOW + CLOCK_SKEW_SECONDS, "exp": NOW + CLOCK_SKEW_SECONDS + 300},
        {"nbf": NOW - 10},
        {"nbf": NOW + CLOCK_SKEW_SECONDS},
        {"exp": NOW + 0.5},
        {"jti": "x" * 200},
        {"more": {"than": ["is asked for"]}},
    ],
)
def test_what_the_rfc_leaves_to_the_client_is_accepted(changes: dict[str, Any]) -> None:
    assert verify(right(**changes))


def test_a_kid_picks_the_key_and_without_one_every_key_of_that_kind_is_tried() -> None:
    one, two = ClientKey.make(kid="one"), ClientKey.make(kid="two")
    both = jwks(one, two)
    assert verify(signed_by(two), both).key_id == "two"
    assert verify(signed_by(two, header={"kid": "two"}), both).key_id == "two"
    for kid in ("one", "three"):
        with pytest.raises(AssertionRefusedError, match="no key"):
            verify(signed_by(two, header={"kid": kid}), both)


def test_the_token_endpoints_url_is_an_audience_only_where_it_was_allowed() -> None:
    to_url = right(aud=TOKEN_URL)
    with pytest.raises(AssertionRefusedError, match="aud"):
        verify(to_url)
    assert verify(to_url, audiences=frozenset({ISSUER, TOKEN_URL}))


CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": "slc_b"}, "iss"),
    "another subject": ({"sub": "slc_b"}, "iss"),
    "another client's altogether": ({"iss": "slc_b", "sub": "slc_b"}, "iss"),
    "no issuer": ({"iss": None}, "iss"),
    "no subject": ({"sub": None}, "sub"),
    "a subject that is no text": ({"sub": ["slc_a"]}, "sub|Subject"),
    "no audience": ({"aud": None}, "aud"),
    "another audience": ({"aud": "https://other.example.com"}, "aud"),
    "the issuer and a slash": ({"aud": f"{ISSUER}/"}, "aud"),
    "two audiences": ({"aud": [ISSUER, "https://other.example.com"]}, "aud"),
    "one audience twice": ({"aud": [ISSUER, ISSUER]}, "aud"),
    "no audience in the list": ({"aud": []}, "aud"),
    "no end": ({"exp": None}, "exp"),
    "an end that is text": ({"exp": str(NOW + 60)}, "exp"),
    "ended": ({"exp": NOW - 1}, "expired"),
    "ending now": ({"exp": NOW}, "expired"),
    "an end that is no number": ({"exp": float("nan")}, "expired"),
    "never ending": ({"exp": float("inf"), "iat": None}, "ahead"),
    "six minutes": ({"iat": NOW - 60, "exp": NOW + 300}, "too long"),
    "longer than five minutes from now": ({"iat": None, "exp": NOW + 301}, "too long"),
    "made in the future": ({"iat": NOW + 31, "exp": NOW + 60}, "iat"),
    "made and ending in the future": ({"iat": NOW + 200, "exp": NOW + 400}, "ahead"),
    "made at no number": ({"iat": float("nan")}, "iat"),
    "made in the endless past": ({"iat": float("-inf")}, "too long"),
    "not yet": ({"nbf": NOW + 31}, "nbf"),
    "not before text": ({"nbf": "now"}, "nbf"),
    "no jti": ({"jti": None}, "jti"),
    "an empty jti": ({"jti": ""}, "jti"),
    "a long jti": ({"jti": "x" * 201}, "jti"),
    "a jti with NUL": ({"jti": "a\0b"}, "jti"),
    "a jti with half a character": ({"jti": "\ud800"}, "jti"),
    "a jti with a line's end": ({"jti": "a\n"}, "jti"),
    "a jti that is a number": ({"jti": 1}, "jti"),
}


@pytest.mark.parametrize(("changes", "reason"), CLAIMS.values(), ids=CLAIMS.keys())
def test_an_assertion_with_a_wrong_claim_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(AssertionRefusedError, match=reason):
        verify(_signed(changes))


def _signed(changes: dict[str, Any]) -> str:
    """Signed over any claims at all: PyJWT would not write some of these itself."""
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": "j"} | changes
    payload = json.dumps({name: value for name, value in claims.items() if value is not None}).encode()
    return jwt.api_jws.encode(payload, KEY.private, "ES256")


def _by_hand(header: dict[str, Any], mac_key: bytes | None = None) -> str:
    parts = [json.dumps(header).encode(), jwt.api_jws.decode(right(), options={"verify_signature": False})]
    signing_input = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = b"" if mac_key is None else hmac.digest(mac_key, signing_input, "sha256")
    return (signing_input + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


PEM = KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
STRANGER = ClientKey.make(kid=KEY.kid)
FORGED: dict[str, Callable[[], str]] = {
    "another's signature": lambda: signed_by(STRANGER),
    "another's signature with the key in the header": lambda: signed_by(
        STRANGER, header={"jwk": STRANGER.public, "jku": "https://evil.example.com/jwks.json"}
    ),
    "another kind of key": lambda: signed_by(KEYS["RS256"]),
    "no signature": lambda: _by_hand({"alg": "none"}),
    "no signature, with a kid": lambda: _by_hand({"alg": "none", "kid": KEY.kid}),
    "HMAC with the public key in PEM": lambda: _by_hand({"alg": "HS256"}, PEM),
    "HMAC with the public key as JWK": lambda: _by_hand({"alg": "HS256"}, json.dumps(KEY.public).encode()),
    "an algorithm that is a list": lambda: _by_hand({"alg": ["ES256"]}),
    "no algorithm": lambda: _by_hand({"typ": "JWT"}),
    "an extension that must be understood": lambda: right(header={"crit": ["exp"]}),
    "a kid that is no text": lambda: _by_hand({"alg": "ES256", "kid": 7}),
    "an access token": lambda: right(header={"typ": "at+jwt"}),
    "a changed claim": lambda: _changed(right()),
    "without its signature": lambda: right().rpartition(".")[0] + ".",
    "too long": lambda: right(filling="x" * MAX_ASSERTION_CHARACTERS),
    "no JWT": lambda: "a.b.c",
    "five parts": lambda: "a.b.c.d.e",
    "nothing": lambda: "",
    "no ASCII": lambda: "ä.ö.ü",
    "a payload that is a list": lambda: jwt.api_jws.encode(b"[]", KEY.private, "ES256"),
    "a deep payload": lambda: jwt.api_jws.encode(b"[" * 5000, KEY.private, "ES256"),
}


def _changed(assertion: str) -> str:
    header, payload, signature = assertion.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"exp": NOW + 61}
    return f"{header}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.{signature}"


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
def test_an_assertion_that_the_clients_key_did_not_sign_is_refused(make: Callable[[], str]) -> None:
    with pytest.raises(AssertionRefusedError):
        verify(make())


@given(claims=st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]), JSON))
def test_whatever_the_claims_are_it_is_refused_and_nothing_else_happens(claims: dict[str, Any]) -> None:
    assertion = jwt.api_jws.encode(json.dumps(claims).encode(), KEY.private, "ES256")
    assert claimed_client_id(assertion) in (None, claims.get("sub"))
    with pytest.raises(AssertionRefusedError):
        verify(assertion)


@given(text=st.text(max_size=60))
def test_any_text_is_no_assertion(text: str) -> None:
    assert claimed_client_id(text) is None
    with pytest.raises(AssertionRefusedError):
        verify(text)


def test_the_client_to_load_is_read_from_what_is_not_yet_verified() -> None:
    assert claimed_client_id(right()) == CLIENT
    assert claimed_client_id(STRANGER.assertion(CLIENT, "anybody")) == CLIENT
    assert claimed_client_id(right(iss="slc_b")) is None
    assert claimed_client_id(right(sub=None, iss=None)) is None
    assert claimed_client_id(right(filling="x" * MAX_ASSERTION_CHARACTERS)) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_for_a_client_that_is_not_there_a_signature_is_checked_all_the_same(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    def decode(assertion: str, key: jwt.PyJWK, **options: Any) -> Any:
        checked.append(key.algorithm_name)
        return jwt.decode(assertion, key, **options)

    monkeypatch.setattr(assertions, "jwt", _Counting(decode))
    for keys in (jwks(ClientKey.make(algorithm)), NOBODYS_KEYS):
        with pytest.raises(AssertionRefusedError):
            verify(signed_by(KEYS[algorithm]), keys)
    assert checked == [algorithm] * 2


class _Counting:
    """The module `jwt` with another `decode`."""

    def __init__(self, decode: Callable[..., Any]) -> None:
        self.decode = decode

    def __getattr__(self, name: str) -> Any:
        return getattr(jwt, name)


def test_the_name_of_a_key_without_kid_is_its_thumbprint() -> None:
    required = {name: KEY.public[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    assert verify(right()).key_id == base64.urlsafe_b64encode(digest).decode().rstrip("=")
