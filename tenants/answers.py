"""The errors of managing routes as OpenAPI shows them, and their JSON answers. Refuses to know what a route does."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Response
from pydantic import PlainSerializer, WithJsonSchema

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
from app.events.timestamps import format_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

Moment = Annotated[
    datetime,
    PlainSerializer(format_utc, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time as every answer writes it: RFC 3339 in UTC with `Z`."""

QUERY_ERRORS = (
    MalformedError("The query is not UTF-8."),
    InvalidError("The parameters are not valid.", (Fault("/query/limit", "must be an integer from 1 to 1000"),)),
)
BODY_ERRORS = (
    MalformedError("The body is not JSON."),
    TooLargeError("The body is larger than 65536 bytes."),
    UnsupportedMediaTypeError("The body must be application/json."),
    InvalidError("The body is not valid.", (Fault("/name", "is required"),)),
)


def problems(path: str, scope: str, *further: AppError) -> dict[int | str, dict[str, Any]]:
    """What a route at `path` passes as `responses`: the errors that all have, and `further`, each as an example."""
    errors = (
        UnauthorizedError("Send an access token: Authorization: Bearer …"),
        ForbiddenError(f"The token lacks the scope {scope}."),
        *further,
        UnavailableError("The database does not answer."),
    )
    return {error.status: _described(error, path) for error in errors}


def json_response(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """What one tenant may see is kept by no cache on the way."""
    return Response(
        answer.model_dump_json(),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _described(error: AppError, path: str) -> dict[str, Any]:
    example = error.problem(instance=path, request_id="5f0c9a7e1b2d4c3f")
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": error.title, "content": {PROBLEM_JSON: content}}
