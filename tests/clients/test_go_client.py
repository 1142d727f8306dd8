"""A client from another ecosystem: Go's golang.org/x/oauth2/clientcredentials, built from pinned source where Go is.

The suite asks for Python, git and make only, so without Go, or out of reach of its modules, it says what it did not
run. GitHub's workflow installs Go, and there it has to run.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system import Say, System

SOURCE = Path(__file__).parent / "go"
MUST_RUN = os.environ.get("GITHUB_ACTIONS") == "true"
FETCH_SECONDS = 60
BUILD_SECONDS = 200


def go(*arguments: str, seconds: float) -> tuple[bool, str]:
    """Whether the go command did this in time, and what it said. Also looked for where its installer puts it."""
    found = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"]))
    if found is None:
        return False, "there is no go command"
    # No other version of Go than the one that is here is fetched.
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    try:
        done = subprocess.run(
            [found, *arguments],
            cwd=SOURCE,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return False, f"go {arguments[0]} took longer than {seconds} s"
    return done.returncode == 0, done.stderr.strip()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path | None, str]:
    """The built client, or None and why it can't be had here."""
    fetched, said = go("mod", "download", seconds=FETCH_SECONDS)
    if not fetched:
        return None, said
    built = tmp_path_factory.mktemp("go") / "client"
    made, said = go("build", "-buildvcs=false", "-o", str(built), ".", seconds=BUILD_SECONDS)
    assert made, said
    return built, ""


def test_what_it_is_built_from_is_pinned_by_checksum() -> None:
    required = re.findall(r"^(?:require |\t)(\S+) (v\S+)", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    sums = {tuple(line.split()[:2]) for line in (SOURCE / "go.sum").read_text().splitlines()}
    assert [name for name, _ in required] == ["golang.org/x/oauth2"]
    assert sums >= {(name, version + suffix) for name, version in required for suffix in ("", "/go.mod")}


@pytest.mark.parametrize("style", ["header", "params", "detect"])
async def test_gos_client_gets_a_token_and_uses_it(
    system: System, program: tuple[Path | None, str], style: str, say: Say
) -> None:
    built, reason = program
    if built is None:
        say(f"Go's client, {style}: not run, {reason}")
        assert not MUST_RUN, reason
        return
    report = await asyncio.to_thread(_run, built, system, await system.tenant(), style)
    assert report["type"] == "Bearer"
    assert 590 < report["seconds"] <= 600
    assert report["scope"] == "events:read"
    assert report["ok"], report["body"]
    assert json.loads(report["body"])["count"] == 0


def _run(built: Path, system: System, tenant: Any, style: str) -> dict[str, Any]:
    credentials = {"CLIENT_ID": tenant.client_id, "CLIENT_SECRET": tenant.client_secret}
    url = f"{system.url}/api/v1/events/count"
    ran = subprocess.run(
        [built, f"{system.url}/oauth/token", url, "events:read", style],
        env=os.environ | credentials,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report
