"""`sluice verify` when a server does not answer as it should: one line, no traceback."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.system import System


@pytest.mark.parametrize("name", ["SLUICE_POSTGRES_WORKER_URL", "SLUICE_POSTGRES_AUTH_URL"])
async def test_a_database_that_is_not_there_is_one_line_and_status_1(system: System, name: str) -> None:
    wrong = {name: system.environment[name].rpartition("/")[0] + "/nowhere"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli.main", "verify", "--json",
        env=os.environ | system.environment | {"SLUICE_HOME": str(system.folder / "none")} | wrong,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    lines = err.decode().splitlines()
    assert len(lines) == 1, err.decode()
    assert "PostgreSQL does not answer" in lines[0]
    assert "nowhere" in lines[0]
