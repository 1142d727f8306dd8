"""Every error that FastAPI's side answers, as RFC 9457 problem details. Knows no domain."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import (
    PROBLEM_JSON,
    AppError,
    Fault,
    InvalidError,
    MalformedError,
    MethodNotAllowedError,
    NotFoundError,
    render,
)
from app.request_id import request_id_of

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Make `app` answer problem details only."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


def problem_response(request: Request, error: AppError) -> Response:
    """`error` as a response to `request`."""
    body = render(error, instance=request.url.path, request_id=request_id_of(request.scope))
    return Response(body, error.status, headers=error.headers, media_type=PROBLEM_JSON)


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101  registered for this type
    return problem_response(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this type
    details = error.errors()
    if any(detail["type"] == "json_invalid" for detail in details):
        return problem_response(request, MalformedError("The body is not JSON.", _faults(details)))
    return problem_response(request, InvalidError("The request is not valid.", _faults(details)))


def _faults(details: Any) -> tuple[Fault, ...]:
    """FastAPI's `loc` is `('body', 'a', 0)` or `('query', 'limit')`; a body's pointer starts at its root."""
    return tuple(
        Fault("".join(f"/{step}" for step in detail["loc"][detail["loc"][0] == "body" :]), detail["msg"])
        for detail in details
    )


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this type
    problem: AppError
    if error.status_code == NotFoundError.status:
        problem = NotFoundError("There is nothing at this path.")
    elif error.status_code == MethodNotAllowedError.status:
        problem = MethodNotAllowedError(f"{request.method} is not offered here.", headers={"Allow": _offered(request)})
    else:
        problem = MalformedError(str(error.detail), headers=dict(error.headers or {}))
    return problem_response(request, problem)


def _offered(request: Request) -> str:
    """The methods of this path in all its routes, as RFC 9110 section 15.5.6 asks; the router's error has but one's."""
    if request.scope.get("app_root_path", "") != request.scope["root_path"]:
        return "GET, HEAD"  # below a mount, where there are only files
    scope = request.scope
    return ", ".join(
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in request.app.router.routes)
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    # The cause is for the log; an answer must not carry what an exception's text may hold.
    log.error("unexpected error", path=request.url.path, request_id=request_id_of(request.scope), exc_info=error)
    return problem_response(request, AppError("Something went wrong here; the request id finds it in the log."))
