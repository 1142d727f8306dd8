"""Starting children in sessions of their own, and finding and ending what an earlier run left. Owns the record on disk.

A process is ours when its pid and its time of creation match the record, or when it belongs to such a process's
session.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from deploy.local.passwords import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from deploy.local.users import Account

# psutil derives it from the boot time, which moves when the clock is set.
_CREATED_WITHIN_SECONDS = 2.0
_LOG_KEPT_BYTES = 16 << 20


@dataclass(frozen=True)
class Command:
    """A program to run. `environ` is all of its environment; `account` None means ours."""

    argv: tuple[str, ...]
    cwd: Path
    environ: Mapping[str, str]
    log: Path
    account: Account | None = None


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start it in its own session, so that a terminal's Ctrl-C doesn't reach it; it writes to its log file itself."""
    _rotate(command.log)
    who = command.account
    with command.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own programs, no shell
            command.argv,
            cwd=command.cwd,
            env=dict(command.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=[] if who else None,
        )


def _rotate(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_KEPT_BYTES:
            log.replace(log.with_name(log.name + ".1"))


@dataclass(frozen=True)
class Record:
    """A session leader that was started, and the signal that asks it to stop."""

    name: str
    pid: int
    created: float
    stop_signal: int = signal.SIGTERM
    port: int | None = None
    log: str = ""

    @classmethod
    def of(cls, name: str, pid: int) -> Record:
        """Of a process that lives."""
        return cls(name, pid, psutil.Process(pid).create_time())

    def alive(self) -> bool:
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) <= _CREATED_WITHIN_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        return False


class Register:
    """What runs now, on disk, for the next start and for `status`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[str, Record] = {}

    def add(self, record: Record) -> None:
        self._records[record.name] = record
        self._save()

    def remove(self, name: str) -> None:
        if self._records.pop(name, None):
            self._save()

    def clear(self) -> None:
        """Forget the last run."""
        self._path.unlink(missing_ok=True)

    def earlier(self) -> list[Record]:
        """What the last run wrote; nothing where that can't be read."""
        try:
            return [Record(**entry) for entry in json.loads(self._path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return []

    def _save(self) -> None:
        write_private(self._path, json.dumps([vars(record) for record in self._records.values()]))


def members(record: Record) -> list[psutil.Process]:
    """The living processes of that session."""
    try:
        created = psutil.Process(record.pid).create_time()
    except psutil.NoSuchProcess:
        created = record.created
    if abs(created - record.created) > _CREATED_WITHIN_SECONDS:
        return []  # the pid has been given to another program
    return _matching(lambda process: os.getsid(process.pid) == record.pid)


def serving(data: Path) -> list[psutil.Process]:
    """The living PostgreSQL processes of that data folder: backends make sessions of their own."""
    return _matching(lambda process: process.name() == "postgres" and process.cwd() == str(data))


def _matching(test: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if test(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_earlier(records: Iterable[Record], patience: float) -> list[str]:
    """Stop what an earlier run left, all at once; the names of those that were still there."""
    records = list(records)
    found = {record.name: members(record) for record in records}
    for record in records:
        for process in found[record.name]:
            if process.pid == record.pid:
                with suppress(psutil.Error):
                    process.send_signal(record.stop_signal)
    everyone = [process for processes in found.values() for process in processes]
    kill(await_end(everyone, patience))
    # A session may have grown a child in the meantime.
    kill([process for record in records for process in members(record)])
    return [name for name, processes in found.items() if processes]


def kill(processes: Iterable[psutil.Process]) -> None:
    """End them without asking and wait until they are gone."""
    left = list(processes)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    await_end(left, 5.0)


def await_end(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those still alive after at most so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        processes = [process for process in processes if _alive(process)]
        if not processes or time.monotonic() > deadline:
            return processes
        time.sleep(0.05)


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
