"""The OpenAPI document: valid, complete on every route, and true for the answers of the ingest routes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.ingest.endpoint import BATCH, SINGLE
from tests.system import TOP_BURST, System

PROBLEM = "application/problem+json"
METHODS = ("get", "post", "put", "patch", "delete")
# Error answers of their own shape: RFC 6749 section 5.2, and the open routes whose 503 says what is down.
OWN_SHAPE = {"/oauth/token", "/api/v1/health", "/api/v1/ready"}
ALWAYS_ANSWER = {"/.well-known/oauth-authorization-server", "/.well-known/jwks.json"}


@pytest.fixture(scope="module")
async def document(system: System) -> dict[str, Any]:
    async with system.client() as client:
        loaded: dict[str, Any] = (await client.get("/openapi.json")).json()
    return loaded


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, entry[method])
        for path, entry in document["paths"].items()
        for method in METHODS
        if method in entry
    ]


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """`schema` as a document of its own, in which references into the components still lead somewhere."""
    return {**schema, "components": document["components"]}


def _examples(holder: dict[str, Any], schema: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    """The examples of a media type object: beside its schema, in it, or in what that refers to."""
    found = [holder["example"]] if "example" in holder else []
    found += [example["value"] for example in holder.get("examples", {}).values()]
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found += [schema["example"]] if "example" in schema else []
    found += schema.get("examples", [])
    return found


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    # From openapi-spec-validator 0.9.0, which carries it from the OpenAPI Initiative; its licence lies beside it.
    schema = json.loads((Path(__file__).parent / "schemas" / "openapi-3.1.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(document)] == []
    for described in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(described)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        found = document
        for step in reference.split("/"):
            assert step in found, reference
            found = found[step]


def test_every_operation_has_a_name_of_its_own_and_a_summary(document: dict[str, Any]) -> None:
    operations = _operations(document)
    assert all(operation["summary"] and operation["tags"] for _, _, operation in operations)
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names)) > 8


def test_every_route_shows_examples_that_fit_its_schemas(document: dict[str, Any]) -> None:
    wrong = []
    for path, method, operation in _operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        for body in bodies:
            for kind, holder in body["content"].items():
                schema = holder.get("schema", {})
                examples = _examples(holder, schema, document)
                if not examples:
                    wrong.append(f"{method} {path} has no example of {kind}")
                validator = Draft202012Validator(_resolved(schema, document))
                wrong += [
                    f"{method} {path}: {error.message}"
                    for example in examples
                    for error in validator.iter_errors(example)
                ]
    assert wrong == []


def test_every_route_shows_how_it_fails(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        failures = {status: body for status, body in operation["responses"].items() if status >= "400"}
        assert failures or path in ALWAYS_ANSWER, f"{method} {path}"
        if path not in OWN_SHAPE:
            assert all(PROBLEM in body["content"] for body in failures.values()), f"{method} {path}: {set(failures)}"


def test_every_route_of_a_tenant_says_which_scope_it_takes(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        if path.startswith("/api/v1/") and path not in OWN_SHAPE:
            (scopes,) = operation["security"][0].values()
            assert scopes in (["events:read"], ["events:write"]), f"{method} {path}"
            assert {"401", "403"} <= set(operation["responses"]), f"{method} {path}"


INGEST_CASES: list[tuple[str, int, dict[str, Any]]] = [
    (SINGLE, 202, {"json": {"event_type": "a"}}),
    (SINGLE, 400, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    (SINGLE, 413, {"json": {"event_type": "a", "metadata": {"x": "y" * 70_000}}}),
    (SINGLE, 415, {"content": b"a=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    (SINGLE, 415, {"content": b"{}", "headers": {"Content-Encoding": "br"}}),
    (SINGLE, 422, {"json": {"metadata": 1, "extra": True}}),
    (BATCH, 202, {"json": [{"event_type": "a"}, {"event_type": 7, "event_id": "b"}]}),
    (BATCH, 400, {"content": b"[{]", "headers": {"Content-Type": "application/json"}}),
    (BATCH, 413, {"json": [{"event_type": "a"}] * 2001}),
    (BATCH, 415, {"content": b"a", "headers": {"Content-Type": "text/csv"}}),
    (BATCH, 422, {"json": [{}, {"event_type": ""}]}),
    (BATCH, 422, {"json": {"events": []}}),
]


@pytest.mark.parametrize(("path", "status", "request_"), INGEST_CASES)
async def test_an_answer_of_the_ingest_routes_is_as_described(
    path: str, status: int, request_: dict[str, Any], system: System, document: dict[str, Any]
) -> None:
    async with system.client(await system.tenant()) as client:
        answer = await client.post(path, **request_)
    _as_described(answer, path, status, document)


@pytest.mark.parametrize("path", [SINGLE, BATCH])
@pytest.mark.parametrize(("status", "scope"), [(401, None), (403, "events:read")])
async def test_a_refusal_of_the_ingest_routes_is_as_described(
    path: str, status: int, scope: str | None, system: System, document: dict[str, Any]
) -> None:
    async with system.client(await system.tenant() if scope else None, scope) as client:
        answer = await client.post(path, json=[{"event_type": "a"}])
    _as_described(answer, path, status, document)


@pytest.mark.parametrize("path", [SINGLE, BATCH])
async def test_an_answer_over_the_limit_is_as_described(path: str, system: System, document: dict[str, Any]) -> None:
    async with system.client(await system.tenant(rate=0.05, burst=1)) as client:
        assert (await client.post(SINGLE, json={"event_type": "a"})).status_code == 202
        event = {"event_type": "a"}
        answer = await client.post(path, json=event if path == SINGLE else [event])
    _as_described(answer, path, 429, document)


async def test_a_batch_over_the_bucket_is_answered_as_described(system: System, document: dict[str, Any]) -> None:
    async with system.client(await system.tenant(rate=TOP_BURST, burst=1)) as client:
        answer = await client.post(BATCH, json=[{"event_type": "a"}] * 2)
    _as_described(answer, BATCH, 413, document)


def _as_described(answer: httpx.Response, path: str, status: int, document: dict[str, Any]) -> None:
    assert answer.status_code == status, answer.text
    described = document["paths"][path]["post"]["responses"][str(status)]
    schema = described["content"][answer.headers["content-type"]]["schema"]
    faults = [error.message for error in Draft202012Validator(_resolved(schema, document)).iter_errors(answer.json())]
    assert faults == [], answer.text
    assert {name for name in described.get("headers", {}) if name not in answer.headers} == set()
