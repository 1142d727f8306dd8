"""The image: how it is built, and that what goes into it is enough."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def instructions(repository: Path) -> list[tuple[str, str]]:
    """(instruction, arguments), lines joined and comments dropped."""
    lines = (repository / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def _of(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions if instruction == name]


def test_its_bases_are_pinned_by_tag_and_name_no_registry(instructions: list[tuple[str, str]]) -> None:
    assert _of(instructions, "FROM")
    for base in _of(instructions, "FROM"):
        assert re.fullmatch(r"[a-z]+:\d+\.\d+[\w.-]*( AS [a-z]+)?", base), base


def test_it_installs_the_pinned_and_hashed_requirements(instructions: list[tuple[str, str]]) -> None:
    installs = [run for run in _of(instructions, "RUN") if "pip install" in run]
    assert "--require-hashes --requirement requirements/run.txt" in installs[0]
    assert all("--no-deps" in run for run in installs[1:])


def test_it_runs_as_somebody_without_rights(instructions: list[tuple[str, str]]) -> None:
    users = _of(instructions, "USER")
    assert len(users) == 1
    assert users[0].isdecimal()
    assert int(users[0]) > 0
    after = [name for name, _ in instructions[instructions.index(("USER", users[0])) + 1 :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_no_secret_is_built_into_it(instructions: list[tuple[str, str]]) -> None:
    assert _of(instructions, "ARG") == []
    for arguments in _of(instructions, "ENV"):
        assert not re.search(r"SLUICE_|PASSWORD|KEY|TOKEN|SECRET", arguments)


def test_what_it_copies_is_not_ignored_and_nothing_else_is_sent(
    repository: Path, instructions: list[tuple[str, str]]
) -> None:
    rules = (repository / ".dockerignore").read_text(encoding="utf-8").split()
    assert rules[0] == "*"
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = {
        source
        for arguments in _of(instructions, "COPY")
        if not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    assert copied == set(kept)
    assert all((repository / path).exists() for path in kept)
    assert not any(fnmatch.fnmatch(path, pattern) for path in (".env", ".git", ".sluice") for pattern in kept)


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as `pip install .` in the image builds it, by the pinned build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=repository, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_the_built_project_holds_all_that_it_reads(wheel: Path, repository: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(repository))
        for package in ("app", "auth", "deploy", "migrations", "search", "tenants", "workers")
        for path in (repository / package).rglob("*")
        if path.is_file() and path.suffix in {".py", ".json", ".toml", ".mako", ".sql", ".lua"}
    }
    assert wanted <= inside
    assert not [name for name in inside if name.startswith(("tests/", "bench/", "loadtests/"))]


def test_the_command_of_the_built_project_runs_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['sluice', 'api']; import app.cli.main as m"
    )
    check = "assert m.__file__.startswith(sys.path[0]), m.__file__; m.run()"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {check}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "SLUICE_POSTGRES_APP_URL: is missing" in done.stderr
