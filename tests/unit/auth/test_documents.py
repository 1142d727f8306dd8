"""What the server says about itself: RFC 8414 metadata, and the OpenAPI entries."""

from __future__ import annotations

from typing import Annotated, Any

from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from fastapi import FastAPI

from auth.dependencies import EventsReader, PlatformAdmin
from auth.endpoints import router
from auth.metadata import metadata
from auth.scopes import SCOPES


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
    told.validate_token_endpoint_auth_methods_supported()
    told.validate_service_documentation()


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
    assert schema["properties"].keys() == {"grant_type", "client_id", "client_secret", "scope"}
    assert entry["security"] == [{"ClientSecretBasic": []}, {}]
    told = {
        example["value"]["error"]
        for answer in entry["responses"].values()
        for example in answer["content"]["application/json"].get("examples", {}).values()
    }
    assert told == {
        "invalid_request",
        "unsupported_grant_type",
        "invalid_scope",
        "unauthorized_client",
        "invalid_client",
        "temporarily_unavailable",
    }
    assert "422" not in entry["responses"]
