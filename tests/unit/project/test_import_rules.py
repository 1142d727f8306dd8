"""The rules of who may import whom: they hold, and they would notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("app", "auth", "deploy", "migrations", "search", "tenants", "workers")


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    for name in PACKAGES:
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / ".importlinter", tmp_path)
    return tmp_path


def test_the_rules_cover_every_package(repository: Path) -> None:
    found = {path.parent.name for path in repository.glob("*/__init__.py")} - {"bench", "tests", "loadtests"}
    assert found == set(PACKAGES)


def test_the_rules_hold(repository: Path) -> None:
    done = _lint_imports(repository)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        ("app/events/model.py", "import app.database", "What an event is depends on no server"),
        ("app/errors.py", "import app.metrics", "Leaves import nothing of each other"),
        ("workers/loop.py", "import search.endpoints", "Workers know the event model and the stores"),
        ("app/reads/count.py", "import app.ingest.publish", "Dependencies point one way"),
        ("tenants/limits.py", "import app.main", "Dependencies point one way"),
        ("deploy/local/servers.py", "import app.settings", "The local servers don't know"),
        ("app/imports/run.py", "import app.ingest.content", "An import goes through the public API"),
        ("search/bulk.py", "import alembic", "Only migrations change the schema"),
    ],
)
def test_a_broken_rule_is_noticed(copy: Path, module: str, line: str, rule: str) -> None:
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = _lint_imports(copy)
    assert done.returncode == 1
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(rule) for line in broken), done.stdout
