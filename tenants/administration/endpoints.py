"""`/api/v1/admin/tenants`: the platform makes, shows, changes, suspends and deletes tenants. HTTP only;
`tenants.lifecycle`, `tenants.records` and `tenants.deletion` do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from app.errors import ConflictError
from app.parameters import Parameter, Reading, openapi_parameters, pairs_of_query
from app.state import State, state_of
from auth.credentials import key_bytes
from auth.dependencies import PlatformAdmin
from auth.scopes import PLATFORM_ADMIN
from tenants import deletion, lifecycle, records
from tenants.actors import actor_of
from tenants.administration.answers import (
    TENANT_ID,
    DeletionAnswer,
    NewTenantBody,
    PlanChangeBody,
    TenantAnswer,
    TenantDetailAnswer,
    TenantMadeAnswer,
    TenantsAnswer,
)
from tenants.answers import BODY_ERRORS, QUERY_ERRORS, json_response, problems
from tenants.bodies import body_of, documented
from tenants.lifecycle import NewTenant
from tenants.pages import PAGE_PARAMETERS, UUIDS, PageAsked, read_page
from tenants.session import unsafe_session_of_all_tenants

router = APIRouter(prefix="/api/v1/admin/tenants", tags=["Platform"])

Gateway = Annotated[State, Depends(state_of)]
_PATH = f"/api/v1/admin/tenants/{TENANT_ID}"
_UNKNOWN = records.no_such_tenant(TENANT_ID)
_DELETING = ConflictError("The tenant is being deleted.")
STATUS = Parameter(
    "status",
    "Only tenants with this status. Left out: all that are not deleted.",
    {"type": "string", "enum": list(records.STATUSES)},
    records.ACTIVE,
)


@dataclass(frozen=True)
class ListQuestion:
    statuses: tuple[str, ...]
    page: PageAsked


async def _asked(request: Request, _admin: PlatformAdmin) -> ListQuestion:
    reading = Reading(pairs_of_query(request.scope["query_string"]), (STATUS, *PAGE_PARAMETERS))
    status = reading.choice(STATUS.name, records.STATUSES, default="")
    page = read_page(reading, UUIDS, "tenants", status)
    reading.finish()
    return ListQuestion((status,) if status else records.NOT_DELETED, page)


@router.post(
    "",
    status_code=201,
    summary="Make a tenant",
    response_model=TenantMadeAnswer,
    responses=problems("/api/v1/admin/tenants", PLATFORM_ADMIN, *BODY_ERRORS),
    openapi_extra=documented(
        NewTenantBody, plain={"name": "acme"}, own_rate={"name": "acme", "plan": "free", "events_per_second": 50}
    ),
)
async def make_tenant(
    request: Request, admin: PlatformAdmin, body: Annotated[NewTenantBody, body_of(NewTenantBody)], gateway: Gateway
) -> Response:
    """With a first client that may do all that a tenant's client can. Its secret is shown only in this answer."""
    asked = NewTenant(body.name, body.plan, body.events_per_second, body.burst)
    key = key_bytes(gateway.settings.secret_hash_key)
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        made = await lifecycle.add_tenant(connection, key, asked, actor_of(request, admin))
        tenant = await records.find_tenant(connection, made.tenant_id)
        clients = await records.clients_of(connection, made.tenant_id)
    await gateway.directory.catch_up()
    shown = TenantDetailAnswer.shown(tenant, clients, 0).model_dump()
    answer = TenantMadeAnswer(**shown, client_id=made.client_id, client_secret=made.client_secret)
    return json_response(answer, 201, {"Location": f"/api/v1/admin/tenants/{made.tenant_id}"})


@router.get(
    "",
    summary="Tenants",
    response_model=TenantsAnswer,
    responses=problems("/api/v1/admin/tenants", PLATFORM_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters((STATUS, *PAGE_PARAMETERS)),
)
async def list_tenants(asked: Annotated[ListQuestion, Depends(_asked)], gateway: Gateway) -> Response:
    """The oldest first, the platform's own left out."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        found = await records.page_of_tenants(connection, asked.statuses, asked.page)
    listed = [TenantAnswer.of(tenant) for tenant in found.tenants]
    return json_response(TenantsAnswer(tenants=listed, next_cursor=asked.page.next_cursor(found.last)))


@router.get(
    "/{tenant_id}",
    summary="One tenant",
    response_model=TenantDetailAnswer,
    responses=problems(_PATH, PLATFORM_ADMIN, _UNKNOWN),
)
async def show_tenant(_admin: PlatformAdmin, tenant_id: UUID, gateway: Gateway) -> Response:
    """Its limits and what it overrides of its plan's, what it has stored this month, and its clients. Of a deleted
    one only the id, the date and the status are left.
    """
    return await _shown(gateway, tenant_id)


@router.put(
    "/{tenant_id}/plan",
    summary="Put a tenant on a plan",
    response_model=TenantDetailAnswer,
    responses=problems(f"{_PATH}/plan", PLATFORM_ADMIN, *BODY_ERRORS, _UNKNOWN, _DELETING),
    openapi_extra=documented(
        PlanChangeBody, plan={"plan": "enterprise"}, own_burst={"plan": "standard", "burst": 50000}
    ),
)
async def change_plan(
    request: Request,
    admin: PlatformAdmin,
    tenant_id: UUID,
    body: Annotated[PlanChangeBody, body_of(PlanChangeBody)],
    gateway: Gateway,
) -> Response:
    """Holds everywhere within a second. The tenant's own rate and burst are then exactly those given here."""
    actor = actor_of(request, admin)
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        await lifecycle.change_plan(connection, tenant_id, body.plan, body.events_per_second, body.burst, actor)
    return await _shown(gateway, tenant_id)


@router.post(
    "/{tenant_id}/suspend",
    summary="Suspend a tenant",
    response_model=TenantDetailAnswer,
    responses=problems(f"{_PATH}/suspend", PLATFORM_ADMIN, _UNKNOWN, _DELETING),
)
async def suspend_tenant(request: Request, admin: PlatformAdmin, tenant_id: UUID, gateway: Gateway) -> Response:
    """Everything it asks is refused everywhere within a second; what it has sent before is still stored. Suspending
    it again changes nothing.
    """
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        await lifecycle.suspend(connection, tenant_id, actor_of(request, admin))
    return await _shown(gateway, tenant_id)


@router.post(
    "/{tenant_id}/resume",
    summary="Resume a suspended tenant",
    response_model=TenantDetailAnswer,
    responses=problems(f"{_PATH}/resume", PLATFORM_ADMIN, _UNKNOWN, _DELETING),
)
async def resume_tenant(request: Request, admin: PlatformAdmin, tenant_id: UUID, gateway: Gateway) -> Response:
    """Resuming one that is active changes nothing."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        await lifecycle.resume(connection, tenant_id, actor_of(request, admin))
    return await _shown(gateway, tenant_id)


@router.delete(
    "/{tenant_id}",
    status_code=202,
    summary="Delete a tenant with all its data",
    response_model=DeletionAnswer,
    responses=problems(_PATH, PLATFORM_ADMIN, _UNKNOWN, ConflictError("This is the platform's own tenant.")),
)
async def delete_tenant(request: Request, admin: PlatformAdmin, tenant_id: UUID, gateway: Gateway) -> Response:
    """It is refused everywhere within a second, and this can't be undone. The answer is a receipt: the `maintain`
    worker removes all that is stored, and the receipt says how far it is. Asking again answers the same receipt.
    """
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        receipt = await deletion.request_deletion(connection, tenant_id, actor_of(request, admin))
    await gateway.directory.catch_up()
    location = {"Location": f"/api/v1/admin/tenants/{tenant_id}/deletion"}
    return json_response(DeletionAnswer.of(receipt), 202, location)


@router.get(
    "/{tenant_id}/deletion",
    summary="How far a tenant's deletion is",
    response_model=DeletionAnswer,
    responses=problems(f"{_PATH}/deletion", PLATFORM_ADMIN, _UNKNOWN),
)
async def show_deletion(_admin: PlatformAdmin, tenant_id: UUID, gateway: Gateway) -> Response:
    """`finished_at` is set once all places were looked through and hold nothing of it any more."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        return json_response(DeletionAnswer.of(await deletion.read_deletion(connection, tenant_id)))


async def _shown(gateway: State, tenant_id: UUID) -> Response:
    """The tenant as it is now, and as this process knows it from here on."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine, snapshot=True) as connection:
        tenant = await records.find_tenant(connection, tenant_id)
        clients = await records.clients_of(connection, tenant_id)
        stored = await records.stored_this_month(connection, tenant_id)
    await gateway.directory.catch_up()
    return json_response(TenantDetailAnswer.shown(tenant, clients, stored))
