"""How the OAuth endpoints are described in the OpenAPI document: forms, answers, errors, examples. Decides nothing."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from fastapi.security import HTTPBasic
from pydantic import BaseModel, Field

from auth.assertions import ASSERTION_TYPE
from auth.forms import FORM
from auth.metadata import GRANT_TYPES
from auth.scopes import EVENTS_READ, EVENTS_WRITE

EXAMPLE_ISSUER = "https://events.example.com"

_CLIENT_ID = "slc_9f86d081884c7d659a2feaa0c55ad015"
_SECRET = {"client_id": _CLIENT_ID, "client_secret": "sls_…"}
_ASSERTION = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": "eyJhbGciOiJFUzI1NiIsImtpZCI6ImtleS0xIn0…"}
_TOKEN = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjVm…"  # noqa: S105  an example


class TokenAnswer(BaseModel):
    """`expires_in` in seconds; `scope`: what was granted, separated by spaces."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str

    model_config = {
        "json_schema_extra": {
            "example": {
                "access_token": _TOKEN,
                "token_type": "Bearer",
                "expires_in": 600,
                "scope": f"{EVENTS_WRITE} {EVENTS_READ}",
            }
        }
    }


class RevocationAnswer(BaseModel):
    """Always empty (RFC 7009 section 2.2)."""

    model_config = {"json_schema_extra": {"example": {}}}


class IntrospectionAnswer(BaseModel):
    """RFC 7662 section 2.2. Of a token that does not hold, `active` is all there is. Moments in seconds since 1970."""

    active: bool
    scope: str | None = Field(None, description="What the token's client may still do, separated by spaces.")
    client_id: str | None = None
    tenant_id: str | None = None
    token_type: Literal["Bearer"] | None = None
    sub: str | None = None
    aud: str | None = None
    iss: str | None = None
    exp: int | None = None
    iat: int | None = None
    jti: str | None = None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "active": True,
                    "scope": f"{EVENTS_WRITE} {EVENTS_READ}",
                    "client_id": _CLIENT_ID,
                    "tenant_id": "0198c1a2-6a0b-7cc4-9d5e-2f6b1c3d4e5f",
                    "token_type": "Bearer",
                    "sub": _CLIENT_ID,
                    "aud": EXAMPLE_ISSUER,
                    "iss": EXAMPLE_ISSUER,
                    "exp": 1777896600,
                    "iat": 1777896000,
                    "jti": "4Jm0Qy1oTzWkq0yqk2c8_A",
                },
                {"active": False},
            ]
        }
    }


class OAuthError(BaseModel):
    """RFC 6749 section 5.2."""

    error: str
    error_description: str

    model_config = {
        "json_schema_extra": {
            "example": {"error": "invalid_request", "error_description": "A parameter is given more than once."}
        }
    }


class DocumentedBasic(HTTPBasic):
    """Names HTTP Basic in the document. Reading it is `auth.authentication`'s, whose errors have OAuth's shape."""

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        del request


_AUTHENTICATION = {
    "client_id": {"type": "string", "description": "Unless sent by HTTP Basic or in an assertion."},
    "client_secret": {"type": "string", "format": "password", "description": "Unless sent by HTTP Basic."},
    "client_assertion_type": {"type": "string", "enum": [ASSERTION_TYPE]},
    "client_assertion": {"type": "string", "description": "A JWT signed with the client's key (RFC 7523)."},
}
_TOKEN_PARAMETERS = {
    "grant_type": {"type": "string", "enum": list(GRANT_TYPES), "default": GRANT_TYPES[0]},
    "scope": {
        "type": "string",
        "description": "What to be granted, separated by spaces. Left out: all that the client may do.",
    },
}
_OF_A_TOKEN = {
    "token": {"type": "string", "description": "An access token."},
    "token_type_hint": {"type": "string", "description": "Ignored: there are only access tokens."},
}


def _errors(description: str, **causes: str) -> dict[str, Any]:
    """An error answer with one example a cause."""
    examples = {
        error: {"value": {"error": error, "error_description": text}, "summary": error}
        for error, text in causes.items()
    }
    return {"model": OAuthError, "description": description, "content": {"application/json": {"examples": examples}}}


def _form(required: str, parameters: dict[str, Any], **examples: tuple[str, dict[str, str]]) -> dict[str, Any]:
    schema = {"type": "object", "required": [required], "properties": {**parameters, **_AUTHENTICATION}}
    shown = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    return {
        "requestBody": {"required": True, "content": {FORM: {"schema": schema, "examples": shown}}},
        # Beside Basic, which the signature declares: nothing in the header, secret or assertion in the form.
        "security": [{}],
    }


_INVALID = {
    "invalid_request": "A parameter is given more than once.",
    "unauthorized_client": "The tenant is suspended.",
}
_GRANT: dict[str, Any] = {"grant_type": GRANT_TYPES[0]}

# 429 is described where all limits are (`app.throttling`).
FAILURES: dict[int | str, dict[str, Any]] = {
    400: _errors("The request is wrong", **_INVALID),
    401: _errors(
        "The client could not be authenticated; `WWW-Authenticate: Basic` is set",
        invalid_client="Client authentication failed: no such client, a wrong secret or assertion, …",
    ),
    413: _errors("The form is larger than 16 KiB", invalid_request="The body is too large."),
    503: _errors(
        "The database does not answer; `Retry-After` is set", temporarily_unavailable="Try again in a moment."
    ),
}
TOKEN_FAILURES = FAILURES | {
    400: _errors(
        "The request is wrong",
        **_INVALID,
        unsupported_grant_type="Offered is: client_credentials.",
        invalid_scope="The requested scope is invalid, unknown, or malformed.",
    )
}
TOKEN_FORM = _form(
    "grant_type",
    _TOKEN_PARAMETERS,
    everything=("All scopes of the client", {**_GRANT, **_SECRET}),
    narrowed=("A token that can only send", {**_GRANT, **_SECRET, "scope": EVENTS_WRITE}),
    asserted=("Without a secret (private_key_jwt)", {**_GRANT, **_ASSERTION}),
)
OF_A_TOKEN_FORM = _form(
    "token",
    _OF_A_TOKEN,
    secret=("With a secret", {"token": _TOKEN, **_SECRET}),
    asserted=("Without a secret (private_key_jwt)", {"token": _TOKEN, **_ASSERTION}),
)
