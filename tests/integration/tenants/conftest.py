"""Engines and settings over the session's migrated database, and over one of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from app.database import create_engine
from tenants.lifecycle import CreatedTenant, create_tenant
from tests.integration.tenants.seeded import seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database


@pytest.fixture(scope="session")
def settings(database: Database) -> GatewaySettings:
    return database.settings()


@pytest.fixture(scope="session")
async def auth_engine(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database.auth_url, pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def empty(new_database: Callable[[], AbstractAsyncContextManager[Database]]) -> AsyncIterator[Database]:
    """A migrated database in which nothing was made yet."""
    async with new_database() as made:
        yield made


@pytest.fixture(scope="module")
async def admin(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The administrator's connection: past row security."""
    connection = await asyncpg.connect(database.admin_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def tenants(
    admin: asyncpg.Connection, auth_engine: AsyncEngine, settings: GatewaySettings
) -> list[CreatedTenant]:
    """Two tenants with a row in each table that holds tenants' rows."""
    made = [await create_tenant(auth_engine, settings, "acme", "free") for _ in range(2)]
    for tenant in made:
        await seed(admin, tenant)
    await admin.execute("analyze")
    return made
