"""`sluice dead-letters` as operators and programs use it, against a running system."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from app.cli.main import run
from tenants.audit import Actor
from tests.integration.recovery.lettered import LETTERS, lettered, poisoned, put, retrying
from tests.system import MadeTenant, System, until

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


Sluice = Callable[..., Awaitable[Ended]]


@pytest.fixture
def sluice(system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sluice:
    """Runs `sluice dead-letters …`. In a thread, because a command has an event loop of its own."""

    async def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["sluice", "dead-letters", *arguments])
        for name, value in {**system.environment, "COLUMNS": "250"}.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()  # what a duty in this process has logged
        with pytest.raises(SystemExit) as end:
            await asyncio.to_thread(run)
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call


async def audited(system: System, tenant: MadeTenant) -> list[tuple[str, str, str, str]]:
    rows = await system.fetch(
        "select action, subject, actor_kind, actor from audit_log where tenant_id = $1 and action like 'dead_letter%' "
        "order by at",
        uuid.UUID(tenant.tenant_id),
    )
    return [tuple(row) for row in rows]


async def test_an_operator_finds_mends_and_retries_a_tenants_letter(
    system: System, sluice: Sluice, tmp_path: Path
) -> None:
    tenant = await system.tenant()
    letter_id = await poisoned(system, tenant, "[red]order")
    whose = ("--tenant", tenant.tenant_id)

    (listed,) = (await sluice("list", *whose, "--status", "open", "--json")).told
    assert (listed["dead_letter_id"], listed["reason"], listed["attempts"]) == (letter_id, "unstorable", 1)
    assert listed["source"] == {"topic": system.topic, "partition": 0, "offset": listed["source"]["offset"], "index": 0}
    table = (await sluice("list", *whose)).out
    assert letter_id in table
    assert "[red]order" in table, "no markup of somebody else"
    shown = (await sluice("show", letter_id, *whose, "--json")).told
    assert shown["payload"]["metadata"] == {"n": "\0"}
    assert '{"n":"\\u0000"}' in (await sluice("show", letter_id, *whose)).out

    file = tmp_path / "event.json"
    file.write_text('{"metadata": {"n": "\\u0000"}}')
    refused = await sluice("edit", letter_id, *whose, "--file", str(file))
    assert (refused.status, refused.out) == (2, "")
    assert "/metadata/n" in refused.err
    mended = (await sluice("edit", letter_id, *whose, "--event", '{"metadata": {"n": "é"}}', "--json")).told
    assert (mended["edited"], mended["edit"]["metadata"]) == (True, {"n": "é"})
    assert "queued" in (await sluice("retry", letter_id, *whose)).out
    async with retrying(system) as duty:
        await duty.turn()
    await until(lambda: system.counted(tenant), (1).__eq__)
    (done,) = (await sluice("list", *whose, "--json")).told
    assert done["status"] == "resolved"

    operator = ("operator", Actor.operator().name)
    assert await audited(system, tenant) == [
        ("dead_letter.edited", letter_id, *operator),
        ("dead_letter.retried", letter_id, *operator),
    ]
    async with system.client(tenant) as http:
        entries = (await http.get("/api/v1/audit")).json()["entries"]
        assert entries[0]["actor"] == {"kind": "operator", "client_id": None, "address": None, "request_id": None}


async def test_a_record_that_belongs_to_nobody_is_shown_and_retried_as_the_platforms(
    system: System, sluice: Sluice
) -> None:
    value = f"no record {uuid.uuid4()}".encode()
    await put(system, value)

    query = "select dead_letter_id from dead_letters where payload = $1"
    letter_id = str((await until(lambda: system.fetch(query, value), bool))[0]["dead_letter_id"])
    listed = (await sluice("list", "--platform", "--reason", "not a record", "--json")).told
    (letter,) = [found for found in listed if found["dead_letter_id"] == letter_id]
    assert letter["source"]["index"] is None
    assert value.decode() in (await sluice("show", letter_id, "--platform")).out
    refused = await sluice("edit", letter_id, "--platform", "--event", '{"event_type": "x"}')
    assert refused.status == 2
    assert "Only a single event" in refused.err
    assert (await sluice("retry", letter_id, "--platform", "--json")).told == {"changed": 1}
    async with retrying(system) as duty:
        await duty.turn()

    async def again() -> Any:
        return (await sluice("show", letter_id, "--platform", "--json")).told

    seen = await until(again, lambda found: found["status"] == "open")
    assert seen["attempts"] == 2
    assert (await sluice("discard", letter_id, "--platform", "--json")).told == {"changed": 1}


@pytest.mark.parametrize(("command", "status"), [("retry", "queued"), ("discard", "discarded")])
async def test_all_that_the_options_choose_are_changed_however_many(
    system: System, sluice: Sluice, command: str, status: str
) -> None:
    tenant = await system.tenant()
    kept = await lettered(system, tenant, reason="not indexable")
    await system.fetch(
        """
        insert into dead_letters (tenant_id, reason, detail, topic, source_partition, source_offset, record_index,
                                  payload)
        select $1, 'unstorable', 'd', 't', 1, n, 0, '{}' from generate_series(1, 2300) n
        """,
        uuid.UUID(tenant.tenant_id),
    )
    whose = ("--tenant", tenant.tenant_id)
    assert (await sluice(command, *whose, "--all", "--reason", "unstorable", "--json")).told == {"changed": 2300}
    assert (await sluice(command, *whose, "--all", "--reason", "unstorable", "--json")).told == {"changed": 0}
    rows = await system.fetch(
        "select status, count(*) from dead_letters where tenant_id = $1 group by 1", uuid.UUID(tenant.tenant_id)
    )
    assert dict(map(tuple, rows)) == {status: 2300, "open": 1}
    (left,) = (await sluice("list", *whose, "--status", "open", "--json")).told
    assert left["dead_letter_id"] == kept
    # Nobody sends them: the running system of the suite keeps its log to itself.
    await system.fetch("delete from dead_letters where tenant_id = $1", uuid.UUID(tenant.tenant_id))


async def test_of_several_letters_all_are_changed_or_none(system: System, sluice: Sluice) -> None:
    tenant = await system.tenant()
    whose = ("--tenant", tenant.tenant_id)
    first, second = await lettered(system, tenant), await lettered(system, tenant, status="resolved")
    refused = await sluice("discard", first, second, *whose)
    assert refused.status == 2
    assert "resolved" in refused.err
    assert {x["status"] for x in (await sluice("list", *whose, "--json")).told} == {"open", "resolved"}
    assert await audited(system, tenant) == []


async def test_one_tenants_letter_is_not_found_under_another(system: System, sluice: Sluice) -> None:
    tenant, other = await system.tenant(), await system.tenant()
    letter_id = await lettered(system, tenant)
    for command in ("show", "retry", "discard"):
        ended = await sluice(command, letter_id, "--tenant", other.tenant_id)
        assert ended.status == 2
        assert "There is no such dead letter" in ended.err
    assert (await sluice("list", "--tenant", other.tenant_id, "--json")).told == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list",), "--tenant TENANT_ID or --platform"),
        (("list", "--tenant", "{tenant}", "--platform"), "--tenant TENANT_ID or --platform"),
        (("list", "--tenant", "acme"), "valid UUID"),
        (("list", "--tenant", str(uuid.UUID(int=5))), "There is no"),
        (("list", "--tenant", "{tenant}", "--status", "lost"), "/status"),
        (("list", "--tenant", "{tenant}", "--from", "soon"), "/started_at"),
        (("retry", "--tenant", "{tenant}"), "name letters, or give --all"),
        (("retry", str(uuid.UUID(int=5)), "--tenant", "{tenant}", "--all"), "name letters, or give --all"),
        (("retry", str(uuid.UUID(int=5)), "--tenant", "{tenant}", "--reason", "unstorable"), "--all"),
        (("show", str(uuid.UUID(int=5)), "--tenant", "{tenant}"), "There is no such dead letter"),
        (("edit", str(uuid.UUID(int=5)), "--tenant", "{tenant}"), "--event JSON or --file FILE"),
    ],
)
async def test_wrong_use_is_said_in_a_line_and_ends_with_2(
    system: System, sluice: Sluice, arguments: tuple[str, ...], said: str
) -> None:
    tenant = await system.tenant()
    ended = await sluice(*(argument.format(tenant=tenant.tenant_id) for argument in arguments))
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1


async def test_without_postgresql_it_is_said_in_a_line_and_ends_with_1(
    system: System, sluice: Sluice, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = "postgresql://sluice_worker:p@127.0.0.1:9/x"
    monkeypatch.setitem(system.environment, "SLUICE_POSTGRES_WORKER_URL", away)
    ended = await sluice("list", "--platform")
    assert (ended.status, ended.out) == (1, "")
    assert len(ended.err.strip().splitlines()) == 1
    monkeypatch.undo()
    async with system.client(await system.tenant()) as http:
        assert (await http.get(LETTERS)).status_code == 200
