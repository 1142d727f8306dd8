"""What a presented token is worth. Each refusal is 401 with `invalid_token`; none reaches a database."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from app.errors import MalformedError, UnauthorizedError, UnavailableError
from auth.bearer import bearer_token
from auth.keys import Keys, SigningKey
from auth.principal import Principal
from auth.tokens import CACHED_TOKENS, MAX_TOKEN_BYTES, UnknownClientError, issue_token
from tests.unit.auth.conftest import Issuer, verification_key

if TYPE_CHECKING:
    from collections.abc import Callable


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hmac_with(public_key: bytes, issuer: Issuer, algorithm: str = "HS256") -> str:
    signing_input = f"{segment({'alg': algorithm, 'typ': 'at+jwt', 'kid': issuer.kid})}.{segment(issuer.claims())}"
    digest = algorithm.replace("HS", "sha")
    return f"{signing_input}.{segment(hmac.new(public_key, signing_input.encode(), digest).digest())}"


def public_pem(issuer: Issuer) -> bytes:
    return issuer.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_jwk(issuer: Issuer) -> bytes:
    key = issuer.keys.verification_key(issuer.kid)
    assert key is not None
    return json.dumps(key.jwk).encode()


def tampered(issuer: Issuer) -> str:
    header, _, signature = issuer.sign().split(".")
    return f"{header}.{segment(issuer.claims(scope='platform:admin'))}.{signature}"


def signed_by_another(issuer: Issuer, **header: Any) -> str:
    other = ec.generate_private_key(ec.SECP256R1())
    headers = {"typ": "at+jwt", "kid": issuer.kid} | header
    return jwt.encode(issuer.claims(), other, algorithm="ES256", headers=headers)


def bringing_its_key(issuer: Issuer) -> str:
    other = ec.generate_private_key(ec.SECP256R1())
    own = json.loads(ECAlgorithm.to_jwk(other.public_key())) | {"kid": issuer.kid}
    return jwt.encode(
        issuer.claims(), other, algorithm="ES256", headers={"typ": "at+jwt", "kid": issuer.kid, "jwk": own}
    )


REFUSED: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda i: f"{segment({'alg': 'none', 'typ': 'at+jwt', 'kid': i.kid})}.{segment(i.claims())}.",
    "alg None in other letters": lambda i: (
        f"{segment({'alg': 'nOnE', 'typ': 'at+jwt', 'kid': i.kid})}.{segment(i.claims())}."
    ),
    "no alg": lambda i: f"{segment({'typ': 'at+jwt', 'kid': i.kid})}.{segment(i.claims())}.AAAA",
    "HS256 with the public key as PEM": lambda i: hmac_with(public_pem(i), i),
    "HS256 with the public key as JWK": lambda i: hmac_with(public_jwk(i), i),
    "typ JWT": lambda i: i.sign(header={"typ": "JWT"}),
    "no typ": lambda i: i.sign(header={"typ": None}),
    "typ not a string": lambda i: i.sign(header={"typ": ["at+jwt"]}),
    "another audience": lambda i: i.sign(aud="https://other.example.com"),
    "no audience": lambda i: i.sign(aud=None),
    "another issuer": lambda i: i.sign(iss="https://other.example.com"),
    "the issuer with a slash": lambda i: i.sign(iss=i.url + "/"),
    "no issuer": lambda i: i.sign(iss=None),
    "an unknown kid": lambda i: i.sign(header={"kid": "key-2"}),
    "a kid that is no string": lambda i: (
        f"{segment({'alg': 'ES256', 'typ': 'at+jwt', 'kid': 1})}.{segment(i.claims())}.AAAA"
    ),
    "a key inside the token": lambda i: i.sign(header={"kid": "key-2", "jwk": json.loads(public_jwk(i))}),
    "expired": lambda i: i.sign(exp=int(time.time()) - 1),
    "expiring now": lambda i: i.sign(exp=int(time.time())),
    "not valid yet by iat": lambda i: i.sign(iat=int(time.time()) + 30),
    "not valid yet by nbf": lambda i: i.sign(nbf=int(time.time()) + 30),
    "an exp that is no number": lambda i: i.sign(exp="soon"),
    "an exp without end": lambda i: i.sign(exp=float("inf")),
    "a critical header that we don't know": lambda i: i.sign(header={"crit": ["strict"], "strict": True}),
    "a subject that is not the client": lambda i: i.sign(sub="someone"),
    "a tenant that is no UUID": lambda i: i.sign(tenant_id="acme"),
    "a scope that is a list": lambda i: i.sign(scope=["events:write"]),
    "tampered claims": tampered,
    "signed by another key": signed_by_another,
    "signed by another key, which it brings along": bringing_its_key,
    "signed by another key, which it says where to find": lambda i: signed_by_another(
        i, jku="http://127.0.0.1:9/keys", x5u="http://127.0.0.1:9/certificate"
    ),
    "HS512 with the public key as PEM": lambda i: hmac_with(public_pem(i), i, "HS512"),
    "another curve's algorithm": lambda i: jwt.encode(
        i.claims(), ec.generate_private_key(ec.SECP384R1()), algorithm="ES384", headers={"typ": "at+jwt", "kid": i.kid}
    ),
    "a cut signature": lambda i: i.sign()[:-4],
    "no signature": lambda i: i.sign().rsplit(".", 1)[0] + ".",
    "two segments": lambda i: i.sign().rsplit(".", 1)[0],
    "five segments": lambda i: i.sign() + ".a.b",
    "oversized": lambda i: i.sign(padding="x" * MAX_TOKEN_BYTES),
    "empty": lambda _: "",
    "not a token at all": lambda _: "sls_secret",
    "not ASCII": lambda _: "é.é.é",
    "JSON in place of an object": lambda i: f"{segment([1])}.{segment(i.claims())}.AAAA",
} | {
    f"no {claim}": (lambda i, claim=claim: i.sign(**{claim: None}))
    for claim in ("sub", "client_id", "tenant_id", "exp", "iat", "jti", "scope")
}


@pytest.mark.parametrize("forge", REFUSED.values(), ids=REFUSED.keys())
def test_a_token_that_does_not_hold_is_refused_with_invalid_token(
    issuer: Issuer, forge: Callable[[Issuer], str]
) -> None:
    with pytest.raises(UnauthorizedError) as refusal:
        issuer.verifier.verify(forge(issuer))
    assert 'error="invalid_token"' in refusal.value.headers["WWW-Authenticate"]
    assert refusal.value.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert not issuer.verifier._held


def test_a_right_token_says_who_is_calling(issuer: Issuer) -> None:
    token = issuer.sign()
    claims = jwt.decode(token, options={"verify_signature": False})
    access = issuer.directory.access(issuer.client_id)
    assert access is not None
    scopes = frozenset({"events:write", "events:read"})
    expected = Principal(
        issuer.tenant_id, issuer.client_id, scopes, "token-1", claims["iat"], claims["exp"], scopes, access
    )
    assert issuer.verifier.verify(token) == issuer.verifier.verify(token.encode()) == expected


@pytest.mark.parametrize("typ", ["AT+JWT", "application/at+jwt"])
def test_the_type_of_a_token_is_a_media_type_so_its_long_form_and_case_do_not_matter(issuer: Issuer, typ: str) -> None:
    assert issuer.verifier.verify(issuer.sign(header={"typ": typ})).token_id == "token-1"


def test_headers_that_name_a_key_elsewhere_are_not_looked_at(issuer: Issuer) -> None:
    foreign = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
    header = {
        "jwk": foreign,
        "jku": "http://127.0.0.1:9/keys",
        "x5u": "http://127.0.0.1:9/certificate",
        "x5c": ["AAAA"],
    }
    assert issuer.verifier.verify(issuer.sign(header=header)).token_id == "token-1"


def test_an_audience_may_be_one_of_several(issuer: Issuer) -> None:
    assert issuer.verifier.verify(issuer.sign(aud=["https://other.example.com", issuer.url]))


def test_a_token_from_a_process_whose_clock_is_slightly_ahead_holds(issuer: Issuer) -> None:
    assert issuer.verifier.verify(issuer.sign(iat=int(time.time()) + 2))


def test_an_issued_token_is_verified_and_has_the_claims_of_rfc_9068(issuer: Issuer) -> None:
    now = time.time()
    token = issue_token(
        SigningKey(issuer.kid, issuer.private_key, 0),
        issuer=issuer.url,
        audience=issuer.url,
        tenant_id=issuer.tenant_id,
        client_id=issuer.client_id,
        scopes=["events:read"],
        lifetime_seconds=600,
        now=now,
    )
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "at+jwt", "kid": issuer.kid}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.keys() == {"iss", "sub", "client_id", "tenant_id", "aud", "exp", "iat", "jti", "scope"}
    assert (claims["iat"], claims["exp"]) == (int(now), int(now) + 600)
    assert issuer.verifier.verify(token).scopes == {"events:read"}


def test_a_cached_token_is_refused_once_it_has_expired(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issuer.sign()
    issuer.verifier.verify(token)
    later = time.time() + 61
    monkeypatch.setattr("auth.tokens.time.time", lambda: later)
    with pytest.raises(UnauthorizedError, match="expired"):
        issuer.verifier.verify(token)
    assert not issuer.verifier._held


def test_a_cached_token_is_refused_once_its_client_is_not_active(issuer: Issuer) -> None:
    token = issuer.sign()
    issuer.verifier.verify(token)
    issuer.know("slc_other")
    with pytest.raises(UnknownClientError, match="not active"):
        issuer.verifier.verify(token)
    issuer.know(issuer.client_id)
    assert issuer.verifier.verify(token)


def test_a_cached_token_is_refused_once_its_key_is_gone(issuer: Issuer) -> None:
    token = issuer.sign()
    issuer.verifier.verify(token)
    issuer.keys._keys = Keys({}, ())
    issuer.keys.generation += 1
    with pytest.raises(UnauthorizedError, match="unknown key"):
        issuer.verifier.verify(token)


def test_a_cached_token_is_refused_once_its_key_is_retired(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    retired = verification_key(issuer.kid, issuer.private_key, time.time() + 20)
    issuer.keys._keys = Keys({issuer.kid: retired}, ())
    token = issuer.sign()
    issuer.verifier.verify(token)
    later = time.time() + 21
    monkeypatch.setattr("auth.tokens.time.time", lambda: later)
    with pytest.raises(UnauthorizedError, match="unknown key"):
        issuer.verifier.verify(token)


def test_a_client_of_another_tenant_with_the_same_id_does_not_help(issuer: Issuer) -> None:
    with pytest.raises(UnknownClientError):
        issuer.verifier.verify(issuer.sign(tenant_id=str(uuid.uuid4())))


def test_only_so_many_tokens_are_remembered_and_the_least_used_go_first(issuer: Issuer) -> None:
    first, second = issuer.sign(jti="first"), issuer.sign(jti="second")
    issuer.verifier.verify(first)
    issuer.verifier.verify(second)
    entry = next(iter(issuer.verifier._held.values()))
    for number in range(CACHED_TOKENS - 2):
        issuer.verifier._held[number.to_bytes(32, "big")] = entry
    issuer.verifier.verify(first)
    issuer.verifier.verify(issuer.sign(jti="third"))
    assert len(issuer.verifier._held) == CACHED_TOKENS
    assert hashlib.sha256(first.encode()).digest() in issuer.verifier._held
    assert hashlib.sha256(second.encode()).digest() not in issuer.verifier._held


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), character=st.sampled_from("ABab01-_.=~"))
def test_no_change_of_one_character_makes_a_token_hold(issuer: Issuer, position: int, character: str) -> None:
    token = issuer.sign()
    place = position % len(token)
    changed = token[:place] + character + token[place + 1 :]
    if changed == token:
        return
    with pytest.raises(UnauthorizedError):
        issuer.verifier.verify(changed)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.one_of(st.binary(max_size=300), st.text(max_size=100)))
def test_garbage_is_refused_and_never_an_error_of_ours(issuer: Issuer, garbage: bytes | str) -> None:
    with pytest.raises(UnauthorizedError):
        issuer.verifier.verify(garbage)


@pytest.mark.parametrize("header", [None, b"", "", "Basic YTpi", "Bearerx y", "token"])
def test_without_a_bearer_token_the_challenge_names_no_error(header: str | bytes | None) -> None:
    with pytest.raises(UnauthorizedError) as refusal:
        bearer_token(header)
    assert refusal.value.headers == {"WWW-Authenticate": 'Bearer realm="sluice"'}


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer a b", b"bearer  a b"])
def test_a_bearer_header_that_holds_no_token_is_malformed(header: str | bytes) -> None:
    with pytest.raises(MalformedError) as refusal:
        bearer_token(header)
    assert 'error="invalid_request"' in refusal.value.headers["WWW-Authenticate"]


@pytest.mark.parametrize("header", ["Bearer a.b.c", b"bearer a.b.c", "BEARER  a.b.c "])
def test_the_scheme_is_read_in_any_case(header: str | bytes) -> None:
    assert bearer_token(header) == b"a.b.c"


async def test_a_token_newer_than_what_is_known_is_not_refused_while_postgres_is_away(issuer: Issuer) -> None:
    issuer.know("slc_other")
    with pytest.raises(UnavailableError) as answer:
        await issuer.verifier.authenticate(f"Bearer {issuer.sign()}")
    assert answer.value.headers["Retry-After"] == "1"


async def test_an_older_token_of_an_unknown_client_is_refused_without_looking_again(issuer: Issuer) -> None:
    issuer.know("slc_other")
    issuer.directory.last_refreshed_at = time.time() + 60
    with pytest.raises(UnknownClientError):
        await issuer.verifier.authenticate(f"Bearer {issuer.sign()}")
