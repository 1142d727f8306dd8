"""`sluice dead-letters …`: operators look at any tenant's dead letters, and at those that belong to nobody, and decide.

Owns arguments and output. `app.recovery` does it, with an audit entry that names the system's account.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from sqlalchemy import text

from app.cli.operation import Json, operate_at, printable
from app.errors import Fault, InvalidError
from app.parameters import Reading
from app.recovery import letter_changes
from app.recovery.letter_answers import LetterAnswer, origin, whole_letter
from app.recovery.letter_changes import Caller
from app.recovery.letter_questions import FILTERS, read_filters
from app.recovery.letters import Letter, WholeLetter, find, page_of_letters
from app.settings import LettersCommandSettings
from tenants.audit import Actor
from tenants.pages import MOST_ENTRIES, PageAsked
from tenants.platform import PLATFORM_TENANT_ID
from tenants.records import no_such_tenant
from tenants.session import tenant_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.recovery.letter_changes import Changed
    from app.recovery.letters import Filters

    One = Callable[[AsyncConnection, Caller, UUID], Awaitable[WholeLetter]]
    Many = Callable[[AsyncConnection, Caller, Filters], Awaitable[Changed]]
    How = tuple[One, Many]

app = typer.Typer(
    name="dead-letters",
    help="Look at what a worker could not handle, mend it, try it again or give it up.\n\n"
    "Each command takes `--tenant TENANT_ID`, or `--platform` for what belongs to nobody: records that can't be read, "
    "and events of unknown tenants. A retry is queued; the `maintain` worker does it, `list` says what became of it.",
    no_args_is_help=True,
)
T = TypeVar("T")

Tenant = Annotated[UUID | None, typer.Option(metavar="TENANT_ID", help="Whose letters.", show_default=False)]
Platform = Annotated[bool, typer.Option("--platform", help="Those that belong to nobody, in place of --tenant.")]
LetterId = Annotated[UUID, typer.Argument(metavar="LETTER_ID", help="As printed by `list`.")]
LetterIds = Annotated[list[UUID] | None, typer.Argument(metavar="[LETTER_ID]...", help="As printed by `list`.")]
All = Annotated[bool, typer.Option("--all", help="All open ones, or those that the options below choose.")]
Status = Annotated[str | None, typer.Option(help="open, queued, sent, resolved or discarded.", show_default=False)]
Reason = Annotated[
    str | None,
    typer.Option(help="'unstorable', 'not indexable', 'not a record' or 'unknown tenant'.", show_default=False),
]
From = Annotated[str | None, typer.Option("--from", help="Made from this date or time (UTC) on.", show_default=False)]
To = Annotated[str | None, typer.Option("--to", help="Made before this date or time (UTC).", show_default=False)]

_BIND = text("select set_config('app.tenant_ids', :tenants, true)")
_EXISTS = text("select 1 from tenants where tenant_id = :tenant_id")


@app.command("list")
def list_(
    tenant: Tenant = None,
    status: Status = None,
    reason: Reason = None,
    started_at: From = None,
    ended_at: To = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ENTRIES, help="The most that are shown.")] = 50,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first, with where in the log they are from."""
    owner, filters = _owner(tenant, platform=platform), _filters(status, reason, started_at, ended_at)

    async def read(connection: AsyncConnection) -> list[Letter]:
        return (await page_of_letters(connection, owner, filters, PageAsked(limit)))[0]

    found = _work(owner, read)
    if as_json:
        typer.echo(json.dumps([_told(letter) for letter in found]))
        return
    table = Table("dead_letter_id", "made (UTC)", "status", "reason", "attempts", "event type", "event id", "from")
    for letter in found:
        where = origin(letter)
        table.add_row(
            str(letter.dead_letter_id),
            f"{letter.created_at:%Y-%m-%d %H:%M:%S}",
            letter.status,
            letter.reason,
            str(letter.attempts),
            printable(letter.event_type or ""),
            printable(letter.event_id or ""),
            f"{where['partition']}:{where['offset']}",
        )
    Console().print(table)


@app.command()
def show(letter_id: LetterId, tenant: Tenant = None, *, platform: Platform = False, as_json: Json = False) -> None:
    """Show one letter, with the bytes that could not be handled."""
    owner = _owner(tenant, platform=platform)
    _show(_work(owner, lambda connection: find(connection, owner, letter_id)), as_json=as_json)


@app.command()
def edit(
    letter_id: LetterId,
    tenant: Tenant = None,
    event: Annotated[
        str | None, typer.Option(metavar="JSON", help="""Such as '{"metadata": {"a": 1}}'.""", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file with it.", show_default=False)
    ] = None,
    *,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """Mend the event of an open letter: members that are given replace those that are there. Then retry it."""
    if (event is None) == (file is None):
        raise typer.BadParameter("give --event JSON or --file FILE")
    changes = file.read_bytes() if file is not None else (event or "").encode(errors="surrogateescape")
    owner = _owner(tenant, platform=platform)
    whole = _work(owner, lambda connection: letter_changes.edit(connection, _caller(owner), letter_id, changes))
    _show(whole, as_json=as_json)


@app.command()
def retry(
    letter_ids: LetterIds = None,
    tenant: Tenant = None,
    reason: Reason = None,
    started_at: From = None,
    ended_at: To = None,
    *,
    all_: All = False,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """Try letters again: those that are named (open or discarded), or with --all the open ones."""
    filters = _filters(None, reason, started_at, ended_at)
    owner = _owner(tenant, platform=platform)
    changed = _change(owner, letter_ids, filters, (letter_changes.retry, letter_changes.retry_all), all_=all_)
    typer.echo(json.dumps({"changed": changed}) if as_json else f"{changed:,} queued to be tried again.")


@app.command()
def discard(
    letter_ids: LetterIds = None,
    tenant: Tenant = None,
    reason: Reason = None,
    started_at: From = None,
    ended_at: To = None,
    *,
    all_: All = False,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """Give letters up: those that are named (open or queued), or with --all the open ones. They can be retried for
    another 30 days.
    """
    filters = _filters(None, reason, started_at, ended_at)
    owner = _owner(tenant, platform=platform)
    changed = _change(owner, letter_ids, filters, (letter_changes.discard, letter_changes.discard_all), all_=all_)
    typer.echo(json.dumps({"changed": changed}) if as_json else f"{changed:,} discarded.")


def _owner(tenant: UUID | None, *, platform: bool) -> UUID:
    if (tenant is None) != platform:
        raise typer.BadParameter("give --tenant TENANT_ID or --platform")
    return PLATFORM_TENANT_ID if tenant is None else tenant


def _filters(status: str | None, reason: str | None, started_at: str | None, ended_at: str | None) -> Filters:
    given = (("status", status), ("reason", reason), ("started_at", started_at), ("ended_at", ended_at))
    reading = Reading([(name, value) for name, value in given if value is not None], FILTERS, prefix="")
    filters = read_filters(reading)
    reading.finish()
    return filters


def _caller(owner: UUID) -> Caller:
    return Caller(owner, Actor.operator())


def _change(owner: UUID, letter_ids: list[UUID] | None, filters: Filters, how: How, *, all_: bool) -> int:
    """How many were changed: the named ones all or none, of all a thousand a transaction."""
    one, many = how
    if bool(letter_ids) == all_:
        raise typer.BadParameter("name letters, or give --all")
    if letter_ids and filters != type(filters)():
        raise InvalidError("Options that choose letters go with --all.", (Fault("", "name letters or choose them"),))

    async def named(connection: AsyncConnection) -> int:
        for letter_id in letter_ids or ():
            await one(connection, _caller(owner), letter_id)
        return len(letter_ids or ())

    async def chosen(engine: AsyncEngine) -> int:
        done = 0
        columns = (TextColumn("Dead letters"), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            bar = progress.add_task("", total=None)
            while True:
                async with _session(engine, owner) as connection:
                    changed = await many(connection, _caller(owner), filters)
                done += changed.changed
                progress.update(bar, completed=done, total=done + changed.remaining)
                if not changed.changed or not changed.remaining:
                    return done

    return operate_at(_url(), chosen) if all_ else _work(owner, named)


def _work(owner: UUID, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """`work` in one transaction that sees this tenant's letters."""

    async def in_transaction(engine: AsyncEngine) -> T:
        async with _session(engine, owner) as connection:
            return await work(connection)

    return operate_at(_url(), in_transaction)


def _url() -> str:
    return LettersCommandSettings.load().postgres_worker_url.get_secret_value()


@asynccontextmanager
async def _session(engine: AsyncEngine, owner: UUID) -> AsyncIterator[AsyncConnection]:
    async with tenant_session(engine, owner) as connection:
        # sluice_worker heeds a list of tenants: that of its batch.
        await connection.execute(_BIND, {"tenants": f"{{{owner}}}"})
        if not (await connection.execute(_EXISTS, {"tenant_id": owner})).all():
            raise no_such_tenant(owner)
        yield connection


def _told(letter: Letter) -> dict[str, Any]:
    return LetterAnswer.of(letter).model_dump(mode="json") | {"source": origin(letter)}


def _show(whole: WholeLetter, *, as_json: bool) -> None:
    if as_json:
        typer.echo(whole_letter(whole, source=origin(whole.letter)))
        return
    console = Console(highlight=False)
    for name, value in _told(whole.letter).items():
        if value is not None:
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            console.print(f"{name:<18} {printable(shown)}", soft_wrap=True)
    for name, value in (("payload", whole.payload), ("edit", whole.retry_payload)):
        if value is not None:
            console.print(f"{name:<18} {printable(value.decode(errors='backslashreplace'))}", soft_wrap=True)
