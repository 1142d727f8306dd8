"""One run of the stack from a command: signals, the readable log, one line for an error. Owns no component.

The first SIGINT, SIGTERM or SIGHUP stops everything; more of them change nothing (`make` passes its own on, and a
terminal signals the whole group).
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from deploy.local.errors import LocalError
from deploy.local.follow import Follower
from deploy.local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# In the home while everything is healthy; its text is the runner's pid.
READY = "ready"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    home: Path,
    environ: Mapping[str, str],
    show: Callable[[str, str], None],
    ready: Callable[[Stack], None],
    *,
    follow: bool,
) -> None:
    """Run until a signal (returns) or a failure (raises LocalError); nothing is left running either way."""
    # Before the loop's own handlers and after them, so that no signal at any moment leaves a child behind.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_run(home, environ, show, ready, follow=follow))


async def _run(
    home: Path,
    environ: Mapping[str, str],
    show: Callable[[str, str], None],
    ready: Callable[[Stack], None],
    *,
    follow: bool,
) -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, asked.set)

    def report(line: str) -> None:
        with suppress(OSError):  # a terminal that is gone must not keep us from stopping
            show("sluice", line)

    stack = Stack(home, environ, report)
    life = asyncio.create_task(_live(stack, show, ready, follow=follow))
    stopping = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait((life, stopping), return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            report("stopping")
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
    except OSError as error:
        raise LocalError(f"Can't write {error.filename or home}: {error.strerror or error}") from error
    finally:
        stopping.cancel()
        if marker_of(home) == os.getpid():
            (home / READY).unlink(missing_ok=True)
        # Here and not in `life`: nothing cancels this.
        await stack.stop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    report("everything is stopped")


def marker_of(home: Path) -> int | None:
    """The pid of the runner that says everything is healthy."""
    try:
        return int((home / READY).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


async def _live(
    stack: Stack, show: Callable[[str, str], None], ready: Callable[[Stack], None], *, follow: bool
) -> None:
    await stack.start()
    (stack.home / READY).write_text(str(os.getpid()), encoding="ascii")
    ready(stack)
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(Follower(stack.logs(), show).run()) if follow else None
        line = await stack.wait_failed()
        if follower:
            follower.cancel()
    raise LocalError(line)
