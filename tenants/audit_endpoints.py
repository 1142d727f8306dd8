"""`GET /api/v1/audit`: a tenant reads its own audit log. HTTP only; `tenants.audit` reads.

Who acted for the platform is shown by kind alone: its people and addresses are not the tenant's to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict

from app.parameters import Parameter, Reading, openapi_parameters, pairs_of_query
from app.state import Database
from auth.dependencies import TenantAdmin
from auth.scopes import TENANT_ADMIN
from tenants import audit
from tenants.answers import QUERY_ERRORS, Moment, json_response, problems
from tenants.audit import ActorKind, Entry, Filters
from tenants.pages import PAGE_PARAMETERS, UUIDS, PageAsked, read_page
from tenants.session import tenant_session

router = APIRouter(prefix="/api/v1", tags=["Manage"])

MOST_ACTION_CHARACTERS = 100
_TIME: dict[str, Any] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
ACTION = Parameter(
    "action",
    "Only entries of this action.",
    {"type": "string", "minLength": 1, "maxLength": MOST_ACTION_CHARACTERS},
    "client.created",
)
STARTED_AT = Parameter("started_at", "Only entries from this moment on: RFC 3339, or a date (UTC).", _TIME)
ENDED_AT = Parameter("ended_at", "Only entries before this moment: RFC 3339, or a date (UTC).", _TIME)
FILTER_PARAMETERS = (ACTION, STARTED_AT, ENDED_AT)


class AuditActorAnswer(BaseModel):
    """`kind` `client`: a client of the tenant, with its id and where it called from. Of the others only the kind is
    told: `platform` (an administrator over HTTP), `operator` (by command), `worker`.
    """

    kind: ActorKind
    client_id: str | None
    address: str | None
    request_id: str | None


class AuditEntryAnswer(BaseModel):
    """`subject` is what was acted upon, for instance a client's id; `detail` says what changed, never a secret."""

    audit_id: UUID
    at: Moment
    action: str
    subject: str
    detail: dict[str, Any]
    actor: AuditActorAnswer


class AuditAnswer(BaseModel):
    """`next_cursor` asks for the following page with the same parameters; null on the last one."""

    entries: list[AuditEntryAnswer]
    next_cursor: str | None

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "entries": [
                    {
                        "audit_id": "0b8f1c66-3c0e-4a53-9a3c-9a2f4a1b7c21",
                        "at": "2026-01-02T03:04:05.678Z",
                        "action": "client.created",
                        "subject": "slc_9f86d081884c7d659a2feaa0c55ad015",
                        "detail": {"name": "checkout", "scopes": ["events:write"]},
                        "actor": {
                            "kind": "client",
                            "client_id": "slc_2c26b46b68ffc68ff99b453c1d304134",
                            "address": "192.0.2.7",
                            "request_id": "5f0c9a7e1b2d4c3f",
                        },
                    }
                ],
                "next_cursor": None,
            }
        }
    )


@dataclass(frozen=True)
class AuditQuestion:
    filters: Filters
    page: PageAsked


def read_question(reading: Reading, whose: str) -> AuditQuestion:
    """What `reading`, made with `FILTER_PARAMETERS` and `PAGE_PARAMETERS` among others, asks; `whose` binds cursors.

    Raises:
        InvalidError: names every fault.
    """
    action = reading.text(ACTION.name, most=MOST_ACTION_CHARACTERS)
    started_at, ended_at = reading.moment(STARTED_AT.name), reading.moment(ENDED_AT.name)
    if started_at is not None and ended_at is not None and ended_at < started_at:
        reading.refuse(ENDED_AT.name, "is before started_at")
    times = (None if moment is None else moment.isoformat() for moment in (started_at, ended_at))
    page = read_page(reading, UUIDS, "audit", whose, action, *times)
    reading.finish()
    return AuditQuestion(Filters(action, started_at, ended_at), page)


async def _asked(request: Request, admin: TenantAdmin) -> AuditQuestion:
    reading = Reading(pairs_of_query(request.scope["query_string"]), (*FILTER_PARAMETERS, *PAGE_PARAMETERS))
    return read_question(reading, str(admin.tenant_id))


@router.get(
    "/audit",
    summary="Who did what, when and from where",
    response_model=AuditAnswer,
    responses=problems("/api/v1/audit", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters((*FILTER_PARAMETERS, *PAGE_PARAMETERS)),
)
async def audit_log(
    admin: TenantAdmin, asked: Annotated[AuditQuestion, Depends(_asked)], database: Database
) -> Response:
    """Every administrative action on the tenant, by itself or by the platform, newest first. Nobody can change or
    remove an entry.
    """
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        entries, last = await audit.read(connection, admin.tenant_id, asked.filters, asked.page)
    answered = [_entry(entry) for entry in entries]
    return json_response(AuditAnswer(entries=answered, next_cursor=asked.page.next_cursor(last)))


def _entry(entry: Entry) -> AuditEntryAnswer:
    actor = entry.actor
    own = actor.kind == "client"
    return AuditEntryAnswer(
        audit_id=entry.audit_id,
        at=entry.at,
        action=entry.action.name,
        subject=entry.action.subject,
        detail=dict(entry.action.detail),
        actor=AuditActorAnswer(
            kind=actor.kind,
            client_id=actor.name if own else None,
            address=str(actor.address) if own and actor.address is not None else None,
            request_id=actor.request_id if own else None,
        ),
    )
