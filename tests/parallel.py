"""What the processes of one run of the suite (`pytest -n 2`) share: one set of servers, and turns.

The servers run in a child of whichever process needs them first; the one that began the run ends it. A run of one
process does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from deploy.local.ports import Ports
from deploy.local.servers import Endpoints, Given, LocalServers

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = "TEST_RUN_FOLDER"
_BEGAN = "TEST_RUN_BEGAN_BY"
_START_SECONDS = 600
"""With everything to be downloaded first."""


def given_servers() -> Given:
    """Servers that a developer keeps running between runs; see CONTRIBUTING."""
    names = ("postgres_url", "redis_url", "kafka_bootstrap", "elasticsearch_url")
    return Given(**{name: os.environ.get(f"SLUICE_TEST_{name.upper()}") for name in names})


def begin() -> None:
    """Make the folder that all processes of this run share; those that this one starts find it by themselves."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    folder.chmod(0o755)  # for the servers' unprivileged user, should the suite run as root
    os.environ |= {_FOLDER: str(folder), _BEGAN: str(os.getpid())}


def end() -> None:
    """End the servers if they were started, wait until nothing is left of them, and remove the folder."""
    folder = shared_folder()
    with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
        process = psutil.Process(int((folder / "pid").read_text()))
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def shared_folder() -> Path:
    """Of this run."""
    return Path(os.environ[_FOLDER])


@contextlib.contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock on `path` between processes; `kind` is `fcntl.LOCK_SH` or `fcntl.LOCK_EX`."""
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield


@contextlib.contextmanager
def taking_turns(*, alone: bool) -> Iterator[None]:
    """While a test runs: others may run beside it, or none if it is to be `alone`."""
    folder = shared_folder()
    with contextlib.ExitStack() as held:
        # Whoever is to be alone keeps the gate, so that the others don't take turns for ever before it.
        with locked(folder / "gate", fcntl.LOCK_EX):
            held.enter_context(locked(folder / "turns", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


def shared_endpoints() -> Endpoints:
    """Where this run's servers are; starts them if nobody has yet."""
    folder = shared_folder()
    found = folder / "endpoints.json"
    with locked(folder / "servers", fcntl.LOCK_EX):
        if not found.exists():
            log = folder / "servers.log"
            pid = _spawn([sys.executable, "-m", "tests.parallel"], log)
            (folder / "pid").write_text(str(pid))
            deadline = time.monotonic() + _START_SECONDS
            while not found.exists():
                assert os.waitpid(pid, os.WNOHANG) == (0, 0), log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
    return Endpoints(**json.loads(found.read_text()))


def _spawn(command: list[str], log: Path) -> int:
    """Start a child that outlives this process, if that is not the one that began the run; returns its id."""
    output = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.posix_spawn(command[0], command, os.environ, file_actions=[output, (os.POSIX_SPAWN_DUP2, 1, 2)])


async def _serve() -> None:
    """Run servers until told to stop, or until whoever began the run is gone."""
    folder, began_by = shared_folder(), int(os.environ[_BEGAN])
    local = LocalServers(folder / "home", ports=Ports.free(), given=given_servers(), report=print)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    try:
        written = folder / "endpoints.new"
        written.write_text(json.dumps(asdict(await local.start())))
        written.replace(folder / "endpoints.json")
        while not stopping.is_set() and psutil.pid_exists(began_by):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 1)
    finally:
        await local.discard()


if __name__ == "__main__":
    asyncio.run(_serve())
