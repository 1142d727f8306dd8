"""From when to when there are events: in quarters of an hour and to the microsecond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.reads.buckets import QUARTER
from app.reads.tallies import aggregates, events, of_window, quarters_of_window

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.reads.window import Window


@dataclass(frozen=True)
class Extent:
    """Every event of a window lies in [started_at, ended_at), both quarters of an hour that hold one."""

    started_at: datetime
    ended_at: datetime


async def extent_of(connection: AsyncConnection, tenant_id: UUID, window: Window) -> Extent | None:
    """The quarters of an hour from the window's first event to its last; None: no events.

    Reads the aggregates, so the answer does not depend on retention. At a partial edge it may name a quarter
    whose events lie outside the window.
    """
    quarter = aggregates.c.bucket
    statement = select(func.min(quarter), func.max(quarter)).where(*quarters_of_window(tenant_id, window))
    first, last = (await connection.execute(statement)).one()
    return None if first is None else Extent(first, last + QUARTER)


async def first_and_last(
    connection: AsyncConnection, tenant_id: UUID, window: Window
) -> tuple[datetime | None, datetime | None]:
    """The timestamps of the first and the last stored event in `window`; quick where that is narrow."""
    own = select(events.c.timestamp).where(*of_window(tenant_id, window, window.started_at, window.ended_at)).limit(1)
    earliest = own.order_by(events.c.timestamp).scalar_subquery()
    latest = own.order_by(events.c.timestamp.desc()).scalar_subquery()
    first, last = (await connection.execute(select(earliest, latest))).one()
    return first, last
