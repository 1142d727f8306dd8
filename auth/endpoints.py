"""`/oauth/token`, `/oauth/revoke`, `/oauth/introspect` and the two documents that describe them. Owns HTTP only.

What a request is answered is `auth.server`'s to decide. Errors have the shape of RFC 6749 section 5.2, not problem
details: OAuth clients read `error`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import structlog
from authlib.oauth2 import OAuth2Error
from fastapi import APIRouter, Request, Security
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from app.addresses import client_address
from app.errors import MalformedError, UnauthorizedError, UnavailableError
from app.state import State, state_of
from auth.authentication import ClientRefusedError, presented_client_id
from auth.clients import find_client
from auth.forms import read_form
from auth.metadata import INTROSPECTION_PATH, JWKS_PATH, METADATA_PATH, REVOCATION_PATH, TOKEN_PATH, metadata
from auth.openapi import (
    EXAMPLE_ISSUER,
    FAILURES,
    OF_A_TOKEN_FORM,
    TOKEN_FAILURES,
    TOKEN_FORM,
    DocumentedBasic,
    IntrospectionAnswer,
    RevocationAnswer,
    TokenAnswer,
)
from auth.server import Answer, Asked, Decision, decide, error_answer
from auth.uses import note_use, revoke_token, spend_assertion

if TYPE_CHECKING:
    from auth.keys import KeyRing
    from auth.metadata import Endpoint
    from auth.principal import Principal

router = APIRouter(tags=["OAuth"])
log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Short, so that a verifier elsewhere has a new key before the first token is signed with it.
CACHEABLE = {"Cache-Control": "public, max-age=60"}

ANSWER_SECONDS = 10.0
"""How long PostgreSQL may take to load or write what an answer needs; a frozen one sends no error."""

Documented = Annotated[None, Security(DocumentedBasic(scheme_name="ClientSecretBasic"))]


@router.post(
    TOKEN_PATH,
    summary="Exchange client id and secret for an access token",
    response_model=TokenAnswer,
    openapi_extra=TOKEN_FORM,
    responses=TOKEN_FAILURES,
)
async def token(request: Request, _documented: Documented) -> JSONResponse:
    """OAuth 2.0 client credentials (RFC 6749 section 4.4).

    Authenticate by HTTP Basic (`client_secret_basic`), with `client_id` and `client_secret` in the form
    (`client_secret_post`), or with a JWT signed by the client's own key (`private_key_jwt`), not in two ways. The
    token is a signed JWT (RFC 9068) whose audience is this server's issuer URL; send it as `Authorization: Bearer …`
    until `expires_in` seconds have passed, then ask for a new one.
    """
    return await _answered(request, "token")


@router.post(
    REVOCATION_PATH,
    summary="Let an access token end now",
    response_model=RevocationAnswer,
    openapi_extra=OF_A_TOKEN_FORM,
    responses=FAILURES,
)
async def revoke(request: Request, _documented: Documented) -> JSONResponse:
    """Token revocation (RFC 7009), by the client that the token was issued to; it authenticates as for a token.

    The token is refused by this process at once and by every other within a second. Whatever else is sent as a
    token, also another client's, has no effect and is answered the same.
    """
    return await _answered(request, "revocation")


@router.post(
    INTROSPECTION_PATH,
    summary="Ask whether an access token holds, and for what",
    response_model=IntrospectionAnswer,
    response_model_exclude_unset=True,
    openapi_extra=OF_A_TOKEN_FORM,
    responses=FAILURES,
)
async def introspect(request: Request, _documented: Documented) -> JSONResponse:
    """Token introspection (RFC 7662), for tokens of the asking client's own tenant; it authenticates as for a token.

    `{"active": false}` is the answer for every other token, expired, revoked, of another tenant or none at all.
    `scope` is what the token is worth now, should its client have been narrowed since.
    """
    return await _answered(request, "introspection")


async def _answered(request: Request, endpoint: Endpoint) -> JSONResponse:
    """Load what the decision needs, decide, write what follows from it, and only then answer."""
    state = state_of(request)
    try:
        decision = decide(state.settings, await _loaded(state, request, endpoint))
        await _write(state, decision)
        answer = decision.answer
        if decision.proof is not None:
            state.throttle.authenticated(request.scope, decision.proof.client.client_id)
    except OAuth2Error as error:
        answer = error_answer(error)
    except (OSError, TimeoutError, SQLAlchemyError, UnavailableError) as error:
        log.warning("OAuth request not answered: PostgreSQL does not answer", endpoint=endpoint, error=repr(error))
        body = {"error": "temporarily_unavailable", "error_description": "Try again in a moment."}
        answer = Answer(503, body, {"Cache-Control": "no-store", "Retry-After": "2"})
    if answer.status == ClientRefusedError.status_code:
        state.throttle.authentication_failed(request.scope)
    return JSONResponse(answer.body, answer.status, headers=answer.headers)


async def _loaded(state: State, request: Request, endpoint: Endpoint) -> Asked:
    form = await read_form(request)
    client_id = presented_client_id(request.headers, form)
    state.throttle.admit_presented(request.scope, client_id)
    client = None
    if client_id is not None:
        async with asyncio.timeout(ANSWER_SECONDS), state.auth_engine.connect() as connection:
            state.throttle.check_failures(request.scope, client_id)
            client = await find_client(connection, client_id)
    return Asked(
        endpoint,
        request.headers,
        form,
        client_address(request.scope, state.settings.trusted_networks),
        client,
        token=None if endpoint == "token" else await _judged(state, form.get("token", "")),
        signing_key=(await _keys(state)).signing_key(time.time()) if endpoint == "token" else None,
    )


async def _keys(state: State) -> KeyRing:
    """The keys. A process that was frozen looks first, or it would use those that were retired meanwhile."""
    if state.directory.is_stale():
        await state.directory.catch_up()
    return state.keys


async def _judged(state: State, presented: str) -> Principal | None:
    """What the form's token is worth, by the same judgement as on every other route; None: it does not hold."""
    try:
        return await state.verifier.authenticate(b"Bearer " + presented.encode())
    except (UnauthorizedError, MalformedError):
        return None


async def _write(state: State, decision: Decision) -> None:
    """Raises ClientRefusedError if the assertion was used before, by a request to any process."""
    if decision.proof is None:
        return
    if decision.proof.assertion is not None or decision.revoked is not None:
        async with asyncio.timeout(ANSWER_SECONDS), state.auth_engine.begin() as connection:
            if not await spend_assertion(connection, decision.proof):
                raise ClientRefusedError
            if decision.revoked is not None:
                await revoke_token(connection, decision.revoked)
    if decision.revoked is not None:
        await state.directory.refresh()
    await note_use(state.auth_engine, decision.proof)


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
    return JSONResponse((await _keys(state_of(request))).jwks(time.time()), headers=CACHEABLE)
