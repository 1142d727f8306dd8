"""`sluice clients` as operators and programs use it, against a running system."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from app.cli.main import run
from tenants.audit import Actor
from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.tenants.managing import CLIENTS, public_jwk, token_answer
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
    """Runs `sluice clients …`. In a thread, because a command has an event loop of its own."""

    async def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["sluice", "clients", *arguments])
        for name, value in {**system.environment, "COLUMNS": "200"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            await asyncio.to_thread(run)
        said = capsys.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return call


async def test_an_operator_makes_changes_rotates_and_revokes_a_tenants_client(system: System, sluice: Sluice) -> None:
    tenant = await system.tenant(rate=100, burst=500)
    options = ("--scope", "events:write", "--network", "127.0.0.0/8", "--rate", "5", "--burst", "10", "--json")
    created = (await sluice("create", tenant.tenant_id, "of an operator", *options)).told
    assert (created["name"], created["scopes"], created["networks"]) == (
        "of an operator",
        ["events:write"],
        ["127.0.0.0/8"],
    )
    assert (created["events_per_second"], created["burst"]) == (5, 10)
    client_id = created["client_id"]
    assert (await token_answer(system, client_id, created["client_secret"])).status_code == 200

    named = (tenant.tenant_id, client_id)
    changed = await sluice("change", *named, "--name", "[red]new[/red]", "--anywhere", "--no-own-limits")
    assert changed.status == 0, changed.err
    assert "[red]new[/red]" in changed.out
    shown = (await sluice("show", *named, "--json")).told
    assert (shown["name"], shown["networks"], shown["burst"]) == ("[red]new[/red]", [], None)
    assert shown["scopes"] == ["events:write"]

    rotated = (await sluice("rotate", *named, "--old-expires-in", "0", "--json")).told
    assert (await token_answer(system, client_id, created["client_secret"])).status_code == 401
    assert (await token_answer(system, client_id, rotated["client_secret"])).status_code == 200

    assert (await sluice("revoke", *named)).out.strip() == f"{client_id} is revoked."
    assert (await token_answer(system, client_id, rotated["client_secret"])).status_code == 401
    listed = (await sluice("list", tenant.tenant_id, "--json")).told
    assert [(c["client_id"], c["revoked_at"] is None) for c in listed] == [(tenant.client_id, True), (client_id, False)]

    entries = await system.fetch(
        "select action, actor_kind, actor from audit_log where tenant_id = $1 and subject = $2 order by at",
        tenant.tenant_id,
        client_id,
    )
    assert [entry["action"] for entry in entries] == [
        "client.created",
        "client.changed",
        "client.secret_added",
        "client.revoked",
    ]
    assert {(entry["actor_kind"], entry["actor"]) for entry in entries} == {("operator", Actor.operator().name)}


async def test_people_see_a_secret_once_and_it_is_in_no_list(system: System, sluice: Sluice) -> None:
    tenant = await system.tenant()
    created = await sluice("create", tenant.tenant_id, "acme")
    secret = next(line.split()[-1] for line in created.out.splitlines() if "client_secret  " in line)
    assert secret.startswith("sls_")
    client_id = next(line.split()[-1] for line in created.out.splitlines() if line.startswith("client_id"))
    assert (await token_answer(system, client_id, secret)).status_code == 200
    listed = await sluice("list", tenant.tenant_id)
    shown = await sluice("show", tenant.tenant_id, client_id)
    assert client_id in listed.out
    assert "last_used_at" in shown.out
    assert secret not in listed.out + shown.out


async def test_a_client_with_keys_is_made_from_a_file(system: System, sluice: Sluice, tmp_path: Path) -> None:
    tenant = await system.tenant()
    keys = tmp_path / "keys.json"
    key = public_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), kid="of-a-file")
    keys.write_text(json.dumps({"keys": [key]}))
    created = (await sluice("create", tenant.tenant_id, "acme", "--jwks", str(keys), "--json")).told
    assert (created["client_secret"], [key["kid"] for key in created["keys"]]) == (None, ["of-a-file"])
    keys.write_text("{")
    refused = await sluice("create", tenant.tenant_id, "acme", "--jwks", str(keys))
    assert refused.status == 2
    assert "is not JSON" in refused.err


async def test_an_administrator_is_made_and_rotated_by_command_only_with_the_platforms_scope(
    system: System, sluice: Sluice
) -> None:
    created = (await sluice("create", "--platform", "on call", "--json")).told
    assert created["scopes"] == ["platform:admin"]
    administrator = MadeTenant(str(PLATFORM_TENANT_ID), created["client_id"], created["client_secret"])
    tenant = await system.tenant()
    async with system.client(administrator) as http:
        path = f"/api/v1/admin/tenants/{tenant.tenant_id}/clients"

        async def admitted() -> int:
            return (await http.post(path, json={"name": "by the administrator"})).status_code

        assert await until(admitted, lambda status: status != 401, seconds=5) == 201
    rotated = (await sluice("rotate", "--platform", created["client_id"], "--json")).told
    assert (await token_answer(system, created["client_id"], rotated["client_secret"])).status_code == 200
    refused = await sluice("create", "--platform", "on call", "--scope", "tenant:admin")
    assert refused.status == 2
    assert "/scopes/0" in refused.err
    listed = (await sluice("list", "--platform", "--json")).told
    assert created["client_id"] in [client["client_id"] for client in listed]


async def test_an_operator_can_revoke_even_the_last_client_that_manages_a_tenant(
    system: System, sluice: Sluice
) -> None:
    tenant = await system.tenant()
    assert (await sluice("revoke", tenant.tenant_id, tenant.client_id)).status == 0
    back = (await sluice("create", tenant.tenant_id, "back", "--json")).told
    async with system.client(MadeTenant(tenant.tenant_id, back["client_id"], back["client_secret"])) as http:

        async def admitted() -> int:
            return (await http.get(CLIENTS)).status_code

        await until(admitted, lambda status: status == 200, seconds=5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "acme"), "TENANT_ID NAME"),
        (("create", "acme", "acme"), "not a tenant's id"),
        (("create", str(uuid.UUID(int=5)), "acme"), "There is no such tenant"),
        (("create", "{tenant}", "acme", "--rate", "5"), "/burst"),
        (("create", "{tenant}", "acme", "--scope", "platform:admin"), "/scopes/0"),
        (("create", "{tenant}", "acme", "--network", "here"), "/networks/0"),
        (("create", "{tenant}", " "), "/name"),
        (("create", "{tenant}", "acme", "--jwks", "/nowhere"), "does not exist"),
        (("list",), "TENANT_ID or --platform"),
        (("list", "{tenant}", "--platform"), "not both"),
        (("show", "{tenant}", "slc_nobody"), "There is no such client"),
        (("show", "--platform", "{client}"), "There is no such client"),
        (("change", "{tenant}", "{client}"), "nothing to change"),
        (("change", "{tenant}", "{client}", "--anywhere", "--network", "10.0.0.0/8"), "--anywhere"),
        (("rotate", "{tenant}", "{client}", "--old-expires-in", "-1"), "old-expires-in"),
    ],
)
async def test_wrong_use_is_said_in_a_line_and_ends_with_2(
    system: System, sluice: Sluice, arguments: tuple[str, ...], said: str
) -> None:
    tenant = await system.tenant()
    given = [argument.format(tenant=tenant.tenant_id, client=tenant.client_id) for argument in arguments]
    ended = await sluice(*given)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
