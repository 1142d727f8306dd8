"""`sluice tenants` as people and programs use it: arguments and environment in, text and an exit status out."""

from __future__ import annotations

import asyncio
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
        (("create", "acme", "--rate", "-1"), 2, "rate"),
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
