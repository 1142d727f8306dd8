"""`/oauth/token` and the two documents that describe it. Owns HTTP only; `auth.server` decides.

Errors here have the shape of RFC 6749 section 5.2, not problem details: OAuth clients read `error`.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import structlog
from authlib.oauth2 import OAuth2Error
from fastapi import APIRouter, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.state import State, state_of
from auth.clients import Client, find_client
from auth.forms import FORM, read_form
from auth.metadata import JWKS_PATH, METADATA_PATH, metadata
from auth.scopes import EVENTS_READ, EVENTS_WRITE
from auth.server import TOKEN_PATH, Answer, decide, error_answer, presented_client_id

router = APIRouter(tags=["OAuth"])
log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Short, so that a verifier elsewhere has a new key before the first token is signed with it.
CACHEABLE = {"Cache-Control": "public, max-age=60"}

EXAMPLE_ISSUER = "https://events.example.com"


class TokenAnswer(BaseModel):
    """`expires_in` in seconds; `scope`: what was granted, separated by spaces."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str

    model_config = {
        "json_schema_extra": {
            "example": {
                "access_token": "eyJhbGciOiJFUzI1NiIsImtpZCI6IjVm…",
                "token_type": "Bearer",
                "expires_in": 600,
                "scope": f"{EVENTS_WRITE} {EVENTS_READ}",
            }
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


class _DocumentedBasic(HTTPBasic):
    """Names HTTP Basic in the OpenAPI document. Reading it is `auth.server`'s, whose errors have OAuth's shape."""

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        del request


_FORM_SCHEMA = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["client_credentials"], "default": "client_credentials"},
        "client_id": {"type": "string", "description": "Unless sent by HTTP Basic."},
        "client_secret": {"type": "string", "format": "password", "description": "Unless sent by HTTP Basic."},
        "scope": {
            "type": "string",
            "description": "What to be granted, separated by spaces. Left out: all that the client may do.",
        },
    },
}


def _errors(description: str, **causes: str) -> dict[str, Any]:
    """An error answer with one example a cause."""
    examples = {
        error: {"value": {"error": error, "error_description": text}, "summary": error}
        for error, text in causes.items()
    }
    return {"model": OAuthError, "description": description, "content": {"application/json": {"examples": examples}}}


@router.post(
    TOKEN_PATH,
    summary="Exchange client id and secret for an access token",
    response_model=TokenAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                FORM: {
                    "schema": _FORM_SCHEMA,
                    "examples": {
                        "everything": {
                            "summary": "All scopes of the client",
                            "value": {
                                "grant_type": "client_credentials",
                                "client_id": "slc_9f86d081884c7d659a2feaa0c55ad015",
                                "client_secret": "sls_…",
                            },
                        },
                        "narrowed": {
                            "summary": "A token that can only send",
                            "value": {
                                "grant_type": "client_credentials",
                                "client_id": "slc_9f86d081884c7d659a2feaa0c55ad015",
                                "client_secret": "sls_…",
                                "scope": EVENTS_WRITE,
                            },
                        },
                    },
                }
            },
        },
        # Beside Basic, which the signature declares: nothing in the header and the secret in the form.
        "security": [{}],
    },
    responses={
        400: _errors(
            "The request is wrong",
            invalid_request="A parameter is given more than once.",
            unsupported_grant_type="Offered is: client_credentials.",
            invalid_scope="The requested scope is invalid, unknown, or malformed.",
            unauthorized_client="The tenant is suspended.",
        ),
        401: _errors(
            "The client could not be authenticated; `WWW-Authenticate: Basic` is set",
            invalid_client="Client authentication failed: no such client, a wrong secret, …",
        ),
        413: _errors("The form is larger than 16 KiB", invalid_request="The body is too large."),
        503: _errors(
            "The database does not answer; `Retry-After` is set", temporarily_unavailable="Try again in a moment."
        ),
    },
)
async def token(
    request: Request, _documented: Annotated[None, Security(_DocumentedBasic(scheme_name="ClientSecretBasic"))]
) -> JSONResponse:
    """OAuth 2.0 client credentials (RFC 6749 section 4.4).

    Authenticate by HTTP Basic (`client_secret_basic`) or with `client_id` and `client_secret` in the form
    (`client_secret_post`), not both. The token is a signed JWT (RFC 9068) whose audience is this server's issuer URL;
    send it as `Authorization: Bearer …` until `expires_in` seconds have passed, then ask for a new one.
    """
    answer = await _answer(state_of(request), request)
    return JSONResponse(answer.body, answer.status, headers=answer.headers)


async def _answer(state: State, request: Request) -> Answer:
    try:
        form = await read_form(request)
        client_id = presented_client_id(request.headers, form)
        client = await _load(state, client_id)
    except OAuth2Error as error:
        return error_answer(error)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        log.warning("no token issued: PostgreSQL does not answer", error=repr(error))
        body = {"error": "temporarily_unavailable", "error_description": "Try again in a moment."}
        return Answer(503, body, {"Cache-Control": "no-store", "Retry-After": "2"})
    return decide(state.settings, state.keys.signing_key(time.time()), request.headers, form, client)


async def _load(state: State, client_id: str | None) -> Client | None:
    if client_id is None:
        return None
    async with state.auth_engine.connect() as connection:
        return await find_client(connection, client_id)


@router.get(
    METADATA_PATH,
    summary="What this authorization server offers",
    responses={200: {"content": {"application/json": {"example": metadata(EXAMPLE_ISSUER)}}}},
)
async def server_metadata(request: Request) -> JSONResponse:
    """Authorization server metadata (RFC 8414)."""
    return JSONResponse(metadata(state_of(request).settings.issuer), headers=CACHEABLE)


@router.get(
    JWKS_PATH,
    summary="The public keys that access tokens are verified with",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": {
                        "keys": [
                            {
                                "kty": "EC",
                                "crv": "P-256",
                                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                                "kid": "5f2b7c0a9d3e4f61",
                                "use": "sig",
                                "alg": "ES256",
                            }
                        ]
                    }
                }
            }
        }
    },
)
async def jwks(request: Request) -> JSONResponse:
    """A JWK Set (RFC 7517), with keys that will sign soon. Read it again when a token names an unknown `kid`."""
    return JSONResponse(state_of(request).keys.jwks(time.time()), headers=CACHEABLE)
