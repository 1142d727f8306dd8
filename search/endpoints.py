"""`/api/v1/events/search`, by GET and POST. Owns HTTP only: who may ask, what is asked, what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from app.errors import (
    PROBLEM_JSON,
    AppError,
    Fault,
    ForbiddenError,
    InvalidError,
    MalformedError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from app.parameters import Reading, openapi_parameters, pairs_of_query
from app.request_bodies import read_bounded
from app.state import SearchClient, SettingsOf
from auth.dependencies import EventsReader
from search import answers, execute
from search.client import JSON, IndexUnavailable
from search.cursor import sort_clauses
from search.query import compiled
from search.request import PARAMETERS, SearchRequest, pairs_of_body, read_request
from search.scope import Scoped, scoped

if TYPE_CHECKING:
    from uuid import UUID

router = APIRouter(prefix="/api/v1", tags=["Read"])

LARGEST_BODY = 64 * 1024
RETRY_AFTER_SECONDS = 2


def _described(error: AppError) -> dict[str, Any]:
    example = error.problem(instance="/api/v1/events/search", request_id="5f0c9a7e1b2d4c3f")
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": error.title, "content": {PROBLEM_JSON: content}}


_UNCLOSED = Fault("/query/q", "this quote is not closed (position 8)")
_UNAVAILABLE = "Search is not available now; everything else is."
_TOO_LARGE = f"The body is larger than {LARGEST_BODY} bytes."
_NOT_JSON = "The body must be application/json."
_READ_ERRORS: dict[int | str, dict[str, Any]] = {
    error.status: _described(error)
    for error in (
        MalformedError("The query can't be parsed.", (_UNCLOSED,), extra={"position": 8}),
        UnauthorizedError("Send an access token: Authorization: Bearer …"),
        ForbiddenError("The token lacks the scope events:read."),
        InvalidError("The parameters are not valid.", (Fault("/query/limit", "must be an integer from 1 to 100"),)),
        UnavailableError(_UNAVAILABLE),
    )
}
_BODY_ERRORS = _READ_ERRORS | {
    error.status: _described(error) for error in (TooLargeError(_TOO_LARGE), UnsupportedMediaTypeError(_NOT_JSON))
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        entry.name: {
                            "anyOf": [entry.schema, {"type": "null"}],
                            "description": entry.openapi()["description"],
                        }
                        for entry in PARAMETERS
                    },
                },
                "examples": {
                    "words": {
                        "summary": "Words and a filter",
                        "value": {"q": "timeout", "event_type": "payment.failed"},
                    },
                    "exact": {
                        "summary": "Exactly as written, newest first",
                        "value": {"q": '"修复组件" "Error: 504"', "sort": "newest", "limit": 50},
                    },
                },
            }
        },
    }
}


@router.get(
    "/events/search",
    summary="Search events by words and filters",
    response_model=answers.SearchAnswer,
    responses=_READ_ERRORS,
    openapi_extra=openapi_parameters(PARAMETERS),
)
async def search_events(request: Request, reader: EventsReader, client: SearchClient, settings: SettingsOf) -> Response:
    """All words of `q` must match, and every filter. An event is found within about a second of its 202."""
    reading = Reading(pairs_of_query(request.scope["query_string"]), PARAMETERS)
    asked = read_request(reading, reader.tenant_id, pointer="/query/q")
    return await _answer(asked, scope_of(asked, reader.tenant_id), client, settings)


@router.post(
    "/events/search",
    summary="Search events, the question as JSON",
    response_model=answers.SearchAnswer,
    responses=_BODY_ERRORS,
    openapi_extra=_BODY,
)
async def search_events_by_body(
    request: Request, reader: EventsReader, client: SearchClient, settings: SettingsOf
) -> Response:
    """As GET, with the parameters as members of a JSON object; pointers in errors are the body's (`/q`)."""
    if request.scope["query_string"]:
        raise InvalidError("The question goes into the body here, not into the query.")
    reading = Reading(pairs_of_body(await _body(request)), PARAMETERS, prefix="")
    asked = read_request(reading, reader.tenant_id, pointer="/q")
    return await _answer(asked, scope_of(asked, reader.tenant_id), client, settings)


def scope_of(asked: SearchRequest, tenant_id: UUID) -> Scoped:
    """The search that answers `asked`: one hit more than its limit shows whether there is a next page."""
    return scoped(
        tenant_id,
        compiled(asked.clause) if asked.clause.parts else None,
        filters=asked.filters(),
        size=asked.limit + 1,
        sort=sort_clauses(asked.sort),
        after=asked.after,
        aggregations=answers.facet_aggregations(),
        highlight=answers.HIGHLIGHTED if asked.clause.parts else (),
    )


async def _answer(asked: SearchRequest, scope: Scoped, client: SearchClient, settings: SettingsOf) -> Response:
    try:
        found = await execute.search(client, settings.index_prefix, scope)
    except IndexUnavailable:
        raise UnavailableError(_UNAVAILABLE, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}) from None
    except execute.SearchRefused:
        raise InvalidError("This query is too complex to be searched for; use fewer or shorter words.") from None
    return Response(answers.answer_bytes(asked, found), media_type=JSON)


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise UnsupportedMediaTypeError(_NOT_JSON)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("The body must not be compressed here.")
    return await read_bounded(request, LARGEST_BODY)
