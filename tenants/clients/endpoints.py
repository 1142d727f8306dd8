"""`/api/v1/clients`: a tenant manages its own clients; and what the platform does for a tenant that locked itself out.

HTTP only: `tenants.clients.changes` does it. No answer holds a secret but the one that made it.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from app.errors import ConflictError, ForbiddenError, NotFoundError
from app.parameters import Reading, openapi_parameters, pairs_of_query
from app.state import Database, State, state_of
from auth.credentials import key_bytes
from auth.dependencies import PlatformAdmin, TenantAdmin
from auth.scopes import EVENTS_WRITE, PLATFORM_ADMIN, TENANT_ADMIN
from tenants.actors import actor_of
from tenants.answers import BODY_ERRORS, QUERY_ERRORS, json_response, problems
from tenants.bodies import body_of, documented
from tenants.clients import changes
from tenants.clients.answers import (
    CLIENT_ID,
    KEYS,
    ClientAnswer,
    ClientChangeBody,
    ClientMadeAnswer,
    ClientsAnswer,
    NewClientBody,
)
from tenants.clients.changes import Manager
from tenants.clients.rules import Bounds
from tenants.clients.view import POSSIBLE_IDS, find, page_of_clients
from tenants.pages import PAGE_PARAMETERS, PageAsked, read_page
from tenants.platform import PLATFORM_TENANT_ID
from tenants.session import tenant_session, unsafe_session_of_all_tenants

router = APIRouter(prefix="/api/v1/clients", tags=["Manage"])
platform_router = APIRouter(prefix="/api/v1/admin/tenants/{tenant_id}/clients", tags=["Platform"])

_CLIENT = f"/api/v1/clients/{CLIENT_ID}"
_FULL = ConflictError(f"The tenant has {changes.MOST_CLIENTS} clients, which is the most: revoke one first.")
_LAST = ConflictError(f"No other client has {TENANT_ADMIN}: give it to another one first.")
_UNKNOWN = NotFoundError("There is no such client.")
_DELETING = ConflictError("The tenant is being deleted.")
_NARROW = {"name": "checkout", "scopes": [EVENTS_WRITE], "networks": ["192.0.2.0/24"]}


async def _manager(request: Request, admin: TenantAdmin) -> Manager:
    if admin.tenant_id == PLATFORM_TENANT_ID:
        # They may hold more than whoever asks here; see `rules.Bounds.scopes`.
        raise ForbiddenError("The platform's own clients are managed by command only.")
    return Manager(Bounds(admin.tenant_id, admin.access.tenant.limits), actor_of(request, admin))


async def _page(request: Request, admin: TenantAdmin) -> PageAsked:
    reading = Reading(pairs_of_query(request.scope["query_string"]), PAGE_PARAMETERS)
    page = read_page(reading, POSSIBLE_IDS, "clients", str(admin.tenant_id))
    reading.finish()
    return page


ClientManager = Annotated[Manager, Depends(_manager)]
Gateway = Annotated[State, Depends(state_of)]


@router.get(
    "",
    summary="The tenant's clients",
    response_model=ClientsAnswer,
    responses=problems("/api/v1/clients", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(PAGE_PARAMETERS),
)
async def list_clients(
    manager: ClientManager, page: Annotated[PageAsked, Depends(_page)], database: Database
) -> Response:
    """The oldest first, revoked ones too. Secrets themselves are never shown."""
    async with tenant_session(database, manager.tenant_id, snapshot=True) as connection:
        found, last = await page_of_clients(connection, manager.tenant_id, page)
    answered = [ClientAnswer.of(client) for client in found]
    return json_response(ClientsAnswer(clients=answered, next_cursor=page.next_cursor(last)))


@router.post(
    "",
    status_code=201,
    summary="Make a client",
    response_model=ClientMadeAnswer,
    responses=problems("/api/v1/clients", TENANT_ADMIN, *BODY_ERRORS, _FULL),
    openapi_extra=documented(NewClientBody, narrow=_NARROW, keys={"name": "billing", "jwks": KEYS}),
)
async def make_client(
    manager: ClientManager, body: Annotated[NewClientBody, body_of(NewClientBody)], gateway: Gateway
) -> Response:
    """With a secret, which is shown once, or with public keys of its own. Without `scopes` it may do all that a client
    of the tenant can. A tenant has at most 100 active clients.
    """
    key = key_bytes(gateway.settings.secret_hash_key)
    async with tenant_session(gateway.engine, manager.tenant_id) as connection:
        client_id, secret = await changes.create(connection, key, manager, body.model_dump(exclude_unset=True))
    await gateway.directory.catch_up()
    async with tenant_session(gateway.engine, manager.tenant_id, snapshot=True) as connection:
        client = await find(connection, manager.tenant_id, client_id)
    location = {"Location": f"/api/v1/clients/{client_id}"}
    return json_response(ClientMadeAnswer.made(client, secret), 201, location)


@router.get(
    "/{client_id}",
    summary="One client",
    response_model=ClientAnswer,
    responses=problems(_CLIENT, TENANT_ADMIN, _UNKNOWN),
)
async def show_client(manager: ClientManager, client_id: str, database: Database) -> Response:
    """`last_used_at` of each secret shows when an old one is no longer needed."""
    async with tenant_session(database, manager.tenant_id, snapshot=True) as connection:
        return json_response(ClientAnswer.of(await find(connection, manager.tenant_id, client_id)))


@router.patch(
    "/{client_id}",
    summary="Change a client",
    response_model=ClientAnswer,
    responses=problems(_CLIENT, TENANT_ADMIN, *BODY_ERRORS, _UNKNOWN, _LAST),
    openapi_extra=documented(ClientChangeBody, narrow=_NARROW),
)
async def change_client(
    manager: ClientManager,
    client_id: str,
    body: Annotated[ClientChangeBody, body_of(ClientChangeBody)],
    gateway: Gateway,
) -> Response:
    """Takes effect everywhere within a second, for tokens too that were issued before."""
    async with tenant_session(gateway.engine, manager.tenant_id) as connection:
        await changes.change(connection, manager, client_id, body.model_dump(exclude_unset=True))
    await gateway.directory.catch_up()
    async with tenant_session(gateway.engine, manager.tenant_id, snapshot=True) as connection:
        client = await find(connection, manager.tenant_id, client_id)
    return json_response(ClientAnswer.of(client))


@router.delete(
    "/{client_id}",
    status_code=204,
    summary="Revoke a client",
    responses=problems(_CLIENT, TENANT_ADMIN, _UNKNOWN, _LAST),
)
async def revoke_client(manager: ClientManager, client_id: str, gateway: Gateway) -> Response:
    """Its secrets and tokens are refused everywhere within a second. It can't be undone; again it changes nothing. A
    client may revoke itself, but not the last one with `tenant:admin`.
    """
    async with tenant_session(gateway.engine, manager.tenant_id) as connection:
        await changes.revoke(connection, manager, client_id)
    await gateway.directory.catch_up()
    return Response(status_code=204)


@platform_router.post(
    "",
    status_code=201,
    summary="Make a client for a tenant",
    response_model=ClientMadeAnswer,
    responses=problems("/api/v1/admin/tenants/…/clients", PLATFORM_ADMIN, *BODY_ERRORS, _UNKNOWN, _FULL),
    openapi_extra=documented(NewClientBody, all_scopes={"name": "recovery"}),
)
async def make_client_for_tenant(
    request: Request,
    admin: PlatformAdmin,
    tenant_id: UUID,
    body: Annotated[NewClientBody, body_of(NewClientBody)],
    gateway: Gateway,
) -> Response:
    """For a tenant that has lost its own: as `POST /api/v1/clients`. Not for the platform's own tenant, whose clients
    are made by command.
    """
    key = key_bytes(gateway.settings.secret_hash_key)
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        manager = await changes.manager_for_platform(connection, _ordinary(tenant_id), actor_of(request, admin))
        client_id, secret = await changes.create(connection, key, manager, body.model_dump(exclude_unset=True))
    await gateway.directory.catch_up()
    async with unsafe_session_of_all_tenants(gateway.auth_engine, snapshot=True) as connection:
        client = await find(connection, tenant_id, client_id)
    return json_response(ClientMadeAnswer.made(client, secret), 201)


@platform_router.delete(
    "/{client_id}",
    status_code=204,
    summary="Revoke a tenant's client",
    responses=problems(f"/api/v1/admin/tenants/…/clients/{CLIENT_ID}", PLATFORM_ADMIN, _UNKNOWN, _DELETING),
)
async def revoke_client_of_tenant(
    request: Request, admin: PlatformAdmin, tenant_id: UUID, client_id: str, gateway: Gateway
) -> Response:
    """As `DELETE /api/v1/clients/{client_id}`, and also the tenant's last one."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        manager = await changes.manager_for_platform(connection, _ordinary(tenant_id), actor_of(request, admin))
        await changes.revoke(connection, manager, client_id)
    await gateway.directory.catch_up()
    return Response(status_code=204)


def _ordinary(tenant_id: UUID) -> UUID:
    if tenant_id == PLATFORM_TENANT_ID:
        raise ForbiddenError("The platform's own clients are managed by command only.")
    return tenant_id
