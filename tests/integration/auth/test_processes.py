"""Two API processes over one PostgreSQL: what one is told, the other knows within a second, without being asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import httpx
import jwt
import pytest

from tests.system import ROOT, System, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.local.servers import Endpoints
    from tests.system import MadeTenant

PROCESSES = ("api", "api-2")
READ, WRITE = "/api/v1/events/count", "/api/v1/events"
NO_LIMIT = "100000/second"


@pytest.fixture(scope="module")
async def pair(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Two API processes of a system of their own, as keys are the whole system's."""
    folder = tmp_path_factory.mktemp("pair")
    limits = {f"{name}_LIMIT": NO_LIMIT for name in ("TOKEN", "ADMIN", "QUERY", "FAILURE")}
    made = await System.create(endpoints, folder, **limits, TRUSTED_PROXIES="127.0.0.0/8")
    try:
        await made.start(*PROCESSES)
        yield made
    finally:
        made.stop()


@dataclass(frozen=True)
class Caller:
    """A tenant's client with a token, that calls any process."""

    system: System
    tenant: MadeTenant
    token: str

    @classmethod
    async def of(cls, system: System) -> Caller:
        tenant = await system.tenant()
        return cls(system, tenant, await system.token(tenant))

    @property
    def token_id(self) -> str:
        return str(jwt.decode(self.token, options={"verify_signature": False})["jti"])

    async def statuses(self, **headers: str) -> set[int]:
        """What each process answers to a read and a write, all at once."""
        headers |= {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            answers = await asyncio.gather(
                *(client.get(url + READ) for url in self.system.urls.values()),
                *(client.post(url + WRITE, json={"event_type": "a"}) for url in self.system.urls.values()),
            )
        return {answer.status_code for answer in answers}


async def execute(system: System, sql: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(system.admin_url)
    try:
        await connection.execute(sql, *arguments)
    finally:
        await connection.close()


async def keys(system: System, *arguments: str) -> Any:
    """`sluice keys …` as its own process, as an operator runs it; what it says as JSON."""
    command = [sys.executable, "-m", "app.cli.main", "keys", *arguments, "--json"]
    environment = os.environ | system.environment | {"SLUICE_HOME": str(system.folder / "none")}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


REVOKE_TOKEN = """
    insert into token_revocations (tenant_id, jti, expires_at, version) values ($1, $2, now() + interval '1 hour', 0)
"""
CHANGES = {
    "revoked token": (REVOKE_TOKEN, ("tenant", "token")),
    "revoked client": ("update oauth_clients set revoked_at = now() where tenant_id = $1", ("tenant",)),
    "suspended tenant": ("update tenants set status = 'suspended' where tenant_id = $1", ("tenant",)),
}


@pytest.mark.parametrize(("sql", "names"), CHANGES.values(), ids=CHANGES.keys())
async def test_each_process_refuses_within_one_second_of_the_commit(
    pair: System, sql: str, names: tuple[str, ...]
) -> None:
    caller, other = await Caller.of(pair), await Caller.of(pair)
    assert await caller.statuses() == {200, 202}
    arguments = {"tenant": UUID(caller.tenant.tenant_id), "token": caller.token_id}
    await execute(pair, sql, *(arguments[name] for name in names))
    await until(caller.statuses, lambda seen: seen == {401}, seconds=1)
    assert await other.statuses() == {200, 202}


async def test_behind_a_trusted_proxy_the_forwarded_address_decides_about_reads_and_writes(pair: System) -> None:
    caller = await Caller.of(pair)
    sql = "update oauth_clients set networks = '{192.0.2.0/24}' where tenant_id = $1"
    await execute(pair, sql, UUID(caller.tenant.tenant_id))
    await until(caller.statuses, lambda seen: seen == {403}, seconds=1)
    assert await caller.statuses(**{"X-Forwarded-For": "192.0.2.7"}) == {200, 202}
    assert await caller.statuses(**{"X-Forwarded-For": "192.0.2.7, 198.51.100.9"}) == {403}


async def test_a_rotation_under_traffic_fails_no_request_and_old_tokens_hold_where_nobody_saw_them_before(
    pair: System,
) -> None:
    old = await Caller.of(pair)
    before = jwt.get_unverified_header(old.token)["kid"]
    seen: set[int] = set()
    signed_with: list[str] = []
    done = asyncio.Event()

    async def ask_and_call() -> None:
        while not done.is_set():
            fresh = Caller(pair, old.tenant, await pair.token(old.tenant))
            signed_with.append(jwt.get_unverified_header(fresh.token)["kid"])
            seen.update(await fresh.statuses(), await old.statuses())

    traffic = asyncio.create_task(ask_and_call())
    try:
        rotated = await keys(pair, "rotate", "--in", "2")
        assert rotated["superseded"] == [before]
        async with httpx.AsyncClient() as client:
            for url in pair.urls.values():
                answer = await client.get(f"{url}/.well-known/jwks.json")
                assert rotated["kid"] in {key["kid"] for key in answer.json()["keys"]}
                assert answer.headers["cache-control"] == "public, max-age=60"

        async def latest() -> set[str]:
            return set(signed_with[-4:])

        await until(latest, lambda kids: kids == {rotated["kid"]})
        at_once = await keys(pair, "rotate", "--at-once")
        await until(latest, lambda kids: kids == {at_once["kid"]})
    finally:
        done.set()
        await traffic
    assert seen == {200, 202}
    assert list(dict.fromkeys(signed_with)) == [before, rotated["kid"], at_once["kid"]]

    await pair.start("api-3")
    try:
        assert await old.statuses() == {200, 202}
    finally:
        pair.kill("api-3")
        pair.urls.pop("api-3")


async def test_all_tokens_of_a_retired_key_are_refused_within_a_second_and_new_ones_work_everywhere(
    pair: System,
) -> None:
    leaked = await Caller.of(pair)
    assert await leaked.statuses() == {200, 202}
    retired = await keys(pair, "retire", jwt.get_unverified_header(leaked.token)["kid"])
    await until(leaked.statuses, lambda seen: seen == {401}, seconds=1)
    fresh = Caller(pair, leaked.tenant, await pair.token(leaked.tenant))
    assert jwt.get_unverified_header(fresh.token)["kid"] == retired["successor"]["kid"]
    assert await fresh.statuses() == {200, 202}


async def test_a_gateway_whose_issuer_is_plain_http_is_refused_at_its_start_in_one_line(pair: System) -> None:
    environment = os.environ | pair.environment | {"SLUICE_ISSUER": "http://events.example.com"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli.main", "api"),
        cwd=ROOT,
        env=environment | {"SLUICE_HOME": str(pair.folder / "none")},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 2
    assert err.decode().startswith("error: SLUICE_ISSUER: must be https")
    assert len(err.decode().strip().splitlines()) == 1
