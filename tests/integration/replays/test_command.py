"""`sluice replay` as operators use it: arguments and environment in, text and an exit status out."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.main import run
from tests.integration.replays.pieces import Pieces, shown, started, stored
from tests.system import MadeTenant, System


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


Sluice = Callable[..., Coroutine[Any, Any, Ended]]


@pytest.fixture
def sluice(system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sluice:
    """Runs `sluice replay` with the settings of the system. In a thread, because a command has a loop of its own."""
    for name, value in (system.environment | {"COLUMNS": "300"}).items():
        monkeypatch.setenv(name, value)

    async def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["sluice", "replay", *arguments])
        with pytest.raises(SystemExit) as end:
            await asyncio.to_thread(run)
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call


async def test_a_dry_run_counts_and_a_file_gets_every_event_once(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, sluice: Sluice, tmp_path: Path
) -> None:
    sent = await stored(system, tenant, http, 1100)
    file = tmp_path / "events.ndjson"
    order = ("start", "--tenant", tenant.tenant_id, "--to", "ndjson", "--from", "2026-03-01", "--event-type", "click")
    dry, done = await sluice(*order, "--dry-run", "--json"), await sluice(*order, "--output", str(file), "--json")
    assert dry.json()["events"] == 550
    assert (done.json()["state"], done.json()["sent"], done.json()["total"]) == ("done", 550, 550)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line["event_id"] for line in lines] == sent[1::2]
    assert {line["replay_id"] for line in lines} == {done.json()["replay_id"]}
    (entry,) = await system.fetch(
        "select actor_kind from audit_log where action = 'replay.created' and subject = $1", done.json()["replay_id"]
    )
    assert entry["actor_kind"] == "operator"
    again = await sluice(*order, "--output", str(file))
    assert (again.status, "exists already" in again.err) == (1, True)
    assert len((await http.get("/api/v1/replays")).json()["replays"]) == 1, "nothing was begun"


async def test_a_job_is_watched_listed_shown_paused_resumed_and_cancelled(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, sluice: Sluice
) -> None:
    await stored(system, tenant, http, 20)
    watching = asyncio.create_task(sluice("start", "--tenant", tenant.tenant_id, "--to", "kafka", "--wait", "--json"))
    while not watching.done():
        await pieces.one("kafka")
        await asyncio.sleep(0.05)
    assert ((await watching).json()["state"], (await watching).json()["sent"]) == ("done", 20)

    paced = await started(http, "kafka", events_per_second=1)
    named = (tenant.tenant_id, paced["replay_id"])
    assert (await sluice("pause", *named, "--json")).json()["state"] == "paused"
    listed, text = await sluice("list", "--tenant", tenant.tenant_id, "--json"), await sluice("show", *named)
    assert [each["state"] for each in listed.json()] == ["paused", "done"]
    assert text.status == 0
    assert "paused" in text.out
    assert (await sluice("resume", *named, "--json")).json()["state"] == "running"
    assert (await sluice("cancel", *named, "--json")).json()["state"] == "cancelled"
    assert (await shown(http, paced))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--json",), 2, "--rebuild"),
        (("start", "--to", "kafka"), 2, "--tenant"),
        (("start", "--tenant", "{tenant}", "--to", "raw"), 2, "raw"),
        (("start", "--tenant", "{tenant}", "--to", "kafka", "--output", "x"), 2, "--to ndjson"),
        (("start", "--tenant", "{tenant}", "--to", "webhook"), 2, "webhook_url"),
        (("start", "--tenant", "{tenant}", "--to", "webhook", "--url", "https://10.0.0.1/"), 2, "public internet"),
        (("start", "--tenant", "{tenant}", "--to", "kafka", "--from", "tomorrow"), 2, "started_at"),
        (("start", "--tenant", str(uuid.UUID(int=77)), "--to", "kafka"), 2, "no tenant"),
        (("show", "{tenant}", str(uuid.UUID(int=1))), 2, "no such replay"),
    ],
)
async def test_wrong_use_is_one_line_and_status_2(
    tenant: MadeTenant, sluice: Sluice, arguments: tuple[str, ...], status: int, said: str
) -> None:
    ended = await sluice(*(each.format(tenant=tenant.tenant_id) for each in arguments))
    assert (ended.status, said in ended.err) == (status, True), ended.err
    assert ended.out == ""
