"""What the server says about itself: RFC 8414 metadata, and the OpenAPI entries."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from fastapi import FastAPI

from auth.dependencies import EventsReader, PlatformAdmin
from auth.endpoints import router
from auth.metadata import INTROSPECTION_PATH, METADATA_PATH, PATHS, REVOCATION_PATH, metadata
from auth.scopes import SCOPES

AUTHENTICATION = {"client_id", "client_secret", "client_assertion_type", "client_assertion"}
ERRORS = {"invalid_request", "unauthorized_client", "invalid_client", "temporarily_unavailable"}


def document() -> dict[str, Any]:
    app = FastAPI()
    app.include_router(router)

    @app.get("/read")
    async def read(reader: EventsReader) -> str:
        return reader.client_id

    @app.get("/administer")
    async def administer(admin: PlatformAdmin, name: Annotated[str, "ordinary parameter"]) -> str:
        return admin.client_id + name

    return app.openapi()


def test_the_metadata_passes_authlibs_checks_of_rfc_8414() -> None:
    told = AuthorizationServerMetadata(metadata("https://events.example.com"))
    # Authlib also wants a response type; with no authorization endpoint there is none to name, and [] is what is true.
    assert told["response_types_supported"] == []
    for name in ("issuer", "token_endpoint", "jwks_uri", "scopes_supported", "grant_types_supported"):
        getattr(told, f"validate_{name}")()
    for endpoint in PATHS:
        getattr(told, f"validate_{endpoint}_endpoint")()
        getattr(told, f"validate_{endpoint}_endpoint_auth_methods_supported")()
        getattr(told, f"validate_{endpoint}_endpoint_auth_signing_alg_values_supported")()
    told.validate_service_documentation()


def test_the_metadata_names_each_route_that_a_client_authenticates_at_and_no_other() -> None:
    told = metadata("https://events.example.com")
    endpoints = {
        url.removeprefix("https://events.example.com") for name, url in told.items() if "_endpoint" in name[-9:]
    }
    offered = {path for path, entry in document()["paths"].items() if "post" in entry}
    assert endpoints == offered == set(PATHS.values())
    read = {told["jwks_uri"].removeprefix("https://events.example.com"), METADATA_PATH}
    assert read == {path for path in document()["paths"] if path.startswith("/.well-known/")}


def test_urls_are_built_on_the_issuer_with_or_without_a_slash() -> None:
    assert metadata("https://a.example/x/")["token_endpoint"] == "https://a.example/x/oauth/token"
    assert metadata("https://a.example")["jwks_uri"] == "https://a.example/.well-known/jwks.json"


def test_each_route_names_the_scope_that_it_takes() -> None:
    paths = document()["paths"]
    assert paths["/read"]["get"]["security"] == [{"ClientCredentials": ["events:read"]}]
    assert paths["/administer"]["get"]["security"] == [{"ClientCredentials": ["platform:admin"]}]


def test_the_security_scheme_lets_the_docs_page_fetch_a_token() -> None:
    scheme = document()["components"]["securitySchemes"]["ClientCredentials"]
    assert scheme["type"] == "oauth2"
    assert scheme["flows"]["clientCredentials"] == {"tokenUrl": "/oauth/token", "scopes": SCOPES}


def test_the_token_endpoint_is_documented_with_its_form_and_every_error() -> None:
    entry = document()["paths"]["/oauth/token"]["post"]
    schema = entry["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert schema["required"] == ["grant_type"]
    assert schema["properties"].keys() == {"grant_type", "scope", *AUTHENTICATION}
    assert entry["security"] == [{"ClientSecretBasic": []}, {}]
    assert _errors_of(entry) == {*ERRORS, "unsupported_grant_type", "invalid_scope"}
    assert "422" not in entry["responses"]


@pytest.mark.parametrize("path", [REVOCATION_PATH, INTROSPECTION_PATH])
def test_the_endpoints_of_a_token_are_documented_with_their_form_and_every_error(path: str) -> None:
    entry = document()["paths"][path]["post"]
    schema = entry["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert schema["required"] == ["token"]
    assert schema["properties"].keys() == {"token", "token_type_hint", *AUTHENTICATION}
    assert entry["security"] == [{"ClientSecretBasic": []}, {}]
    assert _errors_of(entry) == ERRORS


def _errors_of(entry: dict[str, Any]) -> set[str]:
    return {
        example["value"]["error"]
        for answer in entry["responses"].values()
        for example in answer["content"].get("application/json", {}).get("examples", {}).values()
    }
