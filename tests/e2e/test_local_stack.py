"""`sluice up` as a person meets it: the whole stack, killed, started again, asked, stopped by signals.

Two starts for the whole file: the first is killed with -9, the second must find and end what that left.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deploy.local.ports import free_ports
from deploy.local.servers import Endpoints, LocalServers

VARIABLES = ("API", "METRICS", "POSTGRES", "REDIS", "KAFKA", "ELASTICSEARCH")
START_SECONDS, STOP_SECONDS = 240, 20

pytestmark = pytest.mark.timeout(600)


class Machine:
    """A home and its command line, with no way out to any network."""

    def __init__(self, home: Path) -> None:
        self.home = home
        api, postgres, redis, kafka, elasticsearch = free_ports(5)
        ports = (api, _three_in_a_row(), postgres, redis, kafka, elasticsearch)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_TEST_")},
            **{f"SLUICE_{name}_PORT": str(port) for name, port in zip(VARIABLES, ports, strict=True)},
            "SLUICE_HOME": str(home),
            "HTTP_PROXY": nobody,
            "HTTPS_PROXY": nobody,
        }

    def popen(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", *arguments],
            env={**self.environ, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    async def sluice(self, *arguments: str, **changes: str) -> tuple[int, str]:
        with self.popen(*arguments, **changes) as process:
            said = (await asyncio.to_thread(process.communicate))[0]
        return process.returncode, said

    def stack(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "stack.json").read_text())
        return found

    async def status(self) -> tuple[int, dict[str, Any]]:
        code, said = await self.sluice("status", "--json")
        return code, json.loads(said)

    def leftovers(self) -> list[str]:
        """Whatever still runs with this home in its arguments or environment, the tests apart."""
        found = []
        for process in psutil.process_iter():
            try:
                told = [*process.cmdline(), *process.environ().values()]
            except psutil.Error:
                continue
            if process.pid != os.getpid() and any(str(self.home) in text for text in told):
                found.append(process.name())
        return found


def _three_in_a_row() -> int:
    """The API's metrics and the two workers' follow each other."""
    from deploy.local.ports import is_free  # noqa: PLC0415

    while True:
        (first,) = free_ports(1)
        if is_free(first + 1) and is_free(first + 2):
            return first


@pytest.fixture(scope="module")
async def machine(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    """The servers behind `endpoints` have filled the cache."""
    del endpoints
    made = Machine(tmp_path_factory.mktemp("stack") / "home")
    yield made
    await made.sluice("down")
    await LocalServers(made.home, report=print).discard()


@pytest.fixture(scope="module")
async def killed(machine: Machine) -> dict[str, Any]:
    """A stack that came up detached, and whose runner was then killed; what stack.json said."""
    code, said = await machine.sluice("up", "--detach")
    assert (code, "healthy" in said) == (0, True), said
    runner = (await machine.status())[1]["runner"]
    # Its guardian too, or that would do the work of the next start.
    for child in psutil.Process(runner).children():
        if "deploy.local.guardian" in child.cmdline():
            child.kill()
    os.kill(runner, signal.SIGKILL)
    return machine.stack()


@pytest.fixture(scope="module")
async def running(machine: Machine, killed: dict[str, Any]) -> AsyncIterator[subprocess.Popen[str]]:
    """The same home, in the foreground."""
    del killed
    with machine.popen("up") as process:
        deadline = time.monotonic() + START_SECONDS
        while not (machine.home / "ready").exists() or (machine.home / "ready").read_text() != str(process.pid):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        yield process
        if process.poll() is None:
            process.terminate()


async def token(stack: dict[str, Any]) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{stack['api']}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(stack["demo"]["client_id"], stack["demo"]["client_secret"]),
        )
    return str(answer.json()["access_token"])


async def test_after_a_killed_runner_the_next_up_recovers_with_the_same_credentials(
    machine: Machine, killed: dict[str, Any], running: subprocess.Popen[str]
) -> None:
    del running

    assert machine.stack() == killed
    assert await token(killed)


async def test_stack_json_and_env_are_for_their_owner_only(machine: Machine, running: subprocess.Popen[str]) -> None:
    del running

    for name in ("stack.json", "env", "secrets.json"):
        assert stat.S_IMODE((machine.home / name).stat().st_mode) == 0o600


async def test_status_shows_every_component_running(machine: Machine, running: subprocess.Popen[str]) -> None:
    code, found = await machine.status()

    assert code == 0
    assert found["runner"] == running.pid
    assert found["ready"]
    for part in found["components"]:
        assert part["state"] == "running", part
        assert part["pid"]
        assert part["port"]
        assert part["memory_bytes"] > 1e6
        assert os.path.getsize(part["log"]) >= 0  # noqa: PTH202 - a local file
    assert len(found["components"]) == 9


@pytest.mark.parametrize("arguments", [("up",), ("up", "--detach")])
async def test_a_second_up_is_refused_with_one_line(
    arguments: tuple[str, ...], machine: Machine, running: subprocess.Popen[str]
) -> None:
    code, said = await machine.sluice(*arguments)

    assert code == 1
    assert said.count("\n") == 1
    assert f"process {running.pid}" in said


async def test_a_busy_port_is_one_line_that_names_the_variable(
    machine: Machine, running: subprocess.Popen[str], tmp_path: Path
) -> None:
    del running

    other = tmp_path / "other"
    code, said = await machine.sluice("up", SLUICE_HOME=str(other))
    await LocalServers(other, report=print).discard()  # as root its data had a folder elsewhere

    assert code == 1
    assert re.fullmatch(r"sluice: Port \d+ for \w+ is taken by another program: stop it or set SLUICE_\w+_PORT\n", said)


@pytest.mark.parametrize(("arguments", "code"), [(("up", "--nonsense"), 2), (("up", "extra"), 2)])
async def test_wrong_use_is_exit_status_2(arguments: tuple[str, ...], code: int, machine: Machine) -> None:
    found, said = await machine.sluice(*arguments)

    assert found == code
    assert "Traceback" not in said


async def test_several_signals_to_the_whole_group_stop_everything_in_time(
    machine: Machine, running: subprocess.Popen[str]
) -> None:
    """As a terminal's Ctrl-C and `make` do it; last in this file."""
    started = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        os.killpg(running.pid, number)

    said = (await asyncio.to_thread(running.communicate))[0]

    assert time.monotonic() - started < STOP_SECONDS
    assert running.returncode == 0
    assert "Traceback" not in said
    assert said.rstrip().endswith("everything is stopped")
    assert not any(secret in said for part in ("admin", "demo") for secret in [machine.stack()[part]["client_secret"]])
    assert machine.leftovers() == []
    code, found = await machine.status()
    assert code == 1
    assert {part["state"] for part in found["components"]} == {"stopped"}
    assert await machine.sluice("down") == (0, f"Nothing runs in {machine.home}\n")
