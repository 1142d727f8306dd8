"""The OpenAPI document, as a running API serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.system import System


@pytest.fixture(scope="session")
async def document(system: System) -> dict[str, Any]:
    async with system.client() as client:
        loaded: dict[str, Any] = (await client.get("/openapi.json")).json()
    return loaded
