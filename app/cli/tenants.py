"""`sluice tenants …`: making tenants and looking at them. Owns arguments and output; `tenants.lifecycle` does it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from app.cli.failure import CommandError
from app.database import create_engine
from app.settings import OperatorSettings
from tenants import lifecycle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tenants.lifecycle import Tenant, TenantClient

app = typer.Typer(name="tenants", help="Create tenants and look at them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
T = TypeVar("T")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call it; need not be unique.")],
    plan: Annotated[str, typer.Option(help="free, standard, enterprise or one of your own.")] = "standard",
    rate: Annotated[float | None, typer.Option(help="Events per second, instead of the plan's.")] = None,
    burst: Annotated[int | None, typer.Option(help="Events at once, instead of the plan's.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Create a tenant with a first client that may send, read and manage. Its secret is shown once."""
    settings = OperatorSettings.load()
    created = _run(
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
    console.print(f"Tenant [bold]{_escape(name)}[/bold] is ready. The secret is shown only now: keep it.")
    for field, value in fields.items():
        console.print(f"  {field:<14}{value}", soft_wrap=True)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List every tenant with its effective limits, the oldest first."""
    tenants = _run(OperatorSettings.load(), lifecycle.list_tenants)
    if as_json:
        typer.echo(json.dumps([_tenant_fields(tenant) for tenant in tenants]))
        return
    table = Table("tenant_id", "name", "plan", "status", "events/s", "burst", "created")
    for tenant in tenants:
        limits = tenant.limits
        table.add_row(
            str(tenant.tenant_id),
            _escape(tenant.name),
            tenant.plan,
            tenant.status,
            f"{limits.events_per_second:g}",
            str(limits.burst),
            f"{tenant.created_at:%Y-%m-%d}",
        )
    Console().print(table)


@app.command()
def show(
    tenant_id: Annotated[UUID, typer.Argument(help="As printed by `create` and `list`.")], *, as_json: Json = False
) -> None:
    """Show one tenant: its limits and its clients."""
    tenant, clients = _run(OperatorSettings.load(), lambda engine: lifecycle.show(engine, tenant_id))
    if as_json:
        typer.echo(json.dumps(_tenant_fields(tenant) | {"clients": [_client_fields(client) for client in clients]}))
        return
    console = Console(highlight=False)
    for field, value in _tenant_fields(tenant).items():
        console.print(f"{field:<18} {_escape(str(value))}", soft_wrap=True)
    table = Table("client_id", "name", "scopes", "revoked")
    for client in clients:
        revoked = f"{client.revoked_at:%Y-%m-%d %H:%M}" if client.revoked_at else ""
        table.add_row(client.client_id, _escape(client.name), " ".join(client.scopes), revoked)
    console.print(table)


def _run(settings: OperatorSettings, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """`work` with an engine that logs in as sluice_auth."""

    async def with_engine() -> T:
        engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(with_engine())
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise CommandError(f"PostgreSQL does not answer: {cause}") from error


def _tenant_fields(tenant: Tenant) -> dict[str, Any]:
    limits = tenant.limits
    return {
        "tenant_id": str(tenant.tenant_id),
        "name": tenant.name,
        "plan": tenant.plan,
        "status": tenant.status,
        "created_at": tenant.created_at.isoformat().replace("+00:00", "Z"),
        "events_per_second": limits.events_per_second,
        "burst": limits.burst,
        "max_event_bytes": limits.max_event_bytes,
        "shards": limits.shards,
    }


def _client_fields(client: TenantClient) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "scopes": list(client.scopes),
        "created_at": client.created_at.isoformat().replace("+00:00", "Z"),
        "revoked_at": client.revoked_at and client.revoked_at.isoformat().replace("+00:00", "Z"),
    }


def _escape(value: str) -> str:
    """A name is someone else's text: no Rich markup, no control characters for the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value).replace("[", r"\[")
