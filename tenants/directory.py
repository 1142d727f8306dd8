"""What each process knows of tenants and clients without asking: who is active, and what a tenant may send.

PostgreSQL is the truth. Each change there raises `control_version` in its own transaction; `run` looks at that one
row every 250 ms and reads everything again when it moved. While PostgreSQL does not answer, the last known set
holds. Refuses to own enforcement. Reading all of it is meant for some ten thousand tenants.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog
from sqlalchemy import text

from tenants.plans import EFFECTIVE_LIMITS, TenantLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["Directory", "TenantLimits"]

POLL_SECONDS = 0.25
PIECE = 500
LOOK_TIMEOUT_SECONDS = 5.0
"""A server that is frozen rather than gone does not refuse; after this the look has failed."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_VERSION = text("select version from control_version")
_TENANTS = text(f"""
    select t.tenant_id, {EFFECTIVE_LIMITS} from tenants t join plans p using (plan_id) where t.status = 'active'
""")  # noqa: S608  a constant of this project
_CLIENTS = text("""
    select c.tenant_id, c.client_id from oauth_clients c join tenants t using (tenant_id)
    where c.revoked_at is null and t.status = 'active'
""")


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One moment of the database, never changed: readers in the middle of a request see all of it or none."""

    version: int
    limits: Mapping[UUID, TenantLimits]
    clients: AbstractSet[tuple[UUID, str]]


class Directory:
    """Active tenants and clients, in memory. Made by `load`, kept current by `run`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._snapshot = _Snapshot(-1, {}, frozenset())
        self._told: dict[Callable[[], Awaitable[None]], int] = {}
        self._looking = asyncio.Lock()
        self.last_refreshed = -float("inf")
        """When the latest answered look began, by `time.monotonic`: all that was committed before it is known."""
        self.last_refreshed_at = 0.0
        """The same moment in seconds since 1970."""

    @classmethod
    async def load(cls, engine: AsyncEngine) -> Self:
        """A directory filled from PostgreSQL; `engine` logs in as sluice_auth."""
        directory = cls(engine)
        await directory.refresh()
        return directory

    def limits(self, tenant_id: UUID) -> TenantLimits | None:
        """What the tenant may send; None if it is unknown or suspended."""
        return self._snapshot.limits.get(tenant_id)

    def admits(self, tenant_id: UUID, client_id: str) -> bool:
        """Whether the client exists, is not revoked, and its tenant is active."""
        return (tenant_id, client_id) in self._snapshot.clients

    def on_change(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Call `listener` after each change of `control_version`. Raising fails the look, and the next calls again."""
        self._told[listener] = -1

    async def refresh(self) -> None:
        """Look at PostgreSQL now. Callers that wait for a look that began after they asked share it.

        Raises:
            OSError, TimeoutError, SQLAlchemyError: PostgreSQL does not answer; what was known still holds.
        """
        asked = time.monotonic()
        async with self._looking:
            if self.last_refreshed >= asked:
                return
            began, began_at = time.monotonic(), time.time()
            async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                await self._look()
            self.last_refreshed, self.last_refreshed_at = began, began_at

    async def run(self) -> None:
        """Look every 250 ms until cancelled. An outage is logged once when it begins and once when it ends."""
        failing = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001  whatever it is: who stops looking never learns of a revocation
                if not failing:
                    log.warning(
                        "tenants are as last known: PostgreSQL does not answer", error=str(error) or repr(error)
                    )
                failing = True
            else:
                if failing:
                    log.info("tenants are current again")
                failing = False

    async def _look(self) -> None:
        async with self._engine.connect() as connection:
            # One snapshot for all statements, so that tenants and clients belong to the version they are filed under.
            await connection.execution_options(isolation_level="REPEATABLE READ")
            version = await connection.scalar(_VERSION)
            if version != self._snapshot.version:
                self._snapshot = await _read(connection, version)
        for listener, told in self._told.items():
            if told != version:
                await listener()
                self._told[listener] = version


async def _read(connection: AsyncConnection, version: int) -> _Snapshot:
    # In pieces: requests go on between them, however many tenants there are.
    limits: dict[UUID, TenantLimits] = {}
    async for rows in (await connection.stream(_TENANTS)).partitions(PIECE):
        limits.update((row[0], TenantLimits(*row[1:])) for row in rows)
    clients: set[tuple[UUID, str]] = set()
    async for rows in (await connection.stream(_CLIENTS)).partitions(PIECE):
        clients.update((row[0], row[1]) for row in rows)
    return _Snapshot(version, limits, clients)
