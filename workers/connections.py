"""The `maintain` worker's connections, one a role, and transactions on them that see one tenant."""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from app.database import connect
from workers.store import bind_tenants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import asyncpg

    from app.settings import MaintainSettings

_HOLD = "select 1 from tenant_deletions where tenant_id = $1 for update skip locked"


class Role(StrEnum):
    """Events and usage are `WORKER`'s to delete, clients and what belongs to them `AUTH`'s."""

    WORKER = "sluice_worker"
    AUTH = "sluice_auth"


class Connections:
    """Made when they are needed, and again after they were dropped."""

    def __init__(self, settings: MaintainSettings) -> None:
        self._urls = {
            Role.WORKER: settings.postgres_worker_url.get_secret_value(),
            Role.AUTH: settings.postgres_auth_url.get_secret_value(),
        }
        self._open: dict[Role, asyncpg.Connection] = {}

    async def of(self, role: Role) -> asyncpg.Connection:
        connection = self._open.get(role)
        if connection is None or connection.is_closed():
            connection = self._open[role] = await connect(self._urls[role], name="sluice maintain")
        return connection

    @asynccontextmanager
    async def bound(self, role: Role, tenant_id: UUID) -> AsyncIterator[asyncpg.Connection]:
        """A transaction in which row security shows this tenant."""
        connection = await self.of(role)
        async with connection.transaction():
            await bind_tenants(connection, [tenant_id])
            yield connection

    @asynccontextmanager
    async def holding(self, role: Role, tenant_id: UUID) -> AsyncIterator[asyncpg.Connection | None]:
        """As `bound`, and no other process is at this tenant's deletion until the commit; None if one is."""
        async with self.bound(role, tenant_id) as connection:
            yield connection if await connection.fetchval(_HOLD, tenant_id) else None

    def drop(self) -> None:
        """After a fault nothing is known of their state."""
        for connection in self._open.values():
            connection.terminate()
        self._open.clear()

    async def close(self) -> None:
        for connection in self._open.values():
            await connection.close(timeout=2)
