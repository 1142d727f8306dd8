"""Supervision with small programs of the system: real processes, no server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import LocalError
from deploy.local.policy import RestartPolicy
from deploy.local.processes import Command, Record, Register, await_end, end_earlier, members, spawn
from deploy.local.service import Service, last_words
from deploy.local.supervisor import Supervisor

WAITS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.register = Register(folder / "processes.json")
        policy = RestartPolicy(limit=2, first_delay=0.01)
        self.supervisor = Supervisor(self.register, self.said.append, policy)

    def service(self, program: str, healthy: Callable[[], Awaitable[bool]] | None = None) -> Service:
        log = self.folder / "child.log"

        async def said_up() -> bool:
            return "up" in log.read_text()

        command = Command((sys.executable, "-c", program), self.folder, dict(os.environ), log)
        return Service("child", command, healthy or said_up, patience=0.5)

    @property
    def pid(self) -> int:
        return self.supervisor.record("child").pid


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_a_child_runs_in_a_session_of_its_own_and_is_gone_after_stop(stage: Stage) -> None:
    await stage.supervisor.start(stage.service(WAITS))
    pid = stage.pid

    assert os.getsid(pid) == pid
    await stage.supervisor.stop("child")
    assert not psutil.pid_exists(pid)


async def test_a_killed_child_is_started_again_and_that_is_said(stage: Stage) -> None:
    await stage.supervisor.start(stage.service(WAITS))
    first = stage.pid
    os.kill(first, signal.SIGKILL)

    await until(lambda: any("healthy again" in line for line in stage.said))
    assert stage.pid != first
    assert "SIGKILL" in stage.said[0]
    await stage.supervisor.stop("child")


async def test_one_that_keeps_dying_is_given_up_with_one_line(stage: Stage) -> None:
    await stage.supervisor.start(stage.service(WAITS))
    for died in range(1, 4):
        os.kill(stage.pid, signal.SIGKILL)
        await until(lambda died=died: len(stage.said) >= 2 * died or stage.supervisor.failure is not None)  # type: ignore[misc]

    assert await asyncio.wait_for(stage.supervisor.wait_failed(), 5) == stage.said[-1]
    assert "giving up" in stage.said[-1]
    await stage.supervisor.stop("child")


async def test_one_that_dies_while_starting_is_an_error_with_its_last_words(stage: Stage) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(LocalError, match="ended with status 3 while starting: the disk is on fire"):
        await stage.supervisor.start(
            stage.service("import sys; print('the disk is on fire', flush=True); sys.exit(3)", never)
        )
    assert stage.supervisor.running() == []


async def test_one_that_ignores_the_request_is_killed_when_its_patience_is_over(stage: Stage) -> None:
    await stage.supervisor.start(stage.service(DEAF))
    pid, started = stage.pid, time.monotonic()

    await stage.supervisor.stop("child")

    assert not psutil.pid_exists(pid)
    assert time.monotonic() - started < 3


async def test_a_child_s_children_end_with_it(stage: Stage) -> None:
    async def has_child() -> bool:
        return len(psutil.Process(stage.pid).children()) == 1

    await stage.supervisor.start(stage.service(PARENT, has_child))
    (grandchild,) = psutil.Process(stage.pid).children()

    await stage.supervisor.stop("child")

    assert await_end([grandchild], 0) == []


def test_what_a_killed_runner_left_is_found_by_its_record_and_ended(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    process = spawn(Command((sys.executable, "-c", DEAF), tmp_path, dict(os.environ), log))
    Register(tmp_path / "processes.json").add(Record("child", process.pid, psutil.Process(process.pid).create_time()))

    assert end_earlier(Register(tmp_path / "processes.json").earlier(), 0.2) == ["child"]
    process.wait()


def test_a_killed_runner_s_children_are_ended_by_its_guardian(tmp_path: Path) -> None:
    runner = f"""
import os, signal
from pathlib import Path
from deploy.local.guardian import watch_over
from deploy.local.processes import Command, Record, Register, spawn
folder = Path({str(tmp_path)!r})
command = Command(({sys.executable!r}, "-c", "import time; time.sleep(600)"), folder, dict(os.environ), folder / "log")
register = Register(folder / "processes.json")
register.add(Record.of("child", spawn(command).pid))
watch_over(folder / "processes.json", folder / "guardian.log")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", runner], check=False).returncode == -signal.SIGKILL
    (record,) = Register(tmp_path / "processes.json").earlier()

    deadline = time.monotonic() + 20
    while record.alive() or "ended child" not in (tmp_path / "guardian.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_pid_that_was_given_to_another_program_is_left_alone() -> None:
    stranger = Record("child", os.getpid(), psutil.Process().create_time() - 1000)

    assert members(stranger) == []
    assert not stranger.alive()


def test_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text('[{"pid": 1}]')

    assert Register(tmp_path / "processes.json").earlier() == []


def test_last_words_prefer_a_full_disk_then_an_error_then_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ERROR old\n")
    since = log.stat().st_size
    log.write_text("ERROR old\nhello\n\tat java.lang.Thread\n")
    assert last_words(log, since) == "hello"
    log.write_text("ERROR old\nNo space left on device\nERROR then\n")
    assert last_words(log, since) == "No space left on device"
    assert last_words(tmp_path / "absent", 0) == "there is no log"
