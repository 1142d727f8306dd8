"""The real command as a process of its own, against a running system, as a tenant's operator would start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system import ROOT, MadeTenant, System

COMMAND = (sys.executable, "-m", "app.cli.main", "events", "import")


@dataclass(frozen=True)
class Done:
    """How the command ended."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)


class Importer:
    """Starts `sluice events import` for one tenant of one system."""

    def __init__(self, system: System, tenant: MadeTenant) -> None:
        self._environ = os.environ | {
            "SLUICE_API_URL": system.url,
            "SLUICE_CLIENT_ID": tenant.client_id,
            "SLUICE_CLIENT_SECRET": tenant.client_secret,
        }

    def start(self, *arguments: str | Path, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env=self._environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, given: str | None = None, seconds: float = 120, **environ: str) -> Done:
        return finished(self.start(*arguments, **environ), given=given, seconds=seconds)


def finished(process: subprocess.Popen[str], *, given: str | None = None, seconds: float = 120) -> Done:
    """Wait for the end; one that takes too long is killed and fails the test."""
    try:
        out, err = process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert "Traceback" not in err, err
    return Done(process.returncode, out, err)


def written(path: Path, count: int, **members: Any) -> Path:
    """A file of `count` events without ids."""
    with path.open("w") as file:
        for number in range(count):
            event = {
                "event_type": f"kind-{number % 3}",
                "user_id": f"u{number % 7}",
                "metadata": {"n": number},
            } | members
            file.write(json.dumps(event) + "\n")
    return path
