"""Plans made for a test, and clients with a bucket of their own, written past the API."""

from __future__ import annotations

import secrets
from typing import Any

from tests.system import MadeTenant, System


async def on_plan(system: System, tenant: MadeTenant, **columns: Any) -> str:
    """Put the tenant on a fresh plan with these columns of `plans`; returns the plan's id."""
    plan_id = f"p{secrets.token_hex(6)}"
    values = {"plan_id": plan_id, "events_per_second": 1e6, "burst": 1_000_000, **columns}
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await system.fetch(f"insert into plans ({', '.join(values)}) values ({places})", *values.values())  # noqa: S608
    await system.fetch(
        "update tenants set plan_id = $1, events_per_second = null, burst = null where tenant_id = $2",
        plan_id,
        tenant.tenant_id,
    )
    return plan_id


async def own_bucket(system: System, tenant: MadeTenant, rate: float | None, burst: int | None) -> None:
    """Give the tenant's first client a bucket of its own, or take it away."""
    await system.fetch(
        "update oauth_clients set events_per_second = $1, burst = $2 where client_id = $3",
        rate, burst, tenant.client_id,
    )  # fmt: skip
