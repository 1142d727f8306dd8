"""`DELETE /api/v1/users/{user_id}` and `/api/v1/erasures`: HTTP only; `app.recovery.erasures` asks and reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from app.errors import Fault, InvalidError, MalformedError
from app.parameters import Reading, openapi_parameters, pairs_of_query
from app.recovery.erasures import list_erasures, no_such_erasure, read_erasure, request_erasure
from app.state import Database
from app.user_path import UserId, check_user_id
from auth.dependencies import TenantAdmin
from auth.scopes import TENANT_ADMIN
from tenants.actors import actor_of
from tenants.answers import QUERY_ERRORS, Moment, json_response, problems
from tenants.pages import PAGE_PARAMETERS, UUIDS, PageAsked, read_page
from tenants.session import tenant_session

if TYPE_CHECKING:
    from app.recovery.erasures import Erasure

router = APIRouter(prefix="/api/v1", tags=["Manage"])

_ID = "7b0f6a52-3f0e-4c41-9d0a-5f5b2f7c9e11"
_EXAMPLE: dict[str, Any] = {
    "erasure_id": _ID,
    "user_hash": "3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea",
    "cut_at": "2026-01-02T03:04:05.678Z",
    "step": "rows",
    "deleted": {"events": 5000},
    "kafka_until": None,
    "finished_at": None,
    "problem": None,
}
_PATH_ERRORS = (
    MalformedError("The path is not UTF-8."),
    InvalidError(
        "The user id is not valid.", (Fault("/path/user_id", "must have 1 to 200 characters, none of them NUL"),)
    ),
)


class ErasureAnswer(BaseModel):
    """`step` is requested, rows, letters, index, cache, verify or done; `problem` says what it waits for.

    `user_hash` is the SHA-256 of the 16 bytes of the tenant's id and the user's id in UTF-8; the id itself is not kept.
    What was received until `cut_at` is removed; `deleted` counts it by place. `kafka_until`: from then on Kafka holds
    nothing of it either; null once it is finished: the topic is kept for ever.
    """

    erasure_id: UUID
    user_hash: str
    cut_at: Moment
    step: str
    deleted: dict[str, NonNegativeInt]
    kafka_until: Moment | None
    finished_at: Moment | None
    problem: str | None

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    @classmethod
    def of(cls, erasure: Erasure) -> ErasureAnswer:
        return cls(**{name: getattr(erasure, name) for name in cls.model_fields})


class ErasuresAnswer(BaseModel):
    """`next_cursor` asks for the following page with the same parameters; null on the last one."""

    erasures: list[ErasureAnswer]
    next_cursor: str | None

    model_config = ConfigDict(json_schema_extra={"example": {"erasures": [_EXAMPLE], "next_cursor": None}})


async def _page(request: Request, admin: TenantAdmin) -> PageAsked:
    reading = Reading(pairs_of_query(request.scope["query_string"]), PAGE_PARAMETERS)
    page = read_page(reading, UUIDS, "erasures", str(admin.tenant_id))
    reading.finish()
    return page


@router.delete(
    "/users/{user_id:path}",
    status_code=202,
    summary="Erase a user",
    response_model=ErasureAnswer,
    responses=problems("/api/v1/users/u1", TENANT_ADMIN, *_PATH_ERRORS),
)
async def erase_user(request: Request, admin: TenantAdmin, user_id: UserId, database: Database) -> Response:
    """All events of the user that were received until now, wherever they are kept, and counted no more. The answer is
    a receipt: the `maintain` worker removes them, and the receipt says how far it is. Asking again while it is open
    answers the same receipt. What the user sends from now on is stored like any other event.
    """
    check_user_id(request, user_id)
    async with tenant_session(database, admin.tenant_id) as connection:
        erasure = await request_erasure(connection, admin.tenant_id, user_id, actor_of(request, admin))
    return json_response(ErasureAnswer.of(erasure), 202, {"Location": f"/api/v1/erasures/{erasure.erasure_id}"})


@router.get(
    "/erasures",
    summary="Erasures of users",
    response_model=ErasuresAnswer,
    responses=problems("/api/v1/erasures", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(PAGE_PARAMETERS),
)
async def show_erasures(admin: TenantAdmin, page: Annotated[PageAsked, Depends(_page)], database: Database) -> Response:
    """Every receipt, the newest first."""
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        found, last = await list_erasures(connection, admin.tenant_id, page)
    listed = [ErasureAnswer.of(erasure) for erasure in found]
    return json_response(ErasuresAnswer(erasures=listed, next_cursor=page.next_cursor(last)))


@router.get(
    "/erasures/{erasure_id}",
    summary="How far an erasure is",
    response_model=ErasureAnswer,
    responses=problems(f"/api/v1/erasures/{_ID}", TENANT_ADMIN, no_such_erasure(_ID)),
)
async def show_erasure(admin: TenantAdmin, erasure_id: UUID, database: Database) -> Response:
    """`finished_at` is set once all places were looked through and hold nothing of the user before the cut."""
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        return json_response(ErasureAnswer.of(await read_erasure(connection, admin.tenant_id, erasure_id)))
