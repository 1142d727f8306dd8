"""`sluice tenants` as people and programs use it: arguments and environment in, text and an exit status out."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from app.cli.main import run

if TYPE_CHECKING:
    from app.settings import GatewaySettings


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


Sluice = Callable[..., Awaitable[Ended]]


@pytest.fixture
def sluice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sluice:
    """Runs the command. In a thread, because a command has an event loop of its own."""

    async def call(*arguments: str, **environment: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["sluice", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            await asyncio.to_thread(run)
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def environment(settings: GatewaySettings) -> dict[str, str]:
    names = ("postgres_auth_url", "key_encryption_key", "secret_hash_key")
    return {f"SLUICE_{name.upper()}": getattr(settings, name).get_secret_value() for name in names}


async def test_create_list_and_show_agree_in_json(environment: dict[str, str], sluice: Sluice) -> None:
    name = f"acme {uuid.uuid4()}"
    created = await sluice(
        "tenants", "create", name, "--plan", "free", "--rate", "2.5", "--burst", "7", "--json",
        **environment,
    )  # fmt: skip
    assert created.status == 0, created.err
    told = json.loads(created.out)
    assert told.keys() == {"tenant_id", "client_id", "client_secret"}

    listed = await sluice("tenants", "list", "--json", **environment)
    (entry,) = [tenant for tenant in json.loads(listed.out) if tenant["tenant_id"] == told["tenant_id"]]
    assert (entry["name"], entry["plan"], entry["status"]) == (name, "free", "active")
    assert (entry["events_per_second"], entry["burst"]) == (2.5, 7)

    shown = await sluice("tenants", "show", told["tenant_id"], "--json", **environment)
    (client,) = json.loads(shown.out)["clients"]
    assert client["client_id"] == told["client_id"]
    assert told["client_secret"] not in listed.out + shown.out


async def test_people_see_the_secret_once_and_names_can_not_style_the_terminal(
    environment: dict[str, str], sluice: Sluice
) -> None:
    name = f"[red]acme[/red] {uuid.uuid4()}"
    created = await sluice("tenants", "create", name, **environment)
    assert created.status == 0, created.err
    assert name in created.out
    secret = next(line.split()[-1] for line in created.out.splitlines() if "client_secret" in line)
    listed = await sluice("tenants", "list", **environment)
    assert "[red]acme[/red]" in listed.out
    assert secret.startswith("sls_")
    assert secret not in listed.out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("create", "acme", "--plan", "gold"), 2, "free, standard, enterprise"),
        (("create", "acme", "--rate", "-1"), 2, "events_per_second"),
        (("create", "acme", "--burst", "many"), 2, "burst"),
        (("create",), 2, "name"),
        (("show", "acme"), 2, "UUID"),
        (("show", str(uuid.UUID(int=5))), 2, "There is no tenant"),
    ],
)
async def test_wrong_use_is_said_without_a_traceback(
    environment: dict[str, str], sluice: Sluice, arguments: tuple[str, ...], status: int, said: str
) -> None:
    ended = await sluice("tenants", *arguments, **environment)
    assert ended.status == status
    assert said in ended.err.replace("NAME", "name")
    assert "Traceback" not in ended.err
    assert not ended.out


async def test_missing_settings_are_named_and_an_absent_database_is_one_line(
    environment: dict[str, str], sluice: Sluice
) -> None:
    missing = await sluice("tenants", "list")
    assert missing.status == 2
    assert "SLUICE_POSTGRES_AUTH_URL" in missing.err
    away = environment | {"SLUICE_POSTGRES_AUTH_URL": "postgresql://sluice_auth:x@127.0.0.1:9/none"}
    ended = await sluice("tenants", "list", **away)
    assert ended.status == 1
    assert len(ended.err.strip().splitlines()) == 1
    assert "PostgreSQL does not answer" in ended.err


async def created(environment: dict[str, str], sluice: Sluice, *options: str) -> str:
    made = await sluice("tenants", "create", "acme", "--json", *options, **environment)
    assert made.status == 0, made.err
    return str(json.loads(made.out)["tenant_id"])


async def test_a_tenant_is_put_on_a_plan_suspended_and_resumed(environment: dict[str, str], sluice: Sluice) -> None:
    tenant_id = await created(environment, sluice, "--rate", "3")
    planned = await sluice("tenants", "plan", tenant_id, "free", "--burst", "9", "--json", **environment)
    assert planned.status == 0, planned.err
    told = json.loads(planned.out)
    assert (told["plan"], told["events_per_second"], told["burst"]) == ("free", 100, 9)
    assert told["overrides"] == {"events_per_second": None, "burst": 9}
    for command, status in (("suspend", "suspended"), ("suspend", "suspended"), ("resume", "active")):
        ended = await sluice("tenants", command, tenant_id, "--json", **environment)
        assert (ended.status, json.loads(ended.out)["status"]) == (0, status)
    shown = await sluice("tenants", "show", tenant_id, **environment)
    assert "active" in shown.out
    used = await sluice("tenants", "usage", tenant_id, "--json", **environment)
    assert json.loads(used.out)["totals"]["stored"] == 0


async def test_deleting_asks_first_and_a_no_changes_nothing(
    environment: dict[str, str], sluice: Sluice, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await created(environment, sluice)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ended = await sluice("tenants", "delete", tenant_id, **environment)
    assert (ended.status, ended.out.strip()) == (1, "")
    assert "Delete the tenant 'acme'" in ended.err
    assert "Nothing was deleted." in ended.err
    shown = await sluice("tenants", "show", tenant_id, "--json", **environment)
    assert json.loads(shown.out)["status"] == "active"


async def test_without_waiting_the_receipt_is_printed_and_shown_from_then_on(
    environment: dict[str, str], sluice: Sluice
) -> None:
    tenant_id = await created(environment, sluice)
    ended = await sluice("tenants", "delete", tenant_id, "--yes", "--no-wait", "--json", **environment)
    assert ended.status == 0, ended.err
    receipt = json.loads(ended.out)
    assert (receipt["step"], receipt["finished_at"], receipt["deleted"]) == ("requested", None, {})
    shown = json.loads((await sluice("tenants", "show", tenant_id, "--json", **environment)).out)
    assert (shown["status"], shown["deletion"]) == ("deleting", receipt)
    for command in (("resume", tenant_id), ("plan", tenant_id, "free")):
        refused = await sluice("tenants", *command, **environment)
        assert (refused.status, refused.err.strip()) == (2, "error: The tenant is being deleted.")


async def test_when_no_worker_takes_a_deletion_one_line_says_what_to_run(
    environment: dict[str, str], sluice: Sluice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.tenant_deletion.PATIENCE_SECONDS", 0.5)
    tenant_id = await created(environment, sluice)
    ended = await sluice("tenants", "delete", tenant_id, "--yes", "--json", **environment)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.strip() == (
        "error: No worker has begun with it; the deletion goes on by itself when `sluice worker maintain` runs."
    )


async def test_plans_are_set_listed_and_deleted(environment: dict[str, str], sluice: Sluice) -> None:
    plan = f"own-{uuid.uuid4().hex[:12]}"
    made = await sluice(
        "plans", "set", plan, "--rate", "5", "--burst", "50", "--monthly-quota", "1000", "--at-quota", "refuse",
        "--json", **environment,
    )  # fmt: skip
    assert made.status == 0, made.err
    told = json.loads(made.out)
    assert (told["plan_id"], told["monthly_quota"], told["at_quota"]) == (plan, 1000, "refuse")
    listed = await sluice("plans", "list", "--json", **environment)
    assert told in json.loads(listed.out)
    assert plan in (await sluice("plans", "list", **environment)).out
    tenant_id = await created(environment, sluice, "--plan", plan)
    held = await sluice("plans", "delete", plan, **environment)
    assert (held.status, "A tenant has the plan" in held.err) == (2, True)
    await sluice("tenants", "plan", tenant_id, "free", **environment)
    deleted = await sluice("plans", "delete", plan, "--json", **environment)
    assert (deleted.status, json.loads(deleted.out)) == (0, {"plan_id": plan})
    wrong = await sluice("plans", "set", "Own", "--rate", "0", "--burst", "50", **environment)
    assert wrong.status == 2
    assert "/plan_id" in wrong.err
    assert "/events_per_second" in wrong.err
