"""Client assertions: JWTs by which a client proves who it is (`private_key_jwt`, RFC 7523 sections 2.2 and 3).

Pure functions over a client's own keys (`Client.jwks`, given inline: no key is ever fetched from anywhere). That an
assertion counts once is `auth.uses`'s to hold; which client to load is read from what is not yet verified.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from auth.jwks import ALGORITHMS, public_key_set

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_ASSERTION_CHARACTERS = 8192
MAX_LIFETIME_SECONDS = 300
CLOCK_SKEW_SECONDS = 30
"""How far a client's clock may be ahead. One that is behind has less of the lifetime left."""

# A token of another kind, say an access token, is not an assertion (RFC 8725 section 3.11). Most clients say JWT or
# nothing; the last is from draft-ietf-oauth-rfc7523bis.
_TYPES = frozenset({"", "jwt", "client-authentication+jwt"})


@dataclass(frozen=True)
class UsedAssertion:
    """An assertion that holds. `key_id` names the key it was signed with; `expires_at` in seconds since 1970."""

    jti: str
    expires_at: float
    key_id: str


class AssertionRefusedError(Exception):
    """The assertion does not hold; the text says why, for the log only."""


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    # Kept in PostgreSQL and its index, so no NUL, and not of any length.
    jti: Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x7e]{1,200}\Z")]
    iat: float | None = None
    nbf: float | None = None


def claimed_client_id(assertion: str) -> str | None:
    """The client that an assertion says it is from, before anything of it is verified; None if it doesn't say."""
    if len(assertion) > MAX_ASSERTION_CHARACTERS:
        return None
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    issuer, subject = claims.get("iss"), claims.get("sub")
    return subject if isinstance(subject, str) and issuer == subject else None


def verify_assertion(
    assertion: str, jwks: Mapping[str, Any], client_id: str, audiences: Collection[str], now: float
) -> UsedAssertion:
    """Check signature and claims against the client's keys; `now` in seconds since 1970.

    It holds at most five minutes, from `iat`, or from now if it doesn't say when it was made.

    Raises:
        AssertionRefusedError: it does not hold.
    """
    if len(assertion) > MAX_ASSERTION_CHARACTERS:
        raise AssertionRefusedError("too long")
    try:
        header = jwt.get_unverified_header(assertion)
        if str(header.get("typ", "")).lower().removeprefix("application/") not in _TYPES:
            raise AssertionRefusedError("typ is of another kind of token")
        payload, key_id = _signed(assertion, jwks, header)
        claims = msgspec.convert(payload, _Claims)
    except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
        raise AssertionRefusedError(str(error)) from None
    _check(claims, client_id, audiences, now)
    return UsedAssertion(claims.jti, claims.exp, key_id)


def _signed(assertion: str, jwks: Mapping[str, Any], header: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The payload, and the name of the key under which its signature holds."""
    for jwk in _candidates(jwks, header.get("alg"), header.get("kid")):
        try:
            payload = jwt.decode(
                assertion,
                jwt.PyJWK(dict(jwk)),
                algorithms=ALGORITHMS,  # whatever the header says (RFC 8725 section 3.1)
                # All claims are checked in one place, `_check`, which also knows how long is too long.
                options={f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},  # type: ignore[arg-type]
            )
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError):
            continue
        return payload, jwk["kid"]
    raise AssertionRefusedError("no key of the client fits")


def _candidates(jwks: Mapping[str, Any], algorithm: Any, kid: Any) -> Iterator[Mapping[str, Any]]:
    for jwk in jwks["keys"]:
        if algorithm == jwk["alg"] in ALGORITHMS and kid in (None, jwk["kid"]):
            yield jwk


def _check(claims: _Claims, client_id: str, audiences: Collection[str], now: float) -> None:
    """Each condition says what must be, so that a number that is none (NaN) fulfils none of them."""
    audience = claims.aud if isinstance(claims.aud, str) else claims.aud[0] if len(claims.aud) == 1 else None
    latest = now + CLOCK_SKEW_SECONDS
    conditions = {
        "iss and sub must be the client": claims.iss == claims.sub == client_id,
        # Accepted here alone: one that names another server too could be presented there, and here by that server.
        "aud is not this server alone": audience in audiences,
        "it has expired": claims.exp > now,
        "exp is too far ahead": claims.exp <= latest + MAX_LIFETIME_SECONDS,
        "iat lies ahead": claims.iat is None or claims.iat <= latest,
        "it holds too long": claims.exp - (now if claims.iat is None else claims.iat) <= MAX_LIFETIME_SECONDS,
        "nbf lies ahead": claims.nbf is None or claims.nbf <= latest,
    }
    for fault, holds in conditions.items():
        if not holds:
            raise AssertionRefusedError(fault)


def _nobodys_keys() -> dict[str, Any]:
    """One public key of each kind whose private half nobody has, so that it costs as much to find no client."""
    modulus = (secrets.randbits(2048) | (1 << 2047) | 1).to_bytes(256, "big")
    rsa = {"kty": "RSA", "n": urlsafe_b64encode(modulus).rstrip(b"=").decode(), "e": "AQAB"}
    curve = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
    edwards = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True)
    return public_key_set({"keys": [rsa, curve, edwards]})


NOBODYS_KEYS = _nobodys_keys()
