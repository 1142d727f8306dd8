"""`/api/v1/admin/audit` and a tenant's usage, as the platform sees them. HTTP only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict

from app.parameters import Parameter, Reading, openapi_parameters, pairs_of_query
from app.state import State, state_of
from auth.dependencies import PlatformAdmin
from auth.scopes import PLATFORM_ADMIN
from tenants import audit
from tenants.administration.answers import TENANT_ID as EXAMPLE_ID
from tenants.answers import QUERY_ERRORS, Moment, json_response, problems
from tenants.audit import ActorKind
from tenants.audit_endpoints import FILTER_PARAMETERS, AuditQuestion, read_question
from tenants.pages import PAGE_PARAMETERS
from tenants.records import find_tenant, no_such_tenant
from tenants.session import unsafe_session_of_all_tenants
from tenants.usage.answers import USAGE_PARAMETERS, UsageAnswer, read_window
from tenants.usage.reading import UsageWindow, read_usage

router = APIRouter(prefix="/api/v1/admin", tags=["Platform"])

Gateway = Annotated[State, Depends(state_of)]
TENANT_ID = Parameter(
    "tenant_id",
    "Only entries about this tenant. What is the whole platform's is in the log of "
    "`00000000-0000-0000-0000-000000000000`.",
    {"type": "string", "format": "uuid"},
    EXAMPLE_ID,
)
_AUDIT_PARAMETERS = (TENANT_ID, *FILTER_PARAMETERS, *PAGE_PARAMETERS)


class PlatformActorAnswer(BaseModel):
    """`name`: a client's id, the account that ran a command, or a worker's name. The last two are null without HTTP."""

    kind: ActorKind
    name: str
    address: str | None
    request_id: str | None


class PlatformEntryAnswer(BaseModel):
    tenant_id: UUID
    audit_id: UUID
    at: Moment
    action: str
    subject: str
    detail: dict[str, Any]
    actor: PlatformActorAnswer


class PlatformAuditAnswer(BaseModel):
    """`next_cursor` asks for the following page with the same parameters; null on the last one."""

    entries: list[PlatformEntryAnswer]
    next_cursor: str | None

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "entries": [
                    {
                        "tenant_id": EXAMPLE_ID,
                        "audit_id": "6f1c1d2e-55aa-4b43-9a1e-0d3c5c1f7a10",
                        "at": "2026-01-02T03:04:05.678Z",
                        "action": "tenant.suspended",
                        "subject": EXAMPLE_ID,
                        "detail": {},
                        "actor": {"kind": "operator", "name": "ops", "address": None, "request_id": None},
                    }
                ],
                "next_cursor": None,
            }
        }
    )


@dataclass(frozen=True)
class PlatformQuestion:
    tenant_id: UUID | None
    question: AuditQuestion


async def _asked(request: Request, _admin: PlatformAdmin) -> PlatformQuestion:
    reading = Reading(pairs_of_query(request.scope["query_string"]), _AUDIT_PARAMETERS)
    said = reading.text(TENANT_ID.name)
    tenant_id = None
    if said is not None:
        try:
            tenant_id = UUID(said)
        except ValueError:
            reading.refuse(TENANT_ID.name, f"must be a UUID such as {EXAMPLE_ID}")
    return PlatformQuestion(tenant_id, read_question(reading, f"platform {tenant_id}"))


async def _window(request: Request, _admin: PlatformAdmin) -> UsageWindow:
    reading = Reading(pairs_of_query(request.scope["query_string"]), USAGE_PARAMETERS)
    return read_window(reading, datetime.now(UTC))


@router.get(
    "/audit",
    summary="Who did what to any tenant",
    response_model=PlatformAuditAnswer,
    responses=problems("/api/v1/admin/audit", PLATFORM_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(_AUDIT_PARAMETERS),
)
async def audit_of_all(asked: Annotated[PlatformQuestion, Depends(_asked)], gateway: Gateway) -> Response:
    """Newest first, with the whole of who acted and from where. Nobody can change or remove an entry."""
    question = asked.question
    async with unsafe_session_of_all_tenants(gateway.auth_engine, snapshot=True) as connection:
        entries, last = await audit.read(connection, asked.tenant_id, question.filters, question.page)
    listed = [
        PlatformEntryAnswer(
            tenant_id=entry.tenant_id,
            audit_id=entry.audit_id,
            at=entry.at,
            action=entry.action.name,
            subject=entry.action.subject,
            detail=dict(entry.action.detail),
            actor=PlatformActorAnswer(
                kind=entry.actor.kind,
                name=entry.actor.name,
                address=None if entry.actor.address is None else str(entry.actor.address),
                request_id=entry.actor.request_id,
            ),
        )
        for entry in entries
    ]
    return json_response(PlatformAuditAnswer(entries=listed, next_cursor=question.page.next_cursor(last)))


@router.get(
    "/tenants/{tenant_id}/usage",
    summary="What a tenant has used",
    response_model=UsageAnswer,
    responses=problems(
        f"/api/v1/admin/tenants/{EXAMPLE_ID}/usage", PLATFORM_ADMIN, *QUERY_ERRORS, no_such_tenant(EXAMPLE_ID)
    ),
    openapi_extra=openapi_parameters(USAGE_PARAMETERS),
)
async def usage_of_tenant(
    tenant_id: UUID, window: Annotated[UsageWindow, Depends(_window)], gateway: Gateway
) -> Response:
    """As `GET /api/v1/usage` answers the tenant itself."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine, snapshot=True) as connection:
        tenant = await find_tenant(connection, tenant_id)
        found = await read_usage(connection, tenant_id, window, datetime.now(UTC))
    return json_response(UsageAnswer.of(found, tenant.allowance))
