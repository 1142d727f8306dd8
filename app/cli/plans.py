"""`sluice plans …`: what tenants may do, by name. Owns arguments and output; `tenants.plans` does it."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli.operation import Json, operate
from app.settings import OperatorSettings
from tenants import plans
from tenants.audit import Actor
from tenants.plans import EVENT_BYTES, QUOTA_REFUSE, QUOTA_WARN, Allowance, Plan, TenantLimits, members

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

app = typer.Typer(
    name="plans",
    help="List, set and delete plans. `free`, `standard` and `enterprise` come with Sluice: they can be changed, not "
    "deleted.",
    no_args_is_help=True,
)

PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="1 to 64 of a-z, 0-9, - and _.")]


class AtQuota(StrEnum):
    """What happens to events at the monthly quota."""

    WARN = QUOTA_WARN
    REFUSE = QUOTA_REFUSE


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List every plan, the smallest first."""
    known = operate(OperatorSettings.load(), _known)
    if as_json:
        typer.echo(json.dumps([_fields(plan) for plan in known]))
        return
    table = Table("plan", "events/s", "burst", "event bytes", "shards", "kept for", "a month", "at quota")
    for plan in known:
        limits, allowance = plan.limits, plan.allowance
        table.add_row(
            plan.plan_id,
            f"{limits.events_per_second:g}",
            str(limits.burst),
            str(limits.max_event_bytes),
            str(limits.shards),
            "ever" if allowance.retention_days is None else f"{allowance.retention_days} days",
            "" if allowance.monthly_quota is None else f"{allowance.monthly_quota:,}",
            "" if allowance.monthly_quota is None else allowance.at_quota,
        )
    Console().print(table)


@app.command("set")
def set_(
    plan_id: PlanId,
    *,
    rate: Annotated[float, typer.Option(help="Events per second.")],
    burst: Annotated[int, typer.Option(help="Events at once.")],
    max_event_bytes: Annotated[int, typer.Option(help="The largest event.")] = EVENT_BYTES[1],
    shards: Annotated[int, typer.Option(help="Kafka keys that a tenant's users are spread over.")] = 1,
    retention_days: Annotated[int | None, typer.Option(help="At least 7. Left out: kept for ever.")] = None,
    monthly_quota: Annotated[int | None, typer.Option(help="Events stored a month (UTC). Left out: no quota.")] = None,
    at_quota: Annotated[AtQuota, typer.Option(help="Refuse events at the quota, or only warn.")] = AtQuota.WARN,
    as_json: Json = False,
) -> None:
    """Make a plan, or change it for all tenants that have it, within a second. What is left out gets its default."""
    limits = TenantLimits(rate, burst, max_event_bytes, shards)
    plan = Plan(plan_id, limits, Allowance(retention_days, monthly_quota, at_quota.value))

    async def work(engine: AsyncEngine) -> bool:
        async with engine.begin() as connection:
            return await plans.set_plan(connection, plan, Actor.operator())

    made = operate(OperatorSettings.load(), work)
    if as_json:
        typer.echo(json.dumps(_fields(plan)))
    else:
        typer.echo(f"The plan {plan_id} {'is ready' if made else 'is changed'}.")


@app.command()
def delete(plan_id: PlanId, *, as_json: Json = False) -> None:
    """Delete a plan of your own that no tenant has."""

    async def work(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await plans.delete_plan(connection, plan_id, Actor.operator())

    operate(OperatorSettings.load(), work)
    typer.echo(json.dumps({"plan_id": plan_id}) if as_json else f"The plan {plan_id} is deleted.")


async def _known(engine: AsyncEngine) -> list[Plan]:
    async with engine.connect() as connection:
        return list((await plans.known_plans(connection)).values())


def _fields(plan: Plan) -> dict[str, Any]:
    return {"plan_id": plan.plan_id, **members(plan.limits, plan.allowance)}
