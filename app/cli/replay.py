"""`sluice replay …`: operators send any tenant's stored events again. Owns arguments and output: `app.recovery.replays`
keeps the jobs, with an audit entry that names the system's account, and the worker `replay` does them.
"""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from app.cli import rebuild as from_kafka
from app.cli import replay_run
from app.cli.operation import Json, operate, printable
from app.database import create_engine
from app.errors import ConflictError
from app.recovery import replays
from app.recovery.replay_answers import NewReplayBody, ReplayAnswer, ReplayEstimateAnswer, ReplayMadeAnswer
from app.recovery.replay_orders import order_of
from app.recovery.selection import estimate
from app.settings import OperatorSettings, ReplayCommandSettings, parsed_networks
from auth.credentials import key_bytes
from tenants.audit import Actor
from tenants.pages import MOST_ENTRIES, PageAsked
from tenants.records import DELETED, DELETING, find_tenant
from workers.sessions import one_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.recovery.replays import Order, Replay
    from app.recovery.selection import Estimate

app = typer.Typer(name="replay", no_args_is_help=True)

TenantId = Annotated[UUID, typer.Argument(metavar="TENANT_ID", help="As printed by `sluice tenants list`.")]
ReplayId = Annotated[UUID, typer.Argument(metavar="REPLAY_ID", help="As printed by `start` and `list`.")]


class Target(StrEnum):
    """Where events can go."""

    INDEX = "index"
    KAFKA = "kafka"
    WEBHOOK = "webhook"
    NDJSON = "ndjson"


@app.callback(invoke_without_command=True)
def replay(
    context: typer.Context,
    *,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Restore what is gone from PostgreSQL from what Kafka still holds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send stored events again: to the search index, the Kafka topic `events.replay`, a webhook, or into a file.

    In the order of their timestamps, marked as replayed; nothing is counted again. `sluice worker replay` does it piece
    by piece, also after a restart; after a fault some events may be sent twice.

    `sluice replay --rebuild` is another thing: it writes rows that are gone into PostgreSQL again, each once, and makes
    aggregates, usage and search index agree with them, while everything runs.
    """
    if context.invoked_subcommand is None and rebuild:
        from_kafka.rebuild(as_json=as_json)
    elif context.invoked_subcommand is None or rebuild or as_json:
        raise typer.BadParameter("say --rebuild, with or without --json, or one of the commands, with its own options")


@app.command()
def start(
    tenant: Annotated[UUID, typer.Option(help="Whose events (its id).")],
    to: Annotated[Target, typer.Option(help="Where they go.")],
    *,
    started_at: Annotated[str | None, typer.Option("--from", help="From this date or time (UTC) on.")] = None,
    ended_at: Annotated[str | None, typer.Option("--before", help="Before this date or time (UTC).")] = None,
    event_type: Annotated[str | None, typer.Option(help="Only events of this type.")] = None,
    user_id: Annotated[str | None, typer.Option(help="Only this user's events.")] = None,
    rate: Annotated[float | None, typer.Option(help="No more than so many events a second.")] = None,
    url: Annotated[str | None, typer.Option(help="The webhook; https.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With ndjson: write them to this new file; `-`: to the output.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it would be.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it; status 1 if it ends otherwise than done.")] = False,
    as_json: Json = False,
) -> None:
    """Start a replay. A webhook's secret is shown once. Without `--output` the tenant reads ndjson over HTTP."""
    if output is not None and to is not Target.NDJSON:
        raise typer.BadParameter("--output goes with --to ndjson")
    if output is not None and str(output) == "-" and as_json:
        raise typer.BadParameter("--output - goes without --json")
    settings = ReplayCommandSettings.load()
    body = _body(
        target=to.value, started_at=started_at, ended_at=ended_at, event_type=event_type, user_id=user_id,
        events_per_second=rate, webhook_url=url, dry_run=dry_run,
    )  # fmt: skip

    async def work(engine: AsyncEngine) -> None:
        async with _worker_engine(settings) as events:
            order, counted = await _counted(settings, engine, events, tenant, body)
            if dry_run:
                _tell_estimate(counted, as_json=as_json)
                return
            with contextlib.nullcontext() if output is None else replay_run.opened(output) as file:
                async with engine.begin() as connection:
                    key = key_bytes(settings.key_encryption_key)
                    replay_id, secret = await replays.create(connection, key, Actor.operator(), order, counted)
                    made = await replays.find(connection, tenant, replay_id)
                if wait and secret is not None:  # its receiver needs it from the first message on
                    typer.echo(f"webhook secret, shown only now: {secret}", err=True)
                if file is not None:
                    made = await replay_run.written(engine, events, made, file)
                elif wait:
                    made = await replay_run.watched(engine, made)
        if output is None or str(output) != "-":
            _tell(ReplayMadeAnswer.made(made, secret), as_json=as_json)
        if wait:
            replay_run.check_done(made)

    operate(settings, work)


@app.command("list")
def list_(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant's (its id).")] = None, *, as_json: Json = False
) -> None:
    """List replays, the newest first. Those that ended a month ago are no longer kept."""

    async def read(engine: AsyncEngine) -> list[Replay]:
        async with engine.connect() as connection:
            found, last = await replays.page_of_replays(connection, tenant, PageAsked(MOST_ENTRIES))
            while last is not None:
                more, last = await replays.page_of_replays(connection, tenant, PageAsked(MOST_ENTRIES, last))
                found += more
            return found

    found = operate(OperatorSettings.load(), read)
    if as_json:
        typer.echo(json.dumps([_fields(replay) for replay in found]))
        return
    table = Table("replay_id", "tenant_id", "to", "state", "sent", "of", "requested", "problem")
    for each in found:
        about = "about " if each.total_estimated else ""
        table.add_row(
            str(each.replay_id), str(each.tenant_id), each.order.target, each.state, f"{each.sent:,}",
            f"{about}{each.total:,}", f"{each.requested_at:%Y-%m-%d %H:%M:%S}", printable(each.problem or ""),
        )  # fmt: skip
    Console().print(table)


@app.command()
def show(tenant_id: TenantId, replay_id: ReplayId, *, as_json: Json = False) -> None:
    """Show how far a replay is, how fast, and what it waits for."""
    _change(tenant_id, replay_id, lambda connection, *named: replays.find(connection, *named[:2]), as_json=as_json)


@app.command()
def pause(tenant_id: TenantId, replay_id: ReplayId, *, as_json: Json = False) -> None:
    """Let a replay stand still, after the piece that is under way."""
    _change(tenant_id, replay_id, replays.pause, as_json=as_json)


@app.command()
def resume(tenant_id: TenantId, replay_id: ReplayId, *, as_json: Json = False) -> None:
    """Let a replay go on behind the last event that was sent, at once also if it waits after a fault."""
    _change(tenant_id, replay_id, replays.resume, as_json=as_json)


@app.command()
def cancel(tenant_id: TenantId, replay_id: ReplayId, *, as_json: Json = False) -> None:
    """End a replay for good, after the piece that is under way."""
    _change(tenant_id, replay_id, replays.cancel, as_json=as_json)


@contextlib.asynccontextmanager
async def _worker_engine(settings: ReplayCommandSettings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(settings.postgres_worker_url.get_secret_value(), pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()


def _body(**members: Any) -> NewReplayBody:
    """What was given, checked as over HTTP; None: not given."""
    try:
        return NewReplayBody.model_validate({name: value for name, value in members.items() if value is not None})
    except ValidationError as error:
        said = (f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors())
        raise typer.BadParameter("; ".join(said)) from None


async def _counted(
    settings: ReplayCommandSettings, engine: AsyncEngine, events: AsyncEngine, tenant: UUID, body: NewReplayBody
) -> tuple[Order, Estimate]:
    async with engine.connect() as connection:
        if (await find_tenant(connection, tenant)).status in (DELETING, DELETED):
            raise ConflictError("The tenant is being deleted.")
    async with one_tenant(events, tenant) as connection:
        requested_at = await replays.moment(connection)
        order = order_of(body, tenant, requested_at, parsed_networks(settings.webhook_networks))
        return order, await estimate(connection, order.selection)


def _change(
    tenant_id: UUID, replay_id: UUID, how: Callable[[AsyncConnection, UUID, UUID, Actor], Awaitable[Replay]],
    *, as_json: bool,
) -> None:  # fmt: skip
    async def work(engine: AsyncEngine) -> Replay:
        async with engine.begin() as connection:
            return await how(connection, tenant_id, replay_id, Actor.operator())

    _tell(ReplayAnswer.of(operate(OperatorSettings.load(), work)), as_json=as_json)


def _fields(replay: Replay) -> dict[str, Any]:
    return {"tenant_id": str(replay.tenant_id), **ReplayAnswer.of(replay).model_dump(mode="json")}


def _tell_estimate(counted: Estimate, *, as_json: bool) -> None:
    if as_json:
        typer.echo(ReplayEstimateAnswer.of(counted).model_dump_json())
        return
    about = "about " if counted.estimated else ""
    typer.echo(f"{about}{counted.events:,} events, {about}{counted.size:,} bytes")


def _tell(answer: ReplayAnswer, *, as_json: bool) -> None:
    if as_json:
        typer.echo(answer.model_dump_json())
        return
    console = Console(highlight=False)
    for name, value in answer.model_dump(mode="json").items():
        if value is not None:
            console.print(f"{name:<18} {printable(str(value))}", soft_wrap=True)
    if isinstance(answer, ReplayMadeAnswer) and answer.webhook_secret is not None:
        console.print("The secret is shown only now: keep it.")
