"""The OpenAPI document: valid, and complete on every route."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from app.ingest.endpoint import BATCH, SINGLE
from tests.contract.described import OAUTH, resolved

PROBLEM = "application/problem+json"
METHODS = ("get", "post", "put", "patch", "delete")
# Error answers of their own shape: RFC 6749 section 5.2, and the open routes whose 503 says what is down.
OWN_SHAPE = {*OAUTH, "/api/v1/health", "/api/v1/ready"}
ALWAYS_ANSWER = {"/.well-known/oauth-authorization-server", "/.well-known/jwks.json"}


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, entry[method])
        for path, entry in document["paths"].items()
        for method in METHODS
        if method in entry
    ]


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
        bodies += [
            answer for status, answer in operation["responses"].items() if status.startswith("2") and status != "204"
        ]
        for body in bodies:
            for kind, holder in body["content"].items():
                schema = holder.get("schema", {})
                examples = _examples(holder, schema, document)
                if not examples:
                    wrong.append(f"{method} {path} has no example of {kind}")
                validator = Draft202012Validator(resolved(schema, document))
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
            (way,) = operation["security"]
            assert way["ClientCredentials"] == [scope_of(path, method)], f"{method} {path}"
            assert {"401", "403"} <= set(operation["responses"]), f"{method} {path}"


def scope_of(path: str, method: str) -> str:
    """The scope that a route's place asks for."""
    if path.startswith("/api/v1/admin/"):
        return "platform:admin"
    if not path.startswith("/api/v1/events"):
        return "tenant:admin"
    return "events:write" if method == "post" and path in (SINGLE, BATCH) else "events:read"


def test_an_answer_without_a_body_describes_none(document: dict[str, Any]) -> None:
    empty = [
        operation["responses"]["204"] for _, _, operation in _operations(document) if "204" in operation["responses"]
    ]
    assert empty
    assert all("content" not in answer for answer in empty)


def test_every_error_answer_of_a_managing_route_shows_an_example_that_fits(document: dict[str, Any]) -> None:
    wrong = []
    for path, method, operation in _operations(document):
        for status, answer in operation["responses"].items():
            if status < "400" or PROBLEM not in answer["content"]:
                continue
            holder = answer["content"][PROBLEM]
            examples = _examples(holder, holder["schema"], document)
            if not examples:
                wrong.append(f"{method} {path} {status} has no example")
            validator = Draft202012Validator(resolved(holder["schema"], document))
            wrong += [f"{method} {path} {status}: {e.message}" for x in examples for e in validator.iter_errors(x)]
            if "example" in holder and holder["example"].get("status") != int(status):
                wrong.append(f"{method} {path} {status} shows a {holder['example'].get('status')}")
    assert wrong == []


LIMIT_HEADERS = {"RateLimit", "RateLimit-Policy"}


def test_every_route_with_a_limit_describes_its_headers_and_its_refusal(document: dict[str, Any]) -> None:
    limited = [each for each in _operations(document) if each[0] in OAUTH or "ClientCredentials" in _ways(each[2])]
    assert len(limited) > 20
    for path, method, operation in limited:
        refusal = operation["responses"]["429"]
        assert {*LIMIT_HEADERS, "Retry-After"} <= set(refusal["headers"]), f"{method} {path}"
        assert PROBLEM in refusal["content"], f"{method} {path}"
        if path in OAUTH:
            assert set(refusal["content"][PROBLEM]["example"]) >= {"error", "error_description", "detail"}
        without = [status for status, answer in operation["responses"].items() if not _headers(answer) >= LIMIT_HEADERS]
        # Whoever sends events and is not known, or may not, has no bucket that could be told of.
        assert without == ([] if path not in (SINGLE, BATCH) else ["401", "403"]), f"{method} {path}"


def _ways(operation: dict[str, Any]) -> set[str]:
    return {name for way in operation.get("security", ()) for name in way}


def _headers(answer: dict[str, Any]) -> set[str]:
    return set(answer.get("headers", ()))
