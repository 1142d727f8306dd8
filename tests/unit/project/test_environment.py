"""What stands between a fresh clone and `.venv`: the choice of a Python and the installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.environment import Environment, EnvironmentProblem


def _fake_python(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


def _run_script(repository: Path, path: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", repository / "deploy" / "venv", "run"],
        env={"PATH": path, **environ}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def _checkout(folder: Path) -> Path:
    (folder / "requirements").mkdir(parents=True)
    (folder / "requirements" / "run.txt").write_text("one==1\n")
    (folder / "requirements" / "dev.txt").write_text("two==2\n")
    (folder / "pyproject.toml").write_text("[project]\n")
    return folder


def _installed(root: Path) -> Environment:
    """An environment as it is after an installation, without the minutes that one takes."""
    environment = Environment(root)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    for kind in ("run", "dev"):
        environment._stamp(kind).write_text(environment.key(kind))
    return environment


def test_a_machine_whose_pythons_are_too_old_gets_one_line(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    _fake_python(tmp_path, "python3", "exit 1")
    done = _run_script(repository, str(tmp_path), PYTHON="python3")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 to 3.14 is needed" in done.stderr


def test_a_machine_without_any_python_gets_the_same_line(repository: Path, tmp_path: Path) -> None:
    # dirname is all that the script needs beside a Python.
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    done = _run_script(repository, str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "install one, or name it with PYTHON" in done.stderr


def test_a_newer_python_is_found_beside_an_old_python3(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    _fake_python(tmp_path, "python3", "exit 1")
    _fake_python(tmp_path, "python3.12", 'case "$1" in -c) exit 0;; *) echo "chosen $*";; esac')
    done = _run_script(repository, str(tmp_path))
    assert done.stdout == "chosen -B deploy/environment.py run\n"


def test_a_python_without_ensurepip_gets_one_line_that_names_the_package(tmp_path: Path, repository: Path) -> None:
    root = _checkout(tmp_path / "clone")
    (root / "deploy").mkdir()
    (root / "deploy" / "environment.py").write_bytes((repository / "deploy" / "environment.py").read_bytes())
    script = str(root / "deploy" / "environment.py")
    program = (
        "import importlib.util, runpy, sys; found = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *more: None if name == 'ensurepip' else found(name, *more);"
        f"sys.argv = ['environment', 'run']; runpy.run_path({script!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "python3-venv" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_environment_that_is_current_is_left_alone(tmp_path: Path) -> None:
    environment = _installed(_checkout(tmp_path / "clone"))
    assert environment.current("run")
    assert environment.current("dev")


@pytest.mark.parametrize("changed", ["requirements/run.txt", "pyproject.toml"])
def test_a_change_of_what_runs_sluice_makes_it_install_again(tmp_path: Path, changed: str) -> None:
    root = _checkout(tmp_path / "clone")
    environment = _installed(root)
    with (root / changed).open("a") as file:
        file.write("# changed\n")
    assert not environment.current("run")
    assert environment.current("dev")


def test_a_checkout_that_was_moved_installs_again(tmp_path: Path) -> None:
    # The scripts in .venv/bin name the interpreter by its path.
    _installed(_checkout(tmp_path / "clone"))
    moved = (tmp_path / "clone").rename(tmp_path / "moved")
    assert not Environment(moved).current("run")


def test_what_pip_complains_about_becomes_one_line(tmp_path: Path) -> None:
    root = _checkout(tmp_path / "clone")
    environment = Environment(root)
    _fake_python(root / ".venv", "unused", "")
    environment.python.parent.mkdir(parents=True)
    _fake_python(environment.python.parent, "python", 'echo "ERROR: No matching distribution"; exit 1')
    with pytest.raises(EnvironmentProblem, match=r"^installing failed: No matching distribution \(all that pip said"):
        environment._pip("install", "x")


def test_two_installations_at_once_happen_one_after_the_other(tmp_path: Path, repository: Path) -> None:
    root = _checkout(tmp_path / "clone")
    program = (
        "import sys, time, pathlib; sys.path.insert(0, sys.argv[1]);"
        "import deploy.environment as e; root = pathlib.Path(sys.argv[2]); e.ROOT = root\n"
        "class Slow(e.Environment):\n"
        "    def make(self, kind):\n"
        "        file = root / 'inside'\n"
        "        file.open('x').close(); time.sleep(0.3); file.unlink()\n"
        "e.Environment = Slow; sys.exit(e.main('run'))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", program, repository, root], env=os.environ, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [(run.communicate(timeout=60)[1], run.returncode) for run in runs] == [(b"", 0)] * 3
