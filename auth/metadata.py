"""What the authorization server tells about itself: RFC 8414 metadata. States only what is really offered."""

from __future__ import annotations

from typing import Any

from auth.scopes import SCOPES
from auth.server import AUTH_METHODS, GRANT_TYPES, TOKEN_PATH

METADATA_PATH = "/.well-known/oauth-authorization-server"
JWKS_PATH = "/.well-known/jwks.json"


def metadata(issuer: str) -> dict[str, Any]:
    """The document of RFC 8414 section 2 for this issuer.

    `response_types_supported` is required there and empty here: there is no authorization endpoint.
    """
    base = issuer.rstrip("/")
    return {
        "issuer": issuer,
        "token_endpoint": base + TOKEN_PATH,
        "jwks_uri": base + JWKS_PATH,
        "scopes_supported": list(SCOPES),
        "response_types_supported": [],
        "grant_types_supported": list(GRANT_TYPES),
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "service_documentation": base + "/docs",
    }
