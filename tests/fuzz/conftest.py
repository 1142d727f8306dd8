"""A system of its own for hostile input: its tenants may be deleted, its plans changed, its memory watched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.local.servers import Endpoints
from tests.system import System


@pytest_asyncio.fixture(scope="session")
async def attacked(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    running = await System.create(endpoints, tmp_path_factory.mktemp("attacked"), TOKEN_LIFETIME_SECONDS="3600")
    try:
        await running.start("api", "store", "index")
        yield running
    finally:
        running.stop()
