"""The unversioned paths of older clients: 308 to the versioned ones, query and method kept."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

OLD_PATHS = {
    "/events": "/api/v1/events",
    "/api/events": "/api/v1/events",
    "/events/count": "/api/v1/events/count",
    "/events/trend": "/api/v1/events/trend",
}
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def install(app: FastAPI) -> None:
    """Add the redirects to `app`."""
    app.router.routes += [Route(old, _redirect, methods=_METHODS, include_in_schema=False) for old in OLD_PATHS]


async def _redirect(request: Request) -> RedirectResponse:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(OLD_PATHS[request.url.path] + query, status_code=308)
