"""`sluice verify` when a server does not answer as it should: one line, no traceback."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys

import pytest

from tests.integration.workers.conftest import Bench
from tests.integration.workers.upkeep import Command
from tests.system import System, create_database, role_url


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


async def test_a_database_that_was_never_migrated_does_answer_and_that_is_what_is_said(
    bench: Bench, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = await create_database(bench.system.endpoints.postgres_url, f"t{secrets.token_hex(5)}")
    monkeypatch.setenv("SLUICE_POSTGRES_AUTH_URL", role_url(empty, "auth"))
    status, out, err = await command("verify")
    assert (status, out) == (1, "")
    assert "PostgreSQL refuses" in err
    assert "`sluice migrate`" in err
    assert "does not answer" not in err
