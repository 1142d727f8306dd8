"""The Makefile: its commands, and how they end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

COMMANDS = {"run", "test", "lint", "types", "bench", "loadtest", "faults", "clean", "help"}


@pytest.fixture
def clone(tmp_path: Path, repository: Path) -> Path:
    """The Makefile over programs that only say that they were called."""
    shutil.copy(repository / "Makefile", tmp_path / "Makefile")
    programs = ("pytest", "ruff", "mypy", "lint-imports", "locust", "python", "sluice")
    for name in [f".venv/bin/{program}" for program in programs] + ["deploy/venv"]:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{program.name} $*"\n')
        program.chmod(0o755)
    return tmp_path


def _make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=clone, capture_output=True, text=True, check=False, timeout=60)


def _fail(clone: Path, program: str) -> None:
    (clone / ".venv" / "bin" / program).write_text("#!/bin/sh\nexit 3\n")


def test_help_lists_every_command_and_is_the_default(clone: Path) -> None:
    done = _make(clone)
    assert set(re.findall(r"^  make ([a-z]+)", done.stdout, re.MULTILINE)) == COMMANDS
    assert done.stdout == _make(clone, "help").stdout


def test_run_makes_the_environment_and_becomes_sluice_up(clone: Path) -> None:
    assert _make(clone, "run").stdout == "venv run\nsluice up\n"


def test_test_checks_style_and_types_and_ends_with_pytest(clone: Path) -> None:
    done = _make(clone, "test")
    assert done.returncode == 0
    called = [line.split(" ")[0] for line in done.stdout.splitlines()]
    assert called == ["venv", "ruff", "ruff", "lint-imports", "mypy", "pytest"]


def test_arguments_reach_pytest(clone: Path) -> None:
    assert _make(clone, "test", "ARGS=tests/unit -x").stdout.endswith("\npytest -n 2 --dist loadfile tests/unit -x\n")


def test_faults_runs_the_long_form_of_what_is_broken_on_purpose(clone: Path) -> None:
    assert _make(clone, "faults", "ARGS=-x").stdout == "venv dev\npytest --long tests/faults tests/fuzz -x\n"


@pytest.mark.parametrize(
    ("program", "named"), [("lint-imports", "lint"), ("ruff", "lint"), ("mypy", "types"), ("pytest", "test")]
)
def test_a_check_that_fails_fails_the_command_and_is_named(clone: Path, program: str, named: str) -> None:
    _fail(clone, program)
    done = _make(clone, "test")
    assert done.returncode == 2
    assert re.search(rf"\b{named}\b.* Error", done.stderr)


def test_terminating_make_reaches_sluice(clone: Path) -> None:
    sluice = clone / ".venv" / "bin" / "sluice"
    sluice.write_text("#!/bin/sh\ntrap 'echo stopped > stopped; exit 0' TERM\necho up\nwhile :; do sleep 0.05; done\n")
    running = subprocess.Popen(["make", "run"], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    while running.stdout.readline() != "up\n":
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while not (clone / "stopped").exists():
        assert time.monotonic() < deadline, "the signal did not reach the program"


def test_clean_keeps_the_data(clone: Path) -> None:
    (clone / ".sluice").mkdir()
    (clone / "app" / "__pycache__").mkdir(parents=True)
    assert _make(clone, "clean").returncode == 0
    assert {path.name for path in clone.iterdir()} == {"Makefile", ".sluice", "app", "deploy"}
    assert not (clone / "app" / "__pycache__").exists()


def test_continuous_integration_runs_make_test_without_standard_input(clone: Path, repository: Path) -> None:
    (clone / ".ci").mkdir()
    shutil.copy(repository / ".ci" / "run", clone / ".ci" / "run")
    (clone / ".venv" / "bin" / "pytest").write_text('#!/bin/sh\necho "CI=$CI [$(cat)]"\n')
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [clone / ".ci" / "run"],
        cwd="/",
        env=environ,
        input="typed",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.endswith("CI=true []\n")
