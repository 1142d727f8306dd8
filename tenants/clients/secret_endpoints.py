"""`/api/v1/clients/{client_id}/secrets`: a tenant rotates its clients' secrets. HTTP only; `rotation` does it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from app.errors import ConflictError, NotFoundError
from app.state import Database, SettingsOf
from auth.credentials import key_bytes
from auth.scopes import TENANT_ADMIN
from tenants.answers import BODY_ERRORS, json_response, problems
from tenants.bodies import body_of, documented
from tenants.clients import rotation
from tenants.clients.answers import (
    CLIENT_ID,
    SECRET_ID,
    NewSecretBody,
    SecretAnswer,
    SecretChangeBody,
    SecretMadeAnswer,
)
from tenants.clients.endpoints import ClientManager
from tenants.session import tenant_session

router = APIRouter(prefix="/api/v1/clients/{client_id}/secrets", tags=["Manage"])

_ALL = f"/api/v1/clients/{CLIENT_ID}/secrets"
_ONE = f"{_ALL}/{SECRET_ID}"
_NO_CLIENT = NotFoundError("There is no such client.")
_NO_SECRET = NotFoundError("There is no such secret.")
_ENDED = ConflictError("The secret has ended, which can't be undone: add another one.")
_ONLY = ConflictError("It is the client's only valid secret: add another one first, or revoke the client.")
_TWO = ConflictError(
    f"Two secrets are valid at once: remove {SECRET_ID} or … first, or end both with old_expires_in 0."
)


@router.post(
    "",
    status_code=201,
    summary="Rotate: a further secret",
    response_model=SecretMadeAnswer,
    responses=problems(_ALL, TENANT_ADMIN, *BODY_ERRORS, _NO_CLIENT, _TWO),
    openapi_extra=documented(NewSecretBody, an_hour={"old_expires_in": 3600}),
)
async def add_secret(
    manager: ClientManager,
    client_id: str,
    body: Annotated[NewSecretBody, body_of(NewSecretBody)],
    database: Database,
    settings: SettingsOf,
) -> Response:
    """The new secret is shown once. The old one stays valid for `old_expires_in` seconds, by default a day; two can be
    valid at once. Tokens that were issued before stay valid until they expire.
    """
    key = key_bytes(settings.secret_hash_key)
    async with tenant_session(database, manager.tenant_id) as connection:
        secret, shown = await rotation.rotate(connection, key, manager, client_id, body.old_expires_in)
    return json_response(SecretMadeAnswer.made(secret, shown), 201)


@router.patch(
    "/{secret_id}",
    summary="Move the end of a secret",
    response_model=SecretAnswer,
    responses=problems(_ONE, TENANT_ADMIN, *BODY_ERRORS, _NO_SECRET, _ENDED),
    openapi_extra=documented(
        SecretChangeBody, later={"expires_at": "2030-01-02T00:00:00Z"}, never={"expires_at": None}
    ),
)
async def change_secret(
    manager: ClientManager,
    client_id: str,
    secret_id: str,
    body: Annotated[SecretChangeBody, body_of(SecretChangeBody)],
    database: Database,
) -> Response:
    """A secret that has ended stays ended."""
    async with tenant_session(database, manager.tenant_id) as connection:
        secret = await rotation.move_end(connection, manager, client_id, secret_id, body.expires_at)
    return json_response(SecretAnswer.of(secret))


@router.delete(
    "/{secret_id}",
    status_code=204,
    summary="Remove a secret",
    responses=problems(_ONE, TENANT_ADMIN, _NO_SECRET, _ONLY),
)
async def remove_secret(manager: ClientManager, client_id: str, secret_id: str, database: Database) -> Response:
    """It is refused from now on. The last valid one of a client that is not revoked can't be removed."""
    async with tenant_session(database, manager.tenant_id) as connection:
        await rotation.remove(connection, manager, client_id, secret_id)
    return Response(status_code=204)
