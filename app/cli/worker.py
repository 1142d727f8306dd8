"""`sluice worker`: one or more workers as one process."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
import uvloop

from app import logs
from app.cli.failure import CommandError
from workers.main import WORKERS, run_workers, settings_for
from workers.offsets import LogMismatchError
from workers.topic import TopicError


def worker(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help=f"Which workers: {', '.join(WORKERS)}.")],
) -> None:
    """Run workers until SIGTERM: `store` writes events to PostgreSQL, `index` makes them searchable, `maintain`
    deletes tenants and what has expired, `replay` sends events again.

    Any number of processes may run the same worker; partitions are shared out among them.
    """
    unknown = [name for name in names if name not in WORKERS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(WORKERS)}")
    settings = settings_for(names).load()
    logs.configure(settings.log_format, f"worker {' '.join(names)}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run_workers(names, settings))
        except* (LogMismatchError, TopicError) as stopped:
            raise CommandError(str(stopped.exceptions[0])) from None
