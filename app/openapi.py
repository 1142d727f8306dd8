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

from app.errors import PROBLEM_JSON, Fault, InvalidError
from app.ingest.openapi import PATHS, SCHEMAS
from app.throttling.openapi import describe as describe_limits
from auth.dependencies import LIMITS

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
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            _restore_nulls(schema["paths"], schemas)
            _describe_bad_paths(schema["paths"], schemas)
            describe_limits(schema["paths"], LIMITS)
            schema["paths"] |= PATHS
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


def _restore_nulls(paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """FastAPI leaves nulls out of the whole document, also where an example shows that a member is null."""
    for schema in schemas.values():
        if "example" in schema:
            schema["example"] = _with_nulls(schema["example"], schema, schemas)
    for operation in (operation for operations in paths.values() for operation in operations.values()):
        for holder in operation.get("requestBody", {}).get("content", {}).values():
            for example in holder.get("examples", {}).values():
                example["value"] = _with_nulls(example.get("value"), holder["schema"], schemas)


def _with_nulls(example: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        schema = next(choice for choice in schema["anyOf"] if choice != {"type": "null"})
        return example if example is None else _with_nulls(example, schema, schemas)
    if isinstance(example, list):
        return [_with_nulls(item, schema.get("items", {}), schemas) for item in example]
    if isinstance(example, dict):
        missing = dict.fromkeys(name for name in schema.get("required", ()) if name not in example)
        known = schema.get("properties", {})
        return {name: _with_nulls(value, known.get(name, {}), schemas) for name, value in (example | missing).items()}
    return example


def _describe_bad_paths(paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """In place of FastAPI's own 422, which nothing here answers: ours, where a part of the path has a form to keep."""
    for path, operations in paths.items():
        for operation in operations.values():
            if "application/json" not in operation["responses"].get("422", {}).get("content", {}):
                continue
            formed = [entry["name"] for entry in operation.get("parameters", ()) if "format" in entry["schema"]]
            if formed:
                fault = Fault(f"/path/{formed[0]}", "Input should be a valid UUID")
                error = InvalidError("The request is not valid.", (fault,))
                content = {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": error.problem(instance=path, request_id="5f0c9a7e1b2d4c3f"),
                }
                operation["responses"]["422"] = {"description": error.title, "content": {PROBLEM_JSON: content}}
            else:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
