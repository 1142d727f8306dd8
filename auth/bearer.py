"""The `Authorization: Bearer …` header and what its refusal looks like (RFC 6750). Knows no token from another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import MalformedError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Iterable

BEARER = 'Bearer realm="sluice"'
"""The challenge of RFC 6750 section 3, without an error code: what is answered when no token was sent."""


class TokenRefusedError(UnauthorizedError):
    """401 for a token that does not hold. `description` without quotes or backslashes (RFC 6750 section 3)."""

    def __init__(self, description: str) -> None:
        super().__init__(f"{description}.", headers=_challenge("invalid_token", description))
        self.args = (self.detail,)  # not a subclass's arguments


def authorization_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The `Authorization` header among those of an ASGI scope, or None.

    Raises:
        MalformedError: there is more than one (RFC 6750 section 3.1, `invalid_request`).
    """
    sent = [value for name, value in headers if name == b"authorization"]
    if len(sent) > 1:
        raise _malformed("More than one Authorization header")
    return sent[0] if sent else None


def bearer_token(authorization: str | bytes | None) -> bytes:
    """The token in an `Authorization: Bearer …` header (RFC 6750 section 2.1, the only place it is looked for).

    Raises:
        UnauthorizedError: there is none; the challenge then has no error code (section 3.1).
        MalformedError: the scheme is Bearer, but what follows can't be a token.
    """
    value = authorization.encode("latin-1", "replace") if isinstance(authorization, str) else authorization or b""
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise UnauthorizedError("Send an access token: Authorization: Bearer …", headers={"WWW-Authenticate": BEARER})
    token = token.strip(b" ")
    if not token or b" " in token:
        raise _malformed("After Bearer comes one token and nothing else")
    return token


def _malformed(description: str) -> MalformedError:
    return MalformedError(f"{description}.", headers=_challenge("invalid_request", description))


def _challenge(code: str, description: str) -> dict[str, str]:
    return {"WWW-Authenticate": f'{BEARER}, error="{code}", error_description="{description}"'}
