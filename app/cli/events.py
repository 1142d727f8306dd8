"""`sluice events …`: bringing events in. Owns options and output; `app.imports` reads and sends."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from app.cli.failure import CommandError
from app.imports.failures import SourceError, TargetError
from app.imports.files import FileSource
from app.imports.git import GitSource
from app.imports.run import Import, Outcome
from app.imports.target import Target, find_target
from app.settings import home

if TYPE_CHECKING:
    from app.imports.run import Source
    from app.imports.tally import Rejection

app = typer.Typer(name="events", help="Bring events in.", no_args_is_help=True)

NAMED = 10
_AGAIN = "Running it again with the same input is safe: nothing counts twice."


@app.callback()
def events() -> None:
    """Bring events in."""


@app.command("import")
def import_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="JSON lines, plain or gzip; `-` is standard input.",
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    git: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="A git repository: one event for each commit of HEAD.", exists=True, file_okay=False
        ),
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The API; by default the local stack's.", envvar="SLUICE_API_URL"),
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `sluice tenants create --json` printed.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    *,
    batch: Annotated[int, typer.Option(min=1, max=2000, help="Events a request.")] = 500,
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Requests under way at once.")] = 8,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result, with up to 1,000 rejections, as one JSON object.")
    ] = False,
) -> None:
    """Send the events of files and git histories through the public API. Safe to interrupt and to run again.

    Who sends is said by `--credentials`, or by SLUICE_CLIENT_ID and SLUICE_CLIENT_SECRET, or else is the local stack's
    demo tenant. A line without an `event_id` gets one made from its file's whole content and its number, so the same
    file counts once however often it is imported; a file that has changed, even by one more line, is another file.
    Standard input is first copied to a temporary file for that.

    Exit status: 0 when all events were accepted, 1 when some were rejected or it ended early, 2 for wrong use.
    """
    paths = _checked(files or [], git or [])
    try:
        target = find_target(api, credentials, os.environ, home() / "stack.json")
    except TargetError as error:
        raise typer.BadParameter(f"{error}.") from None
    outcome = _run(_opened(*paths), target, batch, in_flight)
    if as_json:
        typer.echo(json.dumps(_fields(outcome)))
    else:
        _print(outcome)
    if outcome.failure is not None:
        raise CommandError(f"{outcome.failure}. {outcome.tally.accepted:,} events are accepted. {_AGAIN}")
    if outcome.interrupted:
        typer.echo(f"Interrupted: {outcome.tally.accepted:,} events are accepted. {_AGAIN}", err=True)
    if outcome.interrupted or outcome.tally.rejected:
        raise typer.Exit(1)


def _checked(files: list[Path], git: list[Path]) -> tuple[list[Path], list[Path]]:
    if not files and not git:
        raise typer.BadParameter("give at least one FILE, - for standard input, or --git PATH.")
    if sum(str(file) == "-" for file in files) > 1:
        raise typer.BadParameter("- can be given only once.")
    # Not by typer's `exists`, which takes a Path of `-` for a file's name.
    if missing := next((file for file in files if str(file) != "-" and not file.exists()), None):
        raise typer.BadParameter(f"{missing} does not exist.")
    return files, git


def _opened(files: list[Path], git: list[Path]) -> list[Source]:
    try:
        return [*(FileSource.open(file) for file in files), *(GitSource.open(path) for path in git)]
    except SourceError as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted before anything was sent.", err=True)
        raise typer.Exit(1) from None


def _run(sources: list[Source], target: Target, batch: int, in_flight: int) -> Outcome:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[events]:,} events"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=sum(source.size for source in sources), events=0, rate=0.0)

        def report(outcome: Outcome) -> None:
            progress.update(bar, completed=outcome.done, events=outcome.tally.accepted, rate=_rate(outcome))

        async def run() -> Outcome:
            return await Import(sources, target, batch=batch, in_flight=in_flight, report=report).run()

        return asyncio.run(run())


def _rate(outcome: Outcome) -> float:
    return outcome.tally.accepted / outcome.seconds if outcome.seconds else 0.0


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "read": outcome.tally.read,
        "accepted": outcome.tally.accepted,
        "rejected": outcome.tally.rejected,
        "seconds": round(outcome.seconds, 3),
        "events_per_second": round(_rate(outcome), 1),
        "interrupted": outcome.interrupted,
        "failure": outcome.failure,
        "rejections": [rejection.fields() for rejection in outcome.tally.in_order()],
    }


def _print(outcome: Outcome) -> None:
    tally = outcome.tally
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{tally.read:,} events read, {tally.accepted:,} accepted, {tally.rejected:,} rejected "
        f"in {outcome.seconds:.1f} s ({_rate(outcome):,.0f} events/s)"
    )
    for rejection in tally.in_order()[:NAMED]:
        console.print(Text(f"  {_line(rejection)}"))
    if tally.rejected > NAMED:
        console.print(f"  … and {tally.rejected - NAMED:,} more; --json names up to 1,000")


def _line(rejection: Rejection) -> str:
    """One line for a terminal: names and reasons may hold any text, so what can't be printed is replaced."""
    faults = "; ".join(f"{problem.pointer} {problem.detail}".strip() for problem in rejection.problems)
    text = f"{rejection.where} {faults}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
