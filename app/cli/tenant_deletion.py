"""`sluice tenants delete`: asks, requests it and watches the receipt. Owns arguments and output; the `maintain` worker
removes what is stored.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.cli.failure import CommandError
from app.cli.operation import Json, operate, printable
from app.settings import OperatorSettings
from tenants import records
from tenants.audit import Actor
from tenants.deletion import read_deletion, request_deletion

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tenants.deletion import Deletion
    from tenants.records import Tenant

PATIENCE_SECONDS = 20.0
"""For a worker to take it; then nobody does."""
LOOK_SECONDS = 0.25
_STEPS = {
    "requested": "waiting for a worker",
    "rows": "PostgreSQL",
    "index": "Elasticsearch",
    "cache": "Redis",
    "verify": "looking again",
}


def delete(
    tenant_id: Annotated[UUID, typer.Argument(help="As printed by `create` and `list`.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Don't wait for the end.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a tenant with all its data, everywhere. It can't be undone.

    The tenant is refused at once. Exit status 0: all of it is gone, and that was verified; Kafka's retention removes
    the log's copy by the date that is printed. 1: no `maintain` worker runs, and the deletion waits for one.
    """
    settings = OperatorSettings.load()
    tenant = operate(settings, lambda engine: _find(engine, tenant_id))
    question = f"Delete the tenant {tenant.name!r} ({tenant_id}) with all its data? It can't be undone."
    if not yes and not typer.confirm(question, err=True):
        raise CommandError("Nothing was deleted.")
    told = operate(settings, lambda engine: _delete(engine, tenant_id, wait=not no_wait, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(fields(told)))
        return
    console = Console(highlight=False)
    if told.finished_at is None:
        console.print(f"The deletion goes on by itself; `sluice tenants show {tenant_id}` says how far it is.")
        return
    removed = ", ".join(f"{place} {count:,}" for place, count in sorted(told.deleted.items()))
    until = "for ever" if told.kafka_until is None else f"until {told.kafka_until:%Y-%m-%d %H:%M} UTC"
    console.print(f"{printable(tenant.name)} is deleted: {removed or 'there was nothing'}.", soft_wrap=True)
    console.print(f"Kafka may hold its records {until}.")


def fields(deletion: Deletion) -> dict[str, Any]:
    """A receipt as JSON."""
    return {
        "tenant_id": str(deletion.tenant_id),
        "requested_at": deletion.requested_at.isoformat().replace("+00:00", "Z"),
        "step": deletion.step,
        "total": deletion.total,
        "deleted": dict(deletion.deleted),
        "kafka_until": deletion.kafka_until and deletion.kafka_until.isoformat().replace("+00:00", "Z"),
        "finished_at": deletion.finished_at and deletion.finished_at.isoformat().replace("+00:00", "Z"),
        "problem": deletion.problem,
    }


async def _find(engine: AsyncEngine, tenant_id: UUID) -> Tenant:
    async with engine.connect() as connection:
        return await records.find_tenant(connection, tenant_id)


async def _delete(engine: AsyncEngine, tenant_id: UUID, *, wait: bool, quiet: bool) -> Deletion:
    async with engine.begin() as connection:
        told = await request_deletion(connection, tenant_id, Actor.operator())
    if not wait:
        return told
    deadline = time.monotonic() + PATIENCE_SECONDS
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        bar = progress.add_task("Deleting", total=None)
        while told.finished_at is None:
            if told.step == "requested" and time.monotonic() > deadline:
                raise CommandError(
                    "No worker has begun with it; the deletion goes on by itself when `sluice worker maintain` runs."
                )
            await asyncio.sleep(LOOK_SECONDS)
            async with engine.connect() as connection:
                told = await read_deletion(connection, tenant_id)
            description = printable(told.problem or f"Deleting: {_STEPS.get(told.step, told.step)}")
            progress.update(bar, description=description, total=told.total, completed=sum(told.deleted.values()))
    return told
