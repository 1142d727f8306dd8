"""What `sluice replay start` does with the job that it made: watch it, or read it into a file; with a progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.cli.failure import CommandError
from app.recovery import replays
from app.recovery.replay_stream import lines
from app.recovery.selection import page
from tenants.audit import Actor
from workers.sessions import one_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.recovery.replays import Replay

LOOK_SECONDS = 0.5


async def watched(engine: AsyncEngine, made: Replay) -> Replay:
    """The replay once it is finished, or paused by somebody; a bar shows how far it is."""
    with _bar(made) as (progress, task):
        while True:
            async with engine.connect() as connection:
                now = await replays.find(connection, made.tenant_id, made.replay_id)
            progress.update(
                task, completed=now.sent + now.refused, total=now.total, rate=now.rate or 0, problem=now.problem or ""
            )
            if now.state != "running":
                return now
            await asyncio.sleep(LOOK_SECONDS)


async def written(engine: AsyncEngine, events: AsyncEngine, made: Replay, file: BinaryIO) -> Replay:
    """The replay after all of its lines were written to `file`; cancelled if they can't be.

    `engine` logs in as sluice_auth, `events` as sluice_worker.
    """
    session = partial(one_tenant, events, made.tenant_id)
    try:
        async with session() as connection:
            first = await page(connection, made.order.selection, None)
        with _bar(made) as (progress, task):
            async for some in lines(session, engine.begin, made, first):
                file.write(some)
                progress.update(task, advance=some.count(b"\n"))
        file.flush()
    except BaseException:  # Ctrl-C too: nobody reads on, and it must not keep one of the places; raised on
        with contextlib.suppress(Exception):
            async with engine.begin() as connection:
                await replays.cancel(connection, made.tenant_id, made.replay_id, Actor.operator())
        raise
    async with engine.connect() as connection:
        return await replays.find(connection, made.tenant_id, made.replay_id)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A new file of this name; `-` is standard output.

    Raises:
        CommandError: there is one already.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    try:
        with path.open("xb") as file:
            yield file
    except FileExistsError:
        raise CommandError(f"{path} exists already.") from None


@contextlib.contextmanager
def _bar(made: Replay) -> Iterator[tuple[Progress, TaskID]]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} events"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[problem]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress, progress.add_task("", total=made.total, rate=0.0, problem="")


def check_done(finished: Replay) -> None:
    """Exit status 1 for a replay that ended otherwise than done."""
    if finished.state == "failed":
        raise CommandError(f"The replay failed: {finished.problem}")
    if finished.state != "done":
        typer.echo(f"The replay is {finished.state}.", err=True)
        raise typer.Exit(1)
