"""What limits add to the description of every route that has one: the headers of its answers, and how it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.errors import PROBLEM_JSON, RateLimitedError
from app.throttling.throttle import Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHERE_CLIENTS_AUTHENTICATE = "/oauth/"
_QUOTAS = {Limit.TOKEN: 60, Limit.ADMIN: 120, Limit.QUERY: 1200}


def describe(paths: dict[str, Any], limits: Mapping[str, Limit]) -> None:
    """Complete the path items of an OpenAPI document; `limits` says which scope of a route brings which limit."""
    for path, item in paths.items():
        for operation in item.values():
            scopes = {scope for way in operation.get("security", ()) for needed in way.values() for scope in needed}
            found = {limits[scope] for scope in scopes & limits.keys()}
            if path.startswith(_WHERE_CLIENTS_AUTHENTICATE):
                found.add(Limit.TOKEN)
            for limit in found:
                _complete(operation["responses"], path, limit)


def _complete(responses: dict[str, Any], path: str, limit: Limit) -> None:
    responses["429"] = _refusal(path, limit)
    for answer in responses.values():
        answer["headers"] = answer.get("headers", {}) | _headers(limit)


def _headers(limit: Limit) -> dict[str, Any]:
    policy = f'"{limit}";q={_QUOTAS[limit]};w=60'
    return {
        "RateLimit": {
            "description": "Requests left and seconds until the window ends (draft-ietf-httpapi-ratelimit-headers).",
            "schema": {"type": "string", "examples": [f'"{limit}";r=41;t=37']},
        },
        "RateLimit-Policy": {
            "description": "How many requests a client may send from an address, and in how many seconds.",
            "schema": {"type": "string", "examples": [policy]},
        },
    }


def _refusal(path: str, limit: Limit) -> dict[str, Any]:
    error = RateLimitedError(f"The limit is {_QUOTAS[limit]} requests to {limit} routes in 60 s; try again in 37 s.")
    schema: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
    if limit is Limit.TOKEN:
        error.extra = {"error": "temporarily_unavailable", "error_description": error.detail}
        schema = {"allOf": [schema, {"type": "object", "required": ["error", "error_description"]}]}
    example = error.problem(instance=path, request_id="5f0c9a7e1b2d4c3f")
    return {
        "description": "Too many requests of this client, or too many failed authentications, from this address.",
        "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
        "content": {PROBLEM_JSON: {"schema": schema, "example": example}},
    }
