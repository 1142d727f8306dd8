"""Access tokens: issuing them, and telling what a presented one is worth (RFC 9068, RFC 6750, RFC 8725).

The audience is the issuer's URL: one authorization server, one resource server, one name for both.
Refuses to own keys (`auth.keys`), who is active (`tenants.directory`) and what a scope opens (`auth.dependencies`).
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import jwt
import msgspec
from sqlalchemy.exc import SQLAlchemyError

from app.errors import UnavailableError
from auth.bearer import TokenRefusedError, bearer_token
from auth.keys import ALGORITHM, ALLOWED_ALGORITHMS, KeyRing, SigningKey
from auth.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenants.directory import ClientAccess, Directory

MAX_TOKEN_BYTES = 4096
"""Ours have about 600; anything far beyond is refused before it is looked at."""

CACHED_TOKENS = 10_000

CLOCK_SKEW_SECONDS = 5
"""How far another process's clock may be ahead when it issues; `exp` gets no such grace."""

TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})
REQUIRED_CLAIMS = ["iss", "sub", "client_id", "tenant_id", "aud", "exp", "iat", "jti", "scope"]


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    client_id: str
    tenant_id: UUID
    exp: int
    iat: int
    jti: str
    scope: str


UNKNOWN_KEY_SECONDS = 0.05
"""A token that names a key that is not known makes a process look for it. At most this often: anyone can name one."""


@dataclass(slots=True)
class _Held:
    """A genuine token: what it claims, until when in seconds since 1970, and whom it spoke for when last looked at."""

    claims: _Claims
    until: float
    principal: Principal | None = None


class UnknownKeyError(TokenRefusedError):
    """The key that the token names is not known, or its time is over. What the token says may be anyone's words."""


class UnknownClientError(TokenRefusedError):
    """The token is genuine, but its client or tenant is not known, or no longer active."""

    def __init__(self, issued_at: int) -> None:
        super().__init__("The client or its tenant is not active")
        self.issued_at = issued_at


class TokenVerifier:
    """Verifies tokens and remembers which held. One per process; not shared between threads."""

    def __init__(self, keys: KeyRing, directory: Directory, issuer: str, audience: str) -> None:
        self._keys = keys
        self._directory = directory
        self._issuer = issuer
        self._audience = audience
        self._generation = keys.generation
        self._held: OrderedDict[bytes, _Held] = OrderedDict()

    async def authenticate(self, authorization: str | bytes | None) -> Principal:
        """Who sent this `Authorization` header; None: it was not sent.

        As `verify`, and also right in a process that was frozen, which looks at PostgreSQL once more before it
        answers, and for a client or key made, or a client widened, a moment ago by another process: what is newer
        than this process's last look makes it look once more before it refuses.

        Raises:
            TokenRefusedError, UnauthorizedError, MalformedError: as `verify` and `bearer_token`.
            UnavailableError: PostgreSQL did not answer that look.
        """
        token = bearer_token(authorization)
        if self._directory.is_stale():
            await self._directory.catch_up()
        try:
            principal = self.verify(token)
            if principal.scopes is principal.claimed or self._is_old_news(principal.issued_at):
                return principal
        except UnknownKeyError:
            await self._directory.catch_up(at_most_every=UNKNOWN_KEY_SECONDS)
            return self.verify(token)
        except UnknownClientError as error:
            if self._is_old_news(error.issued_at):
                raise
        try:
            await self._directory.refresh()
        except (OSError, TimeoutError, SQLAlchemyError):
            detail = "Whether this token's client is active can't be told right now."
            raise UnavailableError(detail, headers={"Retry-After": "1"}) from None
        return self.verify(token)

    def _is_old_news(self, issued_at: int) -> bool:
        """Whether the directory has been read since a token of this age was issued."""
        return issued_at < self._directory.last_refreshed_at - CLOCK_SKEW_SECONDS

    def verify(self, token: bytes | str) -> Principal:
        """Who the token speaks for. No database call; some microseconds for a token that held before.

        Raises:
            TokenRefusedError: 401 with `error="invalid_token"` (RFC 6750 section 3.1).
        """
        raw = token.encode("utf-8", "replace") if isinstance(token, str) else token
        if len(raw) > MAX_TOKEN_BYTES:
            raise TokenRefusedError("The token is too long")
        if self._generation != self._keys.generation:
            self._held.clear()
            self._generation = self._keys.generation
        digest = hashlib.sha256(raw).digest()
        held = self._held.get(digest)
        if held is not None and time.time() < held.until:
            self._held.move_to_end(digest)
        else:
            self._held.pop(digest, None)
            held = self._held[digest] = self._verify_anew(raw)
            if len(self._held) > CACHED_TOKENS:
                self._held.popitem(last=False)
        principal = held.principal
        access = self._directory.access(held.claims.client_id)
        if principal is None or access is not principal.access:
            principal = held.principal = _worth_today(held.claims, access)
        if self._directory.is_revoked(principal.token_id):
            raise TokenRefusedError("The token was revoked")
        return principal

    def _verify_anew(self, raw: bytes) -> _Held:
        now = time.time()
        try:
            header = jwt.get_unverified_header(raw)
        except jwt.InvalidTokenError:
            raise TokenRefusedError("The token is not a JWT") from None
        if str(header.get("typ")).lower() not in TOKEN_TYPES:
            raise TokenRefusedError("The token is not an access token")
        key = self._keys.verification_key(header.get("kid", ""))
        if key is None or key.retired_at <= now:
            raise UnknownKeyError("The token is signed with an unknown key")
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
            raise TokenRefusedError(_REASONS.get(type(error), "The token does not hold")) from None
        except msgspec.ValidationError:
            raise TokenRefusedError("A claim of the token has the wrong type") from None
        if claims.exp <= now:
            raise TokenRefusedError(_REASONS[jwt.ExpiredSignatureError])
        if claims.sub != claims.client_id:
            raise TokenRefusedError("The token is not a client's own")
        return _Held(claims, min(claims.exp, key.retired_at))


def _worth_today(claims: _Claims, access: ClientAccess | None) -> Principal:
    """Who a genuine token speaks for: with no more scopes than it claims, and no more than its client has now."""
    if access is None or access.tenant.tenant_id != claims.tenant_id:
        raise UnknownClientError(claims.iat)
    claimed = frozenset(claims.scope.split())
    return Principal(
        tenant_id=claims.tenant_id,
        client_id=claims.client_id,
        scopes=claimed if claimed <= access.scopes else claimed & access.scopes,
        token_id=claims.jti,
        issued_at=claims.iat,
        expires_at=claims.exp,
        claimed=claimed,
        access=access,
    )


_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "The token has expired",
    jwt.ImmatureSignatureError: "The token is not valid yet",
    jwt.InvalidAlgorithmError: "The token is signed with an algorithm that is not accepted",
    jwt.InvalidSignatureError: "The signature of the token is wrong",
    jwt.InvalidIssuerError: "The token is from another issuer",
    jwt.InvalidAudienceError: "The token is for another audience",
    jwt.MissingRequiredClaimError: "The token lacks a claim",
}


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
