"""Makes `.venv` what requirements/ and pyproject.toml say. Runs before anything is installed: standard library only.

Quick where nothing changed, one run at a time, one line for what a person can mend. Installs pinned and hashed
wheels from whatever index pip is set up for, and refuses to know which that is.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAY_EVERY_SECONDS = 10.0
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


class EnvironmentProblem(Exception):  # noqa: N818  a person reads it as one line
    """What keeps the environment from being made, in one line."""


class Environment:
    """The virtual environment of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"

    def key(self, kind: str) -> str:
        """Changes with whatever decides what has to be installed. The path too: scripts name it in their first line."""
        digest = hashlib.sha256(str(self.root).encode())
        for name in (f"requirements/{kind}.txt", *(("pyproject.toml",) if kind == "run" else ())):
            digest.update((self.root / name).read_bytes())
        return digest.hexdigest()

    def current(self, kind: str) -> bool:
        stamp = self._stamp(kind)
        return self.python.exists() and stamp.is_file() and stamp.read_text() == self.key(kind)

    def make(self, kind: str) -> None:
        """Install what is missing for `run`, or for `run` and `dev`."""
        if not self._usable():
            self._create()
        if not self.current("run"):
            self._install("run")
            # In place and without a network: the build backend is among the requirements.
            self._pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(self.root))
            self._compile()
            self._stamp("run").write_text(self.key("run"))
        if kind == "dev" and not self.current("dev"):
            self._install("dev")
            self._stamp("dev").write_text(self.key("dev"))

    def _stamp(self, kind: str) -> Path:
        return self.folder / f"sluice-{kind}"

    def _usable(self) -> bool:
        """Whether the folder is an environment that was made here and whose Python still exists."""
        made_at = self.folder / "sluice-root"
        elsewhere = made_at.is_file() and made_at.read_text() != str(self.root)
        if elsewhere or not (self.folder / "pyvenv.cfg").is_file():
            return False
        probe = subprocess.run((self.python, *PIP, "--version"), capture_output=True, check=False)  # noqa: S603
        return probe.returncode == 0

    def _create(self) -> None:
        if importlib.util.find_spec("ensurepip") is None:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise EnvironmentProblem(
                f"this Python can't make a virtual environment, because ensurepip is missing: install the package "
                f"python3-venv (python{version}-venv on some systems) and run this again"
            )
        say("Making .venv")
        try:
            venv.create(self.folder, with_pip=True, clear=True, symlinks=True)
        except (subprocess.CalledProcessError, OSError) as error:
            raise EnvironmentProblem(f"can't make {self.folder}: {error}") from error
        (self.folder / "sluice-root").write_text(str(self.root))

    def _install(self, kind: str) -> None:
        requirements = self.root / "requirements" / f"{kind}.txt"
        total = sum(1 for line in requirements.read_text().splitlines() if "==" in line and not line.startswith(" "))
        say(f"Installing {total} packages from requirements/{kind}.txt; a first time takes a minute or two")
        # Every package is pinned, so there is nothing to resolve; and what is never imported need not be compiled.
        quick = ("--no-deps", "--no-compile", "--progress-bar", "off")
        self._pip("install", "--require-hashes", *quick, "--requirement", str(requirements), total=total)

    def _compile(self) -> None:
        """Byte code of just what the commands import, so that each start is seconds shorter for each process.

        Written here once, even where the environment tells Python to write none.
        """
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run(  # noqa: S603
            (str(self.python), "-c", "from app.cli.main import command_tree; command_tree()"),
            cwd=self.root,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # a program that can't be imported says so itself when it is started
        )

    def _pip(self, *arguments: str, total: int = 0) -> None:
        """Run pip with its words in a log, and say now and then how far it is."""
        log = self.folder / "install.log"
        said, collected = time.monotonic(), 0
        command = (str(self.python), *PIP, *arguments)
        with (
            log.open("w") as file,
            subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.root
            ) as pip,
        ):
            assert pip.stdout is not None  # noqa: S101  asked for above
            for line in pip.stdout:
                file.write(line)
                collected += line.startswith(("Collecting ", "Requirement already satisfied: "))
                if total and time.monotonic() - said > SAY_EVERY_SECONDS:
                    said = time.monotonic()
                    say(f"  {collected} of {total} packages" if collected < total else "  unpacking")
        if pip.returncode:
            errors = [line for line in log.read_text().splitlines() if line.startswith("ERROR: ")]
            reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with status {pip.returncode}"
            raise EnvironmentProblem(f"installing failed: {reason} (all that pip said is in {log})")


def say(text: str) -> None:
    """One line for the person who waits."""
    print(text, flush=True)  # noqa: T201  a command's output


def main(kind: str) -> int:
    """The exit status: 0, or 1 after one line on standard error."""
    environment = Environment(ROOT)
    if environment.current("run") and environment.current(kind):
        return 0
    # `make test` may be typed while `make run` still installs. The lock goes with the process, however that ends.
    lock = os.open(ROOT / "requirements", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment.make(kind)
    except EnvironmentProblem as problem:
        print(f"sluice: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("sluice: stopped; the next run goes on where this one was", file=sys.stderr)  # noqa: T201
        return 130
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
