"""`sluice tenants …`: making, showing and changing tenants. Owns arguments and output; `tenants.lifecycle` does it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from app.cli import tenant_deletion
from app.cli.operation import Json, operate, printable
from app.cli.usage import usage
from app.settings import OperatorSettings
from tenants import lifecycle, records
from tenants.audit import Actor
from tenants.deletion import read_deletion
from tenants.plans import members

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from tenants.deletion import Deletion
    from tenants.records import Tenant, TenantClient

app = typer.Typer(name="tenants", help="Create, show, change, suspend and delete tenants.", no_args_is_help=True)

TenantId = Annotated[UUID, typer.Argument(help="As printed by `create` and `list`.")]
Rate = Annotated[float | None, typer.Option(help="Events per second, instead of the plan's.")]
Burst = Annotated[int | None, typer.Option(help="Events at once, instead of the plan's.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call it; need not be unique.")],
    plan: Annotated[str, typer.Option(help="free, standard, enterprise or one of your own.")] = "standard",
    rate: Rate = None,
    burst: Burst = None,
    *,
    as_json: Json = False,
) -> None:
    """Create a tenant with a first client that may send, read and manage. Its secret is shown once."""
    settings = OperatorSettings.load()
    created = operate(
        settings, lambda engine: lifecycle.create_tenant(engine, settings, name, plan, rate=rate, burst=burst)
    )
    fields = {
        "tenant_id": str(created.tenant_id),
        "client_id": created.client_id,
        "client_secret": created.client_secret,
    }
    if as_json:
        typer.echo(json.dumps(fields))
        return
    console = Console(highlight=False)
    console.print(f"Tenant [bold]{printable(name)}[/bold] is ready. The secret is shown only now: keep it.")
    for field, value in fields.items():
        console.print(f"  {field:<14}{value}", soft_wrap=True)


@app.command("list")
def list_(
    *,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that were deleted, instead.")] = False,
    as_json: Json = False,
) -> None:
    """List every tenant with its effective limits, the oldest first."""
    statuses = (records.DELETED,) if deleted else records.NOT_DELETED
    tenants = operate(OperatorSettings.load(), lambda engine: records.list_tenants(engine, statuses))
    if as_json:
        typer.echo(json.dumps([_tenant_fields(tenant) for tenant in tenants]))
        return
    table = Table("tenant_id", "name", "plan", "status", "events/s", "burst", "created")
    for tenant in tenants:
        limits = tenant.limits
        table.add_row(
            str(tenant.tenant_id),
            printable(tenant.name),
            tenant.plan,
            tenant.status,
            f"{limits.events_per_second:g}",
            str(limits.burst),
            f"{tenant.created_at:%Y-%m-%d}",
        )
    Console().print(table)


@app.command()
def show(tenant_id: TenantId, *, as_json: Json = False) -> None:
    """Show one tenant: its limits, its clients, and how far its deletion is if that was asked for."""
    _show(operate(OperatorSettings.load(), lambda engine: _look(engine, tenant_id)), as_json=as_json)


@app.command()
def plan(
    tenant_id: TenantId,
    plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="free, standard, enterprise or one of your own.")],
    rate: Rate = None,
    burst: Burst = None,
    *,
    as_json: Json = False,
) -> None:
    """Put a tenant on a plan. Its own rate and burst are then exactly those given here. Holds within a second."""
    _change(
        tenant_id,
        lambda connection: lifecycle.change_plan(connection, tenant_id, plan_id, rate, burst, Actor.operator()),
        as_json=as_json,
    )


@app.command()
def suspend(tenant_id: TenantId, *, as_json: Json = False) -> None:
    """Refuse a tenant everywhere within a second. What it has sent before is still stored."""
    _change(tenant_id, lambda c: lifecycle.suspend(c, tenant_id, Actor.operator()), as_json=as_json)


@app.command()
def resume(tenant_id: TenantId, *, as_json: Json = False) -> None:
    """Let a suspended tenant go on."""
    _change(tenant_id, lambda c: lifecycle.resume(c, tenant_id, Actor.operator()), as_json=as_json)


app.command("delete")(tenant_deletion.delete)
app.command("usage")(usage)

Look = tuple["Tenant", "Sequence[TenantClient]", "Deletion | None"]


async def _look(engine: AsyncEngine, tenant_id: UUID) -> Look:
    async with engine.connect() as connection:
        tenant = await records.find_tenant(connection, tenant_id)
        going = tenant.status in {records.DELETING, records.DELETED}
        deletion = await read_deletion(connection, tenant_id) if going else None
        return tenant, await records.clients_of(connection, tenant_id), deletion


def _change(tenant_id: UUID, change: Callable[[AsyncConnection], Awaitable[None]], *, as_json: bool) -> None:
    async def work(engine: AsyncEngine) -> Look:
        async with engine.begin() as connection:
            await change(connection)
        return await _look(engine, tenant_id)

    _show(operate(OperatorSettings.load(), work), as_json=as_json)


def _show(look: Look, *, as_json: bool) -> None:
    tenant, clients, deletion = look
    fields = _tenant_fields(tenant) | ({} if deletion is None else {"deletion": tenant_deletion.fields(deletion)})
    if as_json:
        typer.echo(json.dumps(fields | {"clients": [_client_fields(client) for client in clients]}))
        return
    console = Console(highlight=False)
    for field, value in fields.items():
        console.print(f"{field:<18} {printable(str(value))}", soft_wrap=True)
    table = Table("client_id", "name", "scopes", "revoked")
    for client in clients:
        revoked = f"{client.revoked_at:%Y-%m-%d %H:%M}" if client.revoked_at else ""
        table.add_row(client.client_id, printable(client.name), " ".join(client.scopes), revoked)
    console.print(table)


def _tenant_fields(tenant: Tenant) -> dict[str, Any]:
    return {
        "tenant_id": str(tenant.tenant_id),
        "name": tenant.name,
        "plan": tenant.plan,
        "status": tenant.status,
        "created_at": tenant.created_at.isoformat().replace("+00:00", "Z"),
        **members(tenant.limits, tenant.allowance),
        "overrides": {"events_per_second": tenant.own_rate, "burst": tenant.own_burst},
    }


def _client_fields(client: TenantClient) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "scopes": list(client.scopes),
        "created_at": client.created_at.isoformat().replace("+00:00", "Z"),
        "revoked_at": client.revoked_at and client.revoked_at.isoformat().replace("+00:00", "Z"),
    }
