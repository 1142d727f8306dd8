"""How many events a window holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, cast, func, select

from app.reads.tallies import tallies

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.reads.window import Window


async def count_events(connection: AsyncConnection, tenant_id: UUID, window: Window) -> int:
    """The number of the tenant's events in `window`, exact at both edges, in one statement."""
    counted = tallies(tenant_id, window)
    total = await connection.scalar(select(cast(func.coalesce(func.sum(counted.c.count), 0), BigInteger)))
    return int(total or 0)
