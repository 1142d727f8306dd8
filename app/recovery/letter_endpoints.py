"""`/api/v1/dead-letters`: a tenant looks at what could not be handled of its events, and decides. HTTP only;
`letters` reads and `letter_changes` changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from app.errors import ConflictError, Fault, InvalidError, NotFoundError
from app.events.model import IncomingEvent
from app.parameters import Reading, openapi_parameters, pairs_of_query
from app.recovery import letter_changes
from app.recovery.letter_answers import (
    DEAD_LETTER_ID,
    ChangedAnswer,
    LetterAnswer,
    LettersAnswer,
    WholeLetterAnswer,
    whole_letter,
)
from app.recovery.letter_changes import Caller, Changed
from app.recovery.letter_questions import CHOICE, FILTERS, read_choice, read_filters
from app.recovery.letters import Filters, find, page_of_letters
from app.state import Database
from auth.dependencies import TenantAdmin
from auth.scopes import TENANT_ADMIN
from tenants.actors import actor_of
from tenants.answers import BODY_ERRORS, QUERY_ERRORS, json_response, problems
from tenants.bodies import JSON, read_bytes
from tenants.pages import PAGE_PARAMETERS, UUIDS, PageAsked, read_page
from tenants.session import tenant_session

router = APIRouter(prefix="/api/v1/dead-letters", tags=["Manage"])

_LISTED = (*FILTERS, *PAGE_PARAMETERS)
_ALL = "/api/v1/dead-letters"
_ONE = f"{_ALL}/{DEAD_LETTER_ID}"
_UNKNOWN = NotFoundError("There is no such dead letter.")
_BAD_EVENT = InvalidError("The event is not valid.", (Fault("/metadata/note", "contains NUL (U+0000)"),))
_EVENT: dict[str, Any] = {
    "type": "object",
    "description": "Members of an event, as they are sent to `/api/v1/events`; those that are left out stay.",
    "minProperties": 1,
    "properties": {
        **{name: {"type": ["string", "null"]} for name in IncomingEvent.__struct_fields__ if name != "metadata"},
        "metadata": {"type": ["object", "null"]},
    },
    "additionalProperties": False,
}
_EDIT = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": _EVENT, "examples": {"note": {"value": {"metadata": {"note": "mended"}}}}}},
    }
}


@dataclass(frozen=True)
class LettersQuestion:
    filters: Filters
    page: PageAsked


async def _asked(request: Request, admin: TenantAdmin) -> LettersQuestion:
    reading = Reading(pairs_of_query(request.scope["query_string"]), _LISTED)
    filters = read_filters(reading)
    times = (None if moment is None else moment.isoformat() for moment in (filters.started_at, filters.ended_at))
    page = read_page(reading, UUIDS, "dead letters", str(admin.tenant_id), filters.status, filters.reason, *times)
    reading.finish()
    return LettersQuestion(filters, page)


async def _chosen(request: Request, _admin: TenantAdmin) -> Filters:
    reading = Reading(pairs_of_query(request.scope["query_string"]), CHOICE)
    chosen = read_choice(reading)
    reading.finish()
    return chosen


async def _caller(request: Request, admin: TenantAdmin) -> Caller:
    return Caller(admin.tenant_id, actor_of(request, admin))


LetterManager = Annotated[Caller, Depends(_caller)]


def _conflict(detail: str) -> ConflictError:
    return ConflictError(f"The dead letter is {detail}")


@router.get(
    "",
    summary="What could not be handled",
    response_model=LettersAnswer,
    responses=problems(_ALL, TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(_LISTED),
)
async def list_letters(
    admin: TenantAdmin, asked: Annotated[LettersQuestion, Depends(_asked)], database: Database
) -> Response:
    """Events that were taken and that a worker could not handle, newest first. An event that is answered 202 should
    never become one; each is worth a look. Those that were resolved or discarded are removed 30 days later.
    """
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        found, last = await page_of_letters(connection, admin.tenant_id, asked.filters, asked.page)
    answered = [LetterAnswer.of(letter) for letter in found]
    return json_response(LettersAnswer(dead_letters=answered, next_cursor=asked.page.next_cursor(last)))


@router.post(
    "/retry",
    summary="Try many dead letters again",
    response_model=ChangedAnswer,
    responses=problems(f"{_ALL}/retry", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(CHOICE),
)
async def retry_letters(
    manager: LetterManager, chosen: Annotated[Filters, Depends(_chosen)], database: Database
) -> Response:
    """The open letters that the filters choose, the oldest first, up to 1,000 a request."""
    async with tenant_session(database, manager.tenant_id) as connection:
        return _changed(await letter_changes.retry_all(connection, manager, chosen))


@router.post(
    "/discard",
    summary="Give many dead letters up",
    response_model=ChangedAnswer,
    responses=problems(f"{_ALL}/discard", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(CHOICE),
)
async def discard_letters(
    manager: LetterManager, chosen: Annotated[Filters, Depends(_chosen)], database: Database
) -> Response:
    """The open letters that the filters choose, the oldest first, up to 1,000 a request. Each can be retried until
    it is removed, 30 days later.
    """
    async with tenant_session(database, manager.tenant_id) as connection:
        return _changed(await letter_changes.discard_all(connection, manager, chosen))


@router.get(
    "/{dead_letter_id}",
    summary="One dead letter, with the original",
    response_model=WholeLetterAnswer,
    responses=problems(_ONE, TENANT_ADMIN, _UNKNOWN),
)
async def show_letter(admin: TenantAdmin, dead_letter_id: UUID, database: Database) -> Response:
    """`payload` is what the worker could not handle, byte for byte."""
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        return _whole(whole_letter(await find(connection, admin.tenant_id, dead_letter_id)))


@router.patch(
    "/{dead_letter_id}",
    summary="Mend a dead letter's event",
    response_model=WholeLetterAnswer,
    responses=problems(
        _ONE, TENANT_ADMIN, *BODY_ERRORS[:-1], _BAD_EVENT, _UNKNOWN, _conflict("sent: only an open one can be edited.")
    ),
    openapi_extra=_EDIT,
)
async def edit_letter(request: Request, manager: LetterManager, dead_letter_id: UUID, database: Database) -> Response:
    """The event is held to the same rules as one that is sent, and nothing is sent yet: retry it then. `user_id` can't
    be changed once it is known. The original stays as it was.
    """
    changes = await read_bytes(request)
    async with tenant_session(database, manager.tenant_id) as connection:
        return _whole(whole_letter(await letter_changes.edit(connection, manager, dead_letter_id, changes)))


@router.post(
    "/{dead_letter_id}/retry",
    summary="Try a dead letter again",
    response_model=WholeLetterAnswer,
    responses=problems(
        f"{_ONE}/retry", TENANT_ADMIN, _UNKNOWN, _conflict("sent: only one that is open or discarded can be retried.")
    ),
)
async def retry_letter(manager: LetterManager, dead_letter_id: UUID, database: Database) -> Response:
    """It is `queued`, then `sent`, and in the end `resolved`, or `open` again with one attempt more. However often it
    is sent, its event id counts once, at the time of its first receipt.
    """
    async with tenant_session(database, manager.tenant_id) as connection:
        return _whole(whole_letter(await letter_changes.retry(connection, manager, dead_letter_id)))


@router.post(
    "/{dead_letter_id}/discard",
    summary="Give a dead letter up",
    response_model=WholeLetterAnswer,
    responses=problems(
        f"{_ONE}/discard", TENANT_ADMIN, _UNKNOWN, _conflict("sent: only one that is open or queued can be discarded.")
    ),
)
async def discard_letter(manager: LetterManager, dead_letter_id: UUID, database: Database) -> Response:
    """Nothing is sent. It can still be looked at and retried until it is removed, 30 days later."""
    async with tenant_session(database, manager.tenant_id) as connection:
        return _whole(whole_letter(await letter_changes.discard(connection, manager, dead_letter_id)))


def _whole(answer: bytes) -> Response:
    return Response(answer, media_type="application/json", headers={"Cache-Control": "no-store"})


def _changed(changed: Changed) -> Response:
    return json_response(ChangedAnswer(changed=changed.changed, remaining=changed.remaining))
