"""Plans, and what a tenant may do by its plan and its own overrides. Refuses to own enforcement.

The plans themselves are rows of `plans`; `free`, `standard` and `enterprise` come with the first migration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

EFFECTIVE_LIMITS = """
    coalesce(t.events_per_second, p.events_per_second) as events_per_second,
    coalesce(t.burst, p.burst) as burst,
    p.max_event_bytes,
    p.shards
"""
"""Columns of `TenantLimits`, in its order, from `tenants t join plans p using (plan_id)`: the only place that says how
an override and a plan make a limit."""

_PLANS = text("""
    select plan_id, events_per_second, burst, max_event_bytes, shards, retention_days
    from plans order by events_per_second, plan_id
""")


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may send. `shards`: how many Kafka keys its users are spread over (`app.events.record`)."""

    events_per_second: float
    burst: int
    max_event_bytes: int
    shards: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`retention_days` None: kept for ever."""

    plan_id: str
    limits: TenantLimits
    retention_days: int | None


async def known_plans(connection: AsyncConnection) -> dict[str, Plan]:
    """Every plan by its id, the smallest first."""
    rows = (await connection.execute(_PLANS)).all()
    return {
        row.plan_id: Plan(
            row.plan_id,
            TenantLimits(row.events_per_second, row.burst, row.max_event_bytes, row.shards),
            row.retention_days,
        )
        for row in rows
    }
