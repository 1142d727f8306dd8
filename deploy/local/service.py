"""What the supervisor needs to know of a component, and the questions that several components are asked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy.local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from deploy.local.processes import Command


async def _nothing() -> None:
    return


@dataclass(frozen=True)
class Service:
    """`prepare` runs before every start and is idempotent; `healthy` answers within a second or two and never raises.

    `patience`: seconds that a stop may take before it is killed. `data`: PostgreSQL's data folder.
    """

    name: str
    command: Command
    healthy: Callable[[], Awaitable[bool]]
    prepare: Callable[[], Awaitable[None]] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 11.0
    port: int | None = None
    data: Path | None = field(default=None)


def bare_environ(folder: Path) -> dict[str, str]:
    """Nothing of ours leaks into a server: JAVA_TOOL_OPTIONS or PGPORT of the caller would change how it runs."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LC_ALL": "C",
        "TZ": "UTC",
    }


async def run_once(command: Command, what: str) -> None:
    """Run a step to its end, its output in the log. Raises LocalError with the log's last line."""
    await asyncio.to_thread(_run, command, what)


def _run(command: Command, what: str) -> None:
    who, since = command.account, log_size(command.log)
    with command.log.open("ab") as log:
        done = subprocess.run(  # noqa: S603 - our own programs, no shell
            command.argv,
            cwd=command.cwd,
            env=dict(command.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=[] if who else None,
            timeout=120,
            check=False,
        )
    if done.returncode:
        raise LocalError(f"{what} failed: {last_words(command.log, since)} (log: {command.log})")


def log_size(log: Path) -> int:
    """Bytes in the log now, to tell later what was said since."""
    return log.stat().st_size if log.exists() else 0


def last_words(log: Path, since: int) -> str:
    """What the log says since then about an end, in one short line; a full disk comes first."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - 32_768))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "there is no log"
    # A stack trace's frames are indented.
    lines = [line.strip() for line in lines if line.strip() and not line[0].isspace()]
    for signs in (("No space left", "File too large", "file size limit"), ("FATAL", "ERROR", "rror:", "Exception")):
        for line in reversed(lines):
            if any(sign in line for sign in signs):
                return line[:300]
    return lines[-1][:300] if lines else "it said nothing"


async def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
