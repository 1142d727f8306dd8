"""`sluice keys` as people and programs use it: what it does, says and writes to the platform's audit log."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from app.cli.main import run

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.integration.auth.conftest import Keyed

PLATFORM = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def sluice(keyed: Keyed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command. In a thread, because a command has an event loop of its own."""

    async def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["sluice", "keys", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        for name in ("postgres_auth_url", "key_encryption_key", "secret_hash_key"):
            monkeypatch.setenv(f"SLUICE_{name.upper()}", getattr(keyed.settings, name).get_secret_value())
        with pytest.raises(SystemExit) as end:
            await asyncio.to_thread(run)
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call


async def log(connection: AsyncConnection) -> list[tuple[Any, ...]]:
    rows = await connection.exec_driver_sql(
        "select tenant_id::text, actor_kind, actor <> '', action, subject, detail, address from audit_log order by at"
    )
    return [tuple(row) for row in rows]


async def test_the_command_rotates_and_the_platforms_log_says_so(keyed: Keyed, sluice: Any) -> None:
    ended = await sluice("rotate", "--json")
    assert ended.status == 0, ended.err
    told = json.loads(ended.out)
    assert told["superseded"] == [keyed.first]
    assert await keyed.states() == {keyed.first: "signing", told["kid"]: "published"}
    async with keyed.engine.connect() as connection:
        detail = {name: value for name, value in told.items() if name != "kid"}
        assert await log(connection) == [(PLATFORM, "operator", True, "key.rotated", told["kid"], detail, None)]


async def test_the_command_retires_with_a_successor_and_the_log_names_both(keyed: Keyed, sluice: Any) -> None:
    ended = await sluice("retire", keyed.first, "--json")
    assert ended.status == 0, ended.err
    successor = json.loads(ended.out)["successor"]["kid"]
    async with keyed.engine.connect() as connection:
        entries = [(entry[3], entry[4]) for entry in await log(connection)]
    assert sorted(entries) == [("key.retired", keyed.first), ("key.rotated", successor)]


async def test_the_command_lists_keys_in_words_and_in_json(keyed: Keyed, sluice: Any) -> None:
    second = json.loads((await sluice("rotate", "--at-once", "--json")).out)["kid"]
    rows = json.loads((await sluice("list", "--json")).out)
    assert [(row["kid"], row["state"]) for row in rows] == [(keyed.first, "verifying"), (second, "signing")]
    assert rows[1]["retired_at"] is None
    assert rows[1]["signs_from"].endswith("Z")
    shown = (await sluice("list")).out
    assert "its tokens still hold" in shown
    assert second in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retire", "nobody"], "There is no key nobody"),
        (["rotate", "--in", "-1"], "--in"),
        (["rotate", "--in", "soon"], "--in"),
        (["rotate", "--in", "99999999"], "--in"),
        (["retire"], "kid"),
    ],
)
async def test_wrong_use_is_one_line_and_exit_status_2_and_changes_nothing(
    keyed: Keyed, sluice: Any, arguments: list[str], said: str
) -> None:
    ended = await sluice(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert await keyed.states() == {keyed.first: "signing"}


async def test_a_key_can_be_retired_once(keyed: Keyed, sluice: Any) -> None:
    assert (await sluice("retire", keyed.first)).status == 0
    again = await sluice("retire", keyed.first)
    assert again.status == 2
    assert "was retired on" in again.err
