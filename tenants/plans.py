"""Plans, and what a tenant may do by its plan and its own overrides. Refuses to own enforcement.

The plans themselves are rows of `plans`; `free`, `standard` and `enterprise` come with the first migration and stay.
Changes need sluice_auth; each writes its audit entry, and its caller commits.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.errors import ConflictError, Fault, InvalidError, NotFoundError
from tenants.audit import Action, record
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.audit import Actor

BUILT_IN = ("free", "standard", "enterprise")
MAX_RATE = 1e9
MAX_BURST = 2**31 - 1  # PostgreSQL's integer
MAX_QUOTA = 2**63 - 1  # its bigint
MAX_SHARDS = 64
EVENT_BYTES = (1024, 65536)
RETENTION_DAYS = (7, 36500)
"""At least the time within which an event id that is sent again counts once (docs/api.md)."""
PLAN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

EFFECTIVE_LIMITS = """
    coalesce(t.events_per_second, p.events_per_second) as events_per_second,
    coalesce(t.burst, p.burst) as burst,
    p.max_event_bytes,
    t.shards
"""
"""Columns of `TenantLimits`, in its order, from `tenants t join plans p using (plan_id)`: the only place that says how
an override and a plan make a limit. The shards are those in force: the plan's, once the tenant was moved there."""

QUOTA_WARN = "warn"
QUOTA_REFUSE = "refuse"

_PLANS = text("""
    select plan_id, events_per_second, burst, max_event_bytes, shards, retention_days, monthly_quota, at_quota
    from plans order by events_per_second, plan_id
""")
_HOLD = text("select 1 from plans where plan_id = :plan_id for key share")
_SET = text("""
    insert into plans
        (plan_id, events_per_second, burst, max_event_bytes, shards, retention_days, monthly_quota, at_quota)
    values
        (:plan_id, :events_per_second, :burst, :max_event_bytes, :shards, :retention_days, :monthly_quota, :at_quota)
    on conflict (plan_id) do update set
        events_per_second = excluded.events_per_second, burst = excluded.burst,
        max_event_bytes = excluded.max_event_bytes, shards = excluded.shards,
        retention_days = excluded.retention_days, monthly_quota = excluded.monthly_quota, at_quota = excluded.at_quota
    returning xmax = 0 as made
""")
_DELETE = text("delete from plans where plan_id = :plan_id returning plan_id")


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may send. `shards`: how many Kafka keys its users are spread over (`app.events.record`)."""

    events_per_second: float
    burst: int
    max_event_bytes: int
    shards: int


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """A client's own bucket, within its tenant's: events per second, and at once."""

    events_per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """The slow part of a plan. `monthly_quota`: events stored per calendar month (UTC), None: no quota; `at_quota`:
    `refuse` more events, or only `warn`. `retention_days` None: kept for ever.
    """

    retention_days: int | None
    monthly_quota: int | None
    at_quota: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One row of `plans`."""

    plan_id: str
    limits: TenantLimits
    allowance: Allowance


async def known_plans(connection: AsyncConnection) -> dict[str, Plan]:
    """Every plan by its id, the smallest first."""
    rows = (await connection.execute(_PLANS)).all()
    return {
        row.plan_id: Plan(
            row.plan_id,
            TenantLimits(row.events_per_second, row.burst, row.max_event_bytes, row.shards),
            Allowance(row.retention_days, row.monthly_quota, row.at_quota),
        )
        for row in rows
    }


async def hold_plan(connection: AsyncConnection, plan_id: str) -> bool:
    """Whether there is such a plan; then nobody can delete it until the commit."""
    # NUL can't even be asked for.
    return "\0" not in plan_id and (await connection.execute(_HOLD, {"plan_id": plan_id})).one_or_none() is not None


async def set_plan(connection: AsyncConnection, plan: Plan, actor: Actor) -> bool:
    """Make the plan, or change it for all tenants that have it; True if it is new.

    Raises:
        InvalidError: names every member that can't be.
    """
    if faults := _faults(plan):
        raise InvalidError("The plan is not valid.", tuple(faults))
    detail = members(plan.limits, plan.allowance)
    made = (await connection.execute(_SET, {"plan_id": plan.plan_id, **detail})).scalar_one()
    await record(connection, PLATFORM_TENANT_ID, actor, Action("plan.set", plan.plan_id, detail))
    return bool(made)


async def delete_plan(connection: AsyncConnection, plan_id: str, actor: Actor) -> None:
    """Delete a plan of your own.

    Raises:
        NotFoundError: there is no such plan.
        ConflictError: it came with Sluice, or a tenant has it.
    """
    if plan_id in BUILT_IN:
        raise ConflictError(f"The plan {plan_id} came with Sluice; it can be changed but not deleted.")
    if not PLAN_ID.fullmatch(plan_id):
        raise no_such_plan(plan_id)
    try:
        deleted = (await connection.execute(_DELETE, {"plan_id": plan_id})).one_or_none()
    except IntegrityError:  # the foreign key of tenants, the only one
        raise ConflictError(f"A tenant has the plan {plan_id}; give it another one first.") from None
    if deleted is None:
        raise no_such_plan(plan_id)
    await record(connection, PLATFORM_TENANT_ID, actor, Action("plan.deleted", plan_id))


def no_such_plan(plan_id: str) -> NotFoundError:
    """The one way in which an unknown plan is answered."""
    return NotFoundError(f"There is no plan {plan_id}.")


def members(limits: TenantLimits, allowance: Allowance) -> dict[str, Any]:
    """What a plan is made of, by the names that JSON and the audit log use."""
    return {
        "events_per_second": limits.events_per_second,
        "burst": limits.burst,
        "max_event_bytes": limits.max_event_bytes,
        "shards": limits.shards,
        "retention_days": allowance.retention_days,
        "monthly_quota": allowance.monthly_quota,
        "at_quota": allowance.at_quota,
    }


def _faults(plan: Plan) -> list[Fault]:
    rate = plan.limits.events_per_second
    least, most = EVENT_BYTES
    wrong = {
        "plan_id": (not PLAN_ID.fullmatch(plan.plan_id), "must be 1 to 64 of a-z, 0-9, - and _, not - or _ first"),
        "events_per_second": (
            not (math.isfinite(rate) and 0 < rate <= MAX_RATE),
            f"must be above 0 and at most {MAX_RATE:g}",
        ),
        "burst": (not 1 <= plan.limits.burst <= MAX_BURST, f"must be 1 to {MAX_BURST} events"),
        "max_event_bytes": (not least <= plan.limits.max_event_bytes <= most, f"must be {least} to {most}"),
        "shards": (not 1 <= plan.limits.shards <= MAX_SHARDS, f"must be 1 to {MAX_SHARDS}"),
        "retention_days": (
            not _within(plan.allowance.retention_days, *RETENTION_DAYS),
            f"must be {RETENTION_DAYS[0]} to {RETENTION_DAYS[1]}, or null",
        ),
        "monthly_quota": (
            not _within(plan.allowance.monthly_quota, 1, MAX_QUOTA),
            f"must be 1 to {MAX_QUOTA}, or null",
        ),
        "at_quota": (
            plan.allowance.at_quota not in {QUOTA_WARN, QUOTA_REFUSE},
            f"must be {QUOTA_WARN} or {QUOTA_REFUSE}",
        ),
    }
    return [Fault(f"/{member}", detail) for member, (is_wrong, detail) in wrong.items() if is_wrong]


def _within(value: int | None, least: int, most: int) -> bool:
    return value is None or least <= value <= most
