"""The README's session, as a newcomer would paste it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.local_stack import write_stack
from tests.system import System

MARKER = re.compile(r"<!-- session: .*? -->\n```sh\n(?P<commands>.*?)```", re.DOTALL)


def session_of(readme: str) -> str:
    found = MARKER.findall(readme)
    assert len(found) == 1, "the README has one marked session"
    return str(found[0])


@pytest.mark.parametrize("shell", ["bash", "sh"])
async def test_the_session_of_the_readme_sends_counts_and_finds_an_event(
    shell: str, system: System, tmp_path: Path, repository: Path
) -> None:
    await write_stack(system, tmp_path)
    program = shutil.which(shell)
    assert program is not None
    running = await asyncio.create_subprocess_exec(
        program, "-eu", "-c", session_of((repository / "README.md").read_text(encoding="utf-8")),
        env=os.environ | {"SLUICE_HOME": str(tmp_path)}, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            out, err = await running.communicate()
    except TimeoutError:
        running.kill()
        raise
    assert (running.returncode, err.decode()) == (0, "")
    received, counted, found = (json.loads(line) for line in out.decode().splitlines())
    assert received["message"] == "Event received successfully"
    assert counted == {"event_type": "greeting", "count": 1}
    assert [hit["event_id"] for hit in found["hits"]] == [received["event_id"]]
    assert found["hits"][0]["metadata"] == {"text": "Hello from the README, 你好"}


def test_the_session_can_be_pasted_into_zsh_too(repository: Path) -> None:
    # An interactive zsh takes # for a command.
    commands = session_of((repository / "README.md").read_text(encoding="utf-8"))
    assert not [line for line in commands.splitlines() if line.lstrip().startswith("#") or " # " in line]
