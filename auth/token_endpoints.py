"""Revocation (RFC 7009) and introspection (RFC 7662) of access tokens: Authlib's endpoints over a token already judged.

Refuses to judge a token (`auth.tokens`, before Authlib is asked) and to write down what was revoked (`auth.uses`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Request, TokenMixin
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from auth.authentication import PresentedClient
from auth.metadata import AUTH_METHODS
from auth.principal import Principal
from auth.scopes import SCOPES
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from app.settings import GatewaySettings

__all__ = ["Introspection", "PresentedToken", "Revocation"]


class PresentedToken(TokenMixin):  # type: ignore[misc]  # Authlib publishes no types
    """A token that holds, as Authlib asks for it."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    def check_client(self, client: PresentedClient) -> bool:
        return self.principal.client_id == client.client_id

    def is_expired(self) -> bool:
        return self.principal.expires_at <= time.time()

    def is_revoked(self) -> bool:
        return False  # or it would not hold


class _Checks:
    CLIENT_AUTH_METHODS: ClassVar[tuple[str, ...]] = AUTH_METHODS

    def check_params(self, request: OAuth2Request, client: PresentedClient) -> None:
        """The hint is ignored, as RFC 7009 section 2.1 and RFC 7662 section 2.1 allow: there is one kind of token.

        So there is no `unsupported_token_type` either: whatever is no access token of ours is no token at all.
        """
        del client
        if "token" not in request.form:
            raise InvalidRequestError("token is missing.")


class Revocation(_Checks, RevocationEndpoint):  # type: ignore[misc]
    """Answers 200 whatever the token is (RFC 7009 section 2.2), and so also for a token of another client, which the
    RFC would have refused with an error: that would tell whether somebody else's token holds.
    """

    def __init__(self, token: Principal | None, revoke: Callable[[Principal], None]) -> None:
        super().__init__()
        self._token = token
        self._revoke = revoke

    def authenticate_token(self, request: OAuth2Request, client: PresentedClient) -> PresentedToken | None:
        self.check_params(request, client)
        token = None if self._token is None else PresentedToken(self._token)
        return token if token is not None and token.check_client(client) else None

    def revoke_token(self, token: PresentedToken, request: OAuth2Request) -> None:
        del request
        self._revoke(token.principal)


class Introspection(_Checks, IntrospectionEndpoint):  # type: ignore[misc]
    """Tells a client about its tenant's tokens, a client of the platform about all; of others that they don't hold."""

    def __init__(self, token: Principal | None, settings: GatewaySettings) -> None:
        super().__init__()
        self._token = token
        self._issuer = settings.issuer

    def query_token(self, token_string: str, token_type_hint: str | None) -> PresentedToken | None:
        del token_string, token_type_hint
        return None if self._token is None else PresentedToken(self._token)

    def check_permission(self, token: PresentedToken, client: PresentedClient, request: OAuth2Request) -> bool:
        del request
        asking = None if client.client is None else client.client.tenant_id
        return asking in (token.principal.tenant_id, PLATFORM_TENANT_ID)

    def introspect_token(self, token: PresentedToken) -> dict[str, Any]:
        """RFC 7662 section 2.2, with `tenant_id`. `scope` is what the client may still do, where that became less."""
        principal = token.principal
        return {
            "active": True,
            "scope": " ".join(scope for scope in SCOPES if scope in principal.scopes),
            "client_id": principal.client_id,
            "tenant_id": str(principal.tenant_id),
            "token_type": "Bearer",
            "sub": principal.client_id,
            "aud": self._issuer,
            "iss": self._issuer,
            "exp": principal.expires_at,
            "iat": principal.issued_at,
            "jti": principal.token_id,
        }
