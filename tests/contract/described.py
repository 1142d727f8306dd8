"""Schemas of the OpenAPI document, used to check examples and answers."""

from __future__ import annotations

from typing import Any

OAUTH = {"/oauth/token", "/oauth/revoke", "/oauth/introspect"}


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """`schema` as a document of its own, in which references into the components still lead somewhere."""
    return {**schema, "components": document["components"]}
