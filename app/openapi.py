"""The API's description: its texts, the shape of problems, the ingest entries, and `/docs` without the internet."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.ingest.openapi import PATHS, SCHEMAS

DESCRIPTION: dict[str, Any] = {
    "title": "Sluice",
    "version": version("sluice-events"),
    "summary": "A multi-tenant event backend.",
    "description": (
        "Exchange client credentials for a token, send events, and read back counts, trends, timelines and "
        "search over your tenant's events and nobody else's.\n\n"
        "**Times** are RFC 3339 (a date means its start in `timezone`), answered in UTC with `Z`; ranges are "
        "`[started_at, ended_at)`. **Errors** are RFC 9457 problem details; `errors` says where by JSON pointer (a "
        "query parameter's is `/query/NAME`). **Every answer** has `X-Request-Id`; send your own to trace a request. "
        "Names are accepted in snake_case and camelCase; both at once is 422."
    ),
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "docs_url": None,
    "redoc_url": None,
}

_FAULT = {
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {
        "pointer": {"type": "string", "description": "RFC 6901; `''` is the whole body."},
        "detail": {"type": "string"},
    },
    "additionalProperties": False,
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
    },
    "additionalProperties": True,
    "examples": [
        {
            "type": "urn:sluice:problem:invalid",
            "title": "Invalid input",
            "status": 422,
            "detail": "The event is not valid.",
            "instance": "/api/v1/events",
            "request_id": "5f2c9d1a7b3e-1c",
            "errors": [{"pointer": "/event_type", "detail": "is required"}],
        }
    ],
}


def install(app: FastAPI) -> None:
    """Complete the description of `app` and serve it at `/docs` from files of our own."""
    generated: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        schema = generated()
        if not known:
            schema["paths"] |= PATHS
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas |= {"Fault": _FAULT, "Problem": _PROBLEM, **SCHEMAS}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    static = files("fastapi_offline") / "static"
    app.mount("/docs/assets", StaticFiles(directory=str(static)), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Sluice API",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )
