"""The HTTP side of all four reads: who may ask, what is refused and where, what OpenAPI says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.errors import PROBLEM_JSON
from auth.scopes import EVENTS_WRITE

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.reads.conftest import Gateway, Reader

PATHS = ["user/u1", "count", "trend", "stats"]
every_path = pytest.mark.parametrize("path", PATHS)


@every_path
async def test_without_a_token_it_is_401_whatever_the_parameters(
    gateway: Gateway, engine: AsyncEngine, path: str
) -> None:
    async with gateway.client(gateway.over(engine), None) as client:
        for parameters in ({}, {"unknown": "1"}):
            response = await client.get(f"/api/v1/events/{path}", params=parameters)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.headers["content-type"] == PROBLEM_JSON


@every_path
async def test_without_the_scope_it_is_403(gateway: Gateway, engine: AsyncEngine, path: str) -> None:
    _, token = await gateway.token(scopes=[EVENTS_WRITE])
    async with gateway.client(gateway.over(engine), token) as client:
        response = await client.get(f"/api/v1/events/{path}")
    assert response.status_code == 403
    assert "insufficient_scope" in response.headers["www-authenticate"]


@every_path
@pytest.mark.parametrize(
    ("parameters", "pointers"),
    [
        ({"unknown": "1"}, ["/query/unknown"]),
        ({"tenant_id": "00000000-0000-0000-0000-000000000000"}, ["/query/tenant_id"]),
        ({"started_at": "yesterday"}, ["/query/started_at"]),
        ({"startedAt": "2026-01-02", "endedAt": "2026-01-01"}, ["/query/endedAt"]),
        ({"event_type": "a", "name": "a"}, ["/query/name"]),
        ({"timezone": "Moon"}, ["/query/timezone"]),
        ({"event_type": "a\0b"}, ["/query/event_type"]),
        ({"client_id": "x" * 201}, ["/query/client_id"]),
    ],
)
async def test_a_wrong_parameter_is_422_and_pointed_at(
    reader: Reader, path: str, parameters: dict[str, str], pointers: list[str]
) -> None:
    assert await reader.problem(path, **parameters) == (422, pointers)


@pytest.mark.parametrize(
    ("path", "parameters", "pointer"),
    [
        ("user/u1", {"limit": "0"}, "/query/limit"),
        ("user/u1", {"limit": "1001"}, "/query/limit"),
        ("user/u1", {"ended_at": "2001-01-01"}, "/query/ended_at"),
        ("user/u1", {"started_at": "9999-12-31"}, "/query/started_at"),
        ("user/" + "x" * 201, {}, "/path/user_id"),
        ("user/a%00b", {}, "/path/user_id"),
        ("user/", {}, "/path/user_id"),
        ("trend", {"interval": "yearly"}, "/query/interval"),
        ("stats", {"top": "0"}, "/query/top"),
        ("stats", {"top": "1e3"}, "/query/top"),
    ],
)
async def test_the_routes_own_parameters_have_bounds(
    reader: Reader, path: str, parameters: dict[str, str], pointer: str
) -> None:
    assert await reader.problem(path, **parameters) == (422, [pointer])


@pytest.mark.parametrize("path", ["count?event_type=%FF", "count?a=%4", "user/%FF", "trend?%C3%28=1"])
async def test_what_is_not_utf8_or_badly_escaped_is_400(reader: Reader, path: str) -> None:
    assert (await reader.http.get(httpx.URL(f"/api/v1/events/{path}"))).status_code == 400


@every_path
async def test_camel_case_is_understood_and_answers_are_kept_by_no_cache(reader: Reader, path: str) -> None:
    camel = {"startedAt": "2026-01-01", "endedAt": "2026-01-02", "eventType": "click", "clientId": "c"}
    response = await reader.http.get(f"/api/v1/events/{path}", params=camel)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"


def test_openapi_lists_every_parameter_and_every_error_with_examples(gateway: Gateway, engine: AsyncEngine) -> None:
    paths: dict[str, Any] = gateway.over(engine).openapi()["paths"]
    own = {"user/{user_id}": ["user_id", "limit", "cursor"], "count": [], "trend": ["interval"], "stats": ["top"]}
    assert set(paths) == {f"/api/v1/events/{path}" for path in own}
    for path, extra in own.items():
        operation = paths[f"/api/v1/events/{path}"]["get"]
        shared = ["started_at", "ended_at", "event_type", "client_id", "timezone"]
        assert sorted(parameter["name"] for parameter in operation["parameters"]) == sorted(shared + extra)
        assert all(parameter["description"] and parameter["schema"] for parameter in operation["parameters"])
        assert set(operation["responses"]) == {"200", "400", "401", "403", "422", "503"}
        for status, response in operation["responses"].items():
            if status != "200":
                assert response["content"][PROBLEM_JSON]["example"]["status"] == int(status)
        assert [list(scopes.values()) for scopes in operation["security"]] == [[["events:read"]]]
