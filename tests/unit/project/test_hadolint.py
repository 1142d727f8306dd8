"""The Dockerfile under hadolint, a linter for Dockerfiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_hadolint_has_nothing_to_say(repository: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", repository / "deploy" / "docker" / "Dockerfile"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
