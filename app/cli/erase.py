"""`sluice erase`: asks that a user be erased and watches the receipt, or lists receipts. Owns arguments and output; the
`maintain` worker removes what is stored.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from app.cli.failure import CommandError
from app.cli.operation import Json, operate, printable
from app.errors import ConflictError, Fault, InvalidError
from app.events.model import MAX_TEXT_LENGTH
from app.recovery.erasures import list_erasures, read_erasure, request_erasure
from app.settings import OperatorSettings
from tenants import records
from tenants.audit import Actor
from tenants.pages import PageAsked
from tenants.records import DELETED, DELETING

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.recovery.erasures import Erasure

PATIENCE_SECONDS = 20.0
"""For a worker to take it; then nobody does."""
LOOK_SECONDS = 0.25
LISTED = 100
_STEPS = {
    "requested": "waiting for a worker",
    "rows": "PostgreSQL",
    "letters": "dead letters",
    "index": "Elasticsearch",
    "cache": "Redis",
    "verify": "looking again",
}


def erase(
    user: Annotated[str | None, typer.Argument(help="The user's id, as in the events.", show_default=False)] = None,
    *,
    tenant: Annotated[UUID, typer.Option(help="Whose user: the tenant's id.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the tenant's last receipts instead.")] = False,
    as_json: Json = False,
) -> None:
    """Erase a user of a tenant: every event that was received until now, wherever it is kept. It can't be undone.

    The receipt says how far it is, and until when Kafka holds the log's copy; the audit log has a hash in place of the
    user. Events that are received from now on are stored as ever. Exit status 0: it was asked for, or with --wait it is
    done. 1: no `maintain` worker runs, and the erasure waits for one.
    """
    if (user is None) != list_:
        raise typer.BadParameter("Say which user, or --list.")
    settings = OperatorSettings.load()
    if user is None:
        receipts = operate(settings, lambda engine: _listed(engine, tenant))
        _print(receipts, as_json=as_json)
        return
    if "\0" in user or not 0 < len(user) <= MAX_TEXT_LENGTH:
        raise InvalidError(
            "The user id is not valid.", (Fault("/user", f"must have 1 to {MAX_TEXT_LENGTH} characters"),)
        )
    told = operate(settings, lambda engine: _erase(engine, tenant, user, wait=wait, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(fields(told)))
        return
    console = Console(highlight=False)
    if told.finished_at is None:
        console.print(f"The erasure {told.erasure_id} goes on by itself; `sluice erase --list` says how far it is.")
        return
    removed = ", ".join(f"{place} {count:,}" for place, count in sorted(told.deleted.items()))
    until = "for ever" if told.kafka_until is None else f"until {told.kafka_until:%Y-%m-%d %H:%M} UTC"
    console.print(f"{printable(user)} is erased: {removed or 'there was nothing'}.", soft_wrap=True)
    console.print(f"Kafka may hold the records {until}.")


def fields(erasure: Erasure) -> dict[str, Any]:
    """A receipt as JSON."""
    return {
        "erasure_id": str(erasure.erasure_id),
        "user_hash": erasure.user_hash,
        "cut_at": _told(erasure.cut_at),
        "step": erasure.step,
        "deleted": dict(erasure.deleted),
        "kafka_until": erasure.kafka_until and _told(erasure.kafka_until),
        "finished_at": erasure.finished_at and _told(erasure.finished_at),
        "problem": erasure.problem,
    }


def _told(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def _listed(engine: AsyncEngine, tenant_id: UUID) -> list[Erasure]:
    async with engine.connect() as connection:
        await records.find_tenant(connection, tenant_id)
        found, _ = await list_erasures(connection, tenant_id, PageAsked(LISTED))
    return found


async def _erase(engine: AsyncEngine, tenant_id: UUID, user_id: str, *, wait: bool, quiet: bool) -> Erasure:
    async with engine.begin() as connection:
        tenant = await records.find_tenant(connection, tenant_id)
        if tenant.status in {DELETING, DELETED}:
            raise ConflictError(f"The tenant {tenant_id} is {tenant.status}.")
        told = await request_erasure(connection, tenant_id, user_id, Actor.operator())
    if not wait:
        return told
    deadline = time.monotonic() + PATIENCE_SECONDS
    with Console(stderr=True, quiet=quiet).status("Erasing") as status:
        while told.finished_at is None:
            if told.step == "requested" and time.monotonic() > deadline:
                raise CommandError(
                    "No worker has begun with it; the erasure goes on by itself when `sluice worker maintain` runs."
                )
            await asyncio.sleep(LOOK_SECONDS)
            async with engine.connect() as connection:
                told = await read_erasure(connection, tenant_id, told.erasure_id)
            status.update(printable(told.problem or f"Erasing: {_STEPS.get(told.step, told.step)}"))
    return told


def _print(receipts: list[Erasure], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([fields(receipt) for receipt in receipts]))
        return
    table = Table("erasure", "received until", "step", "removed", "Kafka until", "waits for")
    for receipt in receipts:
        table.add_row(
            str(receipt.erasure_id),
            f"{receipt.cut_at:%Y-%m-%d %H:%M:%S}",
            receipt.step,
            f"{sum(receipt.deleted.values()):,}",
            ""
            if receipt.finished_at is None
            else "ever"
            if receipt.kafka_until is None
            else f"{receipt.kafka_until:%Y-%m-%d}",
            printable(receipt.problem or ""),
        )
    Console().print(table)
