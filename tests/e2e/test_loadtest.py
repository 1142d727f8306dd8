"""The first Locust user, run for real and briefly."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.local_stack import write_stack
from tests.system import System, until


async def _locust(repository: Path, home: Path, *arguments: str) -> tuple[int | None, str]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "--locustfile", str(repository / "loadtests" / "locustfile.py"), "--headless",
        "--users", "2", "--spawn-rate", "2", "--only-summary", *arguments,
        cwd=home, env=os.environ | {"SLUICE_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            out, _ = await running.communicate()
    except TimeoutError:
        running.kill()
        raise
    return running.returncode, out.decode()


async def test_the_load_test_sends_events_that_are_stored(system: System, repository: Path, tmp_path: Path) -> None:
    tenant = await write_stack(system, tmp_path)
    status, said = await _locust(repository, tmp_path, "--run-time", "2s", "--html", str(tmp_path / "report.html"))
    assert status == 0, said
    assert "/api/v1/events" in said
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8").lower()
    await until(lambda: system.counted(tenant), (1).__lt__)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--run-time", "2s", "--host", "http://192.0.2.1"), "load is only sent to 127.0.0.1"),
        (("--run-time", "1h"), "Give --run-time, at most 900 s"),
        ((), "Give --run-time, at most 900 s"),
    ],
)
async def test_load_is_sent_to_this_machine_only_and_has_an_end(
    arguments: tuple[str, ...], reason: str, system: System, repository: Path, tmp_path: Path
) -> None:
    tenant = await write_stack(system, tmp_path)
    status, said = await _locust(repository, tmp_path, *arguments)
    assert status == 1, said
    assert reason in said
    assert await system.counted(tenant) == 0


async def test_without_a_stack_it_says_how_to_start_one(repository: Path, tmp_path: Path) -> None:
    status, said = await _locust(repository, tmp_path, "--run-time", "2s")
    assert status == 1
    assert "start the stack with `make run` first" in said
