"""A gateway that was frozen (SIGSTOP) and thawed: its very first answer already knows what was revoked meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import jwt
import pytest_asyncio

from tests.system import System, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from deploy.local.servers import Endpoints

FROZEN_SECONDS = 1.5
ROUNDS = 3
"""Each freezes it at another moment of its life between two looks."""

REVOCATIONS = {
    "token": """
        insert into token_revocations (tenant_id, jti, expires_at, version)
        values ($1, $2, now() + interval '1 hour', 0)
    """,
    "client": "update oauth_clients set revoked_at = now() where tenant_id = $1 and $2 <> ''",
    "tenant": "update tenants set status = 'suspended' where tenant_id = $1 and $2 <> ''",
    "nothing": "select $1::uuid, $2::text",
}
REQUESTS = {"ingest": ("POST", "/api/v1/events", b'{"event_type":"a"}'), "read": ("GET", "/api/v1/events/count", b"")}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """One API process that a test may freeze."""
    made = await System.create(endpoints, tmp_path_factory.mktemp("frozen"))
    try:
        await made.start("api")
        yield made
    finally:
        made.stop()


async def send(url: str, token: str, method: str, path: str, body: bytes) -> asyncio.Task[int]:
    """Send a request on a connection of its own; the task's result is the answer's status.

    The kernel takes connection and bytes, whether or not the process is awake.
    """
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()

    async def status() -> int:
        line = await reader.readline()
        writer.close()
        return int(line.split()[1])

    return asyncio.create_task(status())


async def answers(system: System, tokens: dict[str, tuple[str, str]]) -> dict[tuple[str, str], asyncio.Task[int]]:
    """Each kind of request with each token, sent."""
    return {
        (kind, name): await send(system.url, token, *request)
        for kind, (_, token) in tokens.items()
        for name, request in REQUESTS.items()
    }


async def test_the_first_answers_of_a_thawed_gateway_refuse_what_was_revoked_while_it_was_frozen(
    gateway: System,
) -> None:
    process = gateway.processes["api"].pid
    for _ in range(ROUNDS):
        tokens: dict[str, tuple[str, str]] = {}
        for kind in REVOCATIONS:
            tenant = await gateway.tenant()
            tokens[kind] = (tenant.tenant_id, await gateway.token(tenant))
        for request, answer in (await answers(gateway, tokens)).items():
            assert await answer == (202 if request[1] == "ingest" else 200), request
        connection = await asyncpg.connect(gateway.admin_url)
        os.kill(process, signal.SIGSTOP)
        try:
            thaw = time.monotonic() + FROZEN_SECONDS
            waiting = await answers(gateway, tokens)
            for kind, (tenant_id, token) in tokens.items():
                token_id = jwt.decode(token, options={"verify_signature": False})["jti"]
                await connection.execute(REVOCATIONS[kind], UUID(tenant_id), token_id)

            async def now() -> float:
                return time.monotonic()

            await until(now, lambda moment, thaw=thaw: moment > thaw)  # type: ignore[misc]
            assert not any(answer.done() for answer in waiting.values())
        finally:
            os.kill(process, signal.SIGCONT)
            await connection.close()
        found = {request: await answer for request, answer in waiting.items()}
        assert found == {
            (kind, name): {"ingest": 202, "read": 200}[name] if kind == "nothing" else 401
            for kind in REVOCATIONS
            for name in REQUESTS
        }
