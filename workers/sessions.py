"""A transaction of a worker, or of a command in its role, that sees one tenant, over an engine's pool."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_BIND = text("select set_config('app.tenant_ids', :tenant_ids, true)")


@asynccontextmanager
async def one_tenant(engine: AsyncEngine, tenant_id: UUID) -> AsyncIterator[AsyncConnection]:
    """Row security shows `tenant_id`'s rows; commits at the end, once. `engine` logs in as sluice_worker."""
    async with engine.begin() as connection:
        await connection.execute(_BIND, {"tenant_ids": f"{{{tenant_id}}}"})
        yield connection
