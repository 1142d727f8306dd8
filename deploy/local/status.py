"""What runs of a home's stack, seen from outside: for `sluice status` and `sluice down`. Starts nothing."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from deploy.local.errors import LocalError
from deploy.local.lock import holder
from deploy.local.places import settle
from deploy.local.processes import Register, await_end, end_earlier, members, serving
from deploy.local.runner import marker_of
from deploy.local.service import answers
from deploy.local.settings import given_from
from deploy.local.stack import COMPONENTS
from deploy.local.users import service_account

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_DOWN_WITHIN_SECONDS = 25.0


@dataclass(frozen=True)
class Component:
    """`state`: running, unanswering (it lives, its port doesn't answer), given (not ours), restarting or stopped."""

    name: str
    state: str
    pid: int | None
    port: int | None
    memory_bytes: int | None
    log: str


@dataclass(frozen=True)
class Status:
    home: str
    runner: int | None
    ready: bool
    notes: tuple[str, ...]
    components: tuple[Component, ...]


async def look(home: Path, environ: Mapping[str, str]) -> Status:
    """The state of every component now."""
    places = settle(home, environ, service_account(environ, os.geteuid()))
    runner = holder(home)
    records = {record.name: record for record in Register(home / "processes.json").earlier()}
    given = given_from(environ).names()
    found = []
    for name in COMPONENTS:
        record = records.get(name)
        if record is None or not record.alive():
            gone = "restarting" if record and runner else "stopped"
            state = "given" if name in given else gone
            found.append(Component(name, state, None, None, None, str(places.log(name))))
            continue
        heard = record.port is None or await answers(record.port)
        processes = {process.pid: process for process in members(record)}
        if name == "postgres":
            processes |= {process.pid: process for process in serving(places.servers / "postgres" / "data")}
        state = "running" if heard else "unanswering"
        found.append(Component(name, state, record.pid, record.port, _resident(processes.values()), record.log))
    return Status(
        str(home),
        runner.pid if runner else None,
        runner is not None and marker_of(home) == runner.pid,
        places.moved,
        tuple(found),
    )


def _resident(processes: Iterable[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def down(home: Path) -> str:
    """Stop the stack of this home; returns one line. Also ends what a killed runner left."""
    runner = holder(home)
    if runner is None:
        left = end_earlier(Register(home / "processes.json").earlier(), 10.0)
        if left:
            return f"The runner was gone; ended what it had left: {', '.join(left)}"
        return f"Nothing runs in {home}"
    started = time.monotonic()
    try:
        process = psutil.Process(runner.pid)
        process.terminate()
        left_over = await_end([process], _DOWN_WITHIN_SECONDS)
    except psutil.NoSuchProcess:
        left_over = []
    except psutil.AccessDenied:
        raise LocalError(f"The stack in {home} belongs to another user (process {runner.pid})") from None
    if left_over:
        raise LocalError(f"The runner (process {runner.pid}) hasn't stopped within {_DOWN_WITHIN_SECONDS:.0f} s")
    return f"Stopped in {time.monotonic() - started:.1f} s; the data stays in {home}"
