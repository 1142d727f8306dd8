"""Access tokens: issuing them, and telling what a presented one is worth (RFC 9068, RFC 6750, RFC 8725).

The audience is the issuer's URL: one authorization server, one resource server, one name for both.
Refuses to own keys (`auth.keys`), who is active (`tenants.directory`) and what a scope opens (`auth.dependencies`).
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from uuid import UUID

import jwt
import msgspec
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MalformedError, UnauthorizedError, UnavailableError
from auth.keys import ALGORITHM, ALLOWED_ALGORITHMS, KeyRing, SigningKey
from auth.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenants.directory import Directory

MAX_TOKEN_BYTES = 4096
"""Ours have about 600; anything far beyond is refused before it is looked at."""

CACHED_TOKENS = 10_000

CLOCK_SKEW_SECONDS = 5
"""How far another process's clock may be ahead when it issues; `exp` gets no such grace."""

TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})
REQUIRED_CLAIMS = ["iss", "sub", "client_id", "tenant_id", "aud", "exp", "iat", "jti", "scope"]

BEARER = 'Bearer realm="sluice"'
"""The challenge of RFC 6750 section 3, without an error code: what is answered when no token was sent."""


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    client_id: str
    tenant_id: UUID
    exp: int
    iat: int
    jti: str
    scope: str


class UnknownClientError(UnauthorizedError):
    """The token is genuine, but its client or tenant is not known, or no longer active."""

    issued_at: int = 0


class TokenVerifier:
    """Verifies tokens and remembers which held. One per process; not shared between threads."""

    def __init__(self, keys: KeyRing, directory: Directory, issuer: str, audience: str) -> None:
        self._keys = keys
        self._directory = directory
        self._issuer = issuer
        self._audience = audience
        self._generation = keys.generation
        self._held: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def authenticate(self, authorization: str | bytes | None) -> Principal:
        """Who sent this `Authorization` header; None: it was not sent.

        As `verify`, and also right for a client made a moment ago by another process: a token that is newer than
        this process's last look at PostgreSQL makes it look once more before it refuses.

        Raises:
            UnauthorizedError, MalformedError: as `verify` and `bearer_token`.
            UnavailableError: PostgreSQL did not answer that look.
        """
        token = bearer_token(authorization)
        try:
            return self.verify(token)
        except UnknownClientError as error:
            if error.issued_at < self._directory.last_refreshed_at - CLOCK_SKEW_SECONDS:
                raise
        try:
            await self._directory.refresh()
        except (OSError, TimeoutError, SQLAlchemyError):
            detail = "Whether this token's client is active can't be told right now."
            raise UnavailableError(detail, headers={"Retry-After": "1"}) from None
        return self.verify(token)

    def verify(self, token: bytes | str) -> Principal:
        """Who the token speaks for. No database call; some microseconds for a token that held before.

        Raises:
            UnauthorizedError: 401 with `error="invalid_token"` (RFC 6750 section 3.1).
        """
        raw = token.encode("utf-8", "replace") if isinstance(token, str) else token
        if len(raw) > MAX_TOKEN_BYTES:
            raise refused("The token is too long")
        if self._generation != self._keys.generation:
            self._held.clear()
            self._generation = self._keys.generation
        digest = hashlib.sha256(raw).digest()
        held = self._held.get(digest)
        if held is not None:
            principal, holds_until = held
            if time.time() < holds_until:
                self._held.move_to_end(digest)
                if not self._directory.admits(principal.tenant_id, principal.client_id):
                    raise _unknown_client(issued_at=0)  # it was known: looking again would not change that
                return principal
            del self._held[digest]
        principal, holds_until, issued_at = self._verify_anew(raw)
        if not self._directory.admits(principal.tenant_id, principal.client_id):
            raise _unknown_client(issued_at)
        self._held[digest] = (principal, holds_until)
        if len(self._held) > CACHED_TOKENS:
            self._held.popitem(last=False)
        return principal

    def _verify_anew(self, raw: bytes) -> tuple[Principal, float, int]:
        now = time.time()
        try:
            header = jwt.get_unverified_header(raw)
        except jwt.InvalidTokenError:
            raise refused("The token is not a JWT") from None
        if str(header.get("typ")).lower() not in TOKEN_TYPES:
            raise refused("The token is not an access token")
        key = self._keys.verification_key(header.get("kid", ""))
        if key is None or key.retired_at <= now:
            raise refused("The token is signed with an unknown key")
        try:
            payload = jwt.decode(
                raw,
                key.key,
                algorithms=sorted(ALLOWED_ALGORITHMS),
                issuer=self._issuer,
                audience=self._audience,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": REQUIRED_CLAIMS},
            )
            claims = msgspec.convert(payload, _Claims)
        except jwt.InvalidTokenError as error:
            raise refused(_REASONS.get(type(error), "The token does not hold")) from None
        except msgspec.ValidationError:
            raise refused("A claim of the token has the wrong type") from None
        if claims.exp <= now:
            raise refused(_REASONS[jwt.ExpiredSignatureError])
        if claims.sub != claims.client_id:
            raise refused("The token is not a client's own")
        principal = Principal(
            claims.tenant_id, claims.client_id, frozenset(claims.scope.split()), claims.jti, claims.exp
        )
        return principal, min(claims.exp, key.retired_at), claims.iat


_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "The token has expired",
    jwt.ImmatureSignatureError: "The token is not valid yet",
    jwt.InvalidAlgorithmError: "The token is signed with an algorithm that is not accepted",
    jwt.InvalidSignatureError: "The signature of the token is wrong",
    jwt.InvalidIssuerError: "The token is from another issuer",
    jwt.InvalidAudienceError: "The token is for another audience",
    jwt.MissingRequiredClaimError: "The token lacks a claim",
}


def bearer_token(authorization: str | bytes | None) -> bytes:
    """The token in an `Authorization: Bearer …` header (RFC 6750 section 2.1, the only place it is looked for).

    Raises:
        UnauthorizedError: there is none; the challenge then has no error code (section 3.1).
        MalformedError: the scheme is Bearer, but what follows can't be a token.
    """
    value = authorization.encode("latin-1", "replace") if isinstance(authorization, str) else authorization or b""
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise UnauthorizedError("Send an access token: Authorization: Bearer …", headers=_challenge(BEARER))
    token = token.strip(b" ")
    if not token or b" " in token:
        detail = "After Bearer comes one token and nothing else"
        raise MalformedError(f"{detail}.", headers=_challenge(_error_challenge("invalid_request", detail)))
    return token


def issue_token(
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    tenant_id: UUID,
    client_id: str,
    scopes: Iterable[str],
    lifetime_seconds: int,
    now: float,
) -> str:
    """A signed access token (RFC 9068 section 2) that holds from `now` for `lifetime_seconds`.

    The subject is the client, as no person takes part (section 2.2).
    """
    claims = {
        "iss": issuer,
        "sub": client_id,
        "client_id": client_id,
        "tenant_id": str(tenant_id),
        "aud": audience,
        "exp": int(now) + lifetime_seconds,
        "iat": int(now),
        "jti": secrets.token_urlsafe(16),
        "scope": " ".join(scopes),
    }
    return jwt.encode(claims, key.private_key, algorithm=ALGORITHM, headers={"typ": "at+jwt", "kid": key.kid})


def refused(description: str) -> UnauthorizedError:
    """401 for a token that does not hold. `description` without quotes or backslashes (RFC 6750 section 3)."""
    headers = _challenge(_error_challenge("invalid_token", description))
    return UnauthorizedError(f"{description}.", headers=headers)


def _unknown_client(issued_at: int) -> UnknownClientError:
    description = "The client or its tenant is not active"
    error = UnknownClientError(f"{description}.", headers=_challenge(_error_challenge("invalid_token", description)))
    error.issued_at = issued_at
    return error


def _error_challenge(code: str, description: str) -> str:
    return f'{BEARER}, error="{code}", error_description="{description}"'


def _challenge(value: str) -> dict[str, str]:
    return {"WWW-Authenticate": value}
