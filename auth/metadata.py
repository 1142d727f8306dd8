"""What the authorization server offers, and how it says so: RFC 8414 metadata. States only what is really offered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from auth.jwks import ALGORITHMS
from auth.scopes import SCOPES

Endpoint = Literal["token", "revocation", "introspection"]
TOKEN_PATH = "/oauth/token"  # noqa: S105  a path
REVOCATION_PATH = "/oauth/revoke"
INTROSPECTION_PATH = "/oauth/introspect"
PATHS: Mapping[Endpoint, str] = {
    "token": TOKEN_PATH,
    "revocation": REVOCATION_PATH,
    "introspection": INTROSPECTION_PATH,
}
METADATA_PATH = "/.well-known/oauth-authorization-server"
JWKS_PATH = "/.well-known/jwks.json"

GRANT_TYPES = ("client_credentials",)
KEY_METHOD = "private_key_jwt"
AUTH_METHODS = ("client_secret_basic", "client_secret_post", KEY_METHOD)
"""At each of the endpoints."""


def metadata(issuer: str) -> dict[str, Any]:
    """The document of RFC 8414 section 2 for this issuer.

    `response_types_supported` is required there and empty here: there is no authorization endpoint.
    """
    base = issuer.rstrip("/")
    told: dict[str, Any] = {
        "issuer": issuer,
        "jwks_uri": base + JWKS_PATH,
        "scopes_supported": list(SCOPES),
        "response_types_supported": [],
        "grant_types_supported": list(GRANT_TYPES),
        "service_documentation": base + "/docs",
    }
    for endpoint in PATHS:
        told[f"{endpoint}_endpoint"] = endpoint_url(issuer, endpoint)
        told[f"{endpoint}_endpoint_auth_methods_supported"] = list(AUTH_METHODS)
        told[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = list(ALGORITHMS)
    return told


def endpoint_url(issuer: str, endpoint: Endpoint) -> str:
    """Where clients find the endpoint."""
    return issuer.rstrip("/") + PATHS[endpoint]


def audiences(issuer: str, *, token_url: bool) -> frozenset[str]:
    """Whom a client assertion may be for: the issuer, and by option the token endpoint's URL.

    The issuer alone is what draft-ietf-oauth-rfc7523bis asks for, because an assertion for an endpoint's URL can be
    had by a server that lies about where its endpoints are. RFC 7523 section 3 suggests the URL, and many clients
    use it; so it can be allowed, at all three endpoints.
    """
    return frozenset({issuer, endpoint_url(issuer, "token")} if token_url else {issuer})
