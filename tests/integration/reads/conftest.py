"""The reading API over a real database, readers with tokens of fresh tenants, and a way to store events."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.database import create_engine
from app.http_errors import install
from app.reads.endpoints import router
from app.throttling.throttle import Throttle
from auth.keys import KeyRing, ensure_signing_key
from auth.scopes import EVENTS_READ
from auth.tokens import TokenVerifier, issue_token
from tenants.directory import Directory
from tenants.lifecycle import create_tenant
from tests.integration.reads.seeding import Seeded, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database


@dataclass(frozen=True)
class Reader:
    """A tenant, its events' store, and a client of the API that reads as it."""

    tenant_id: UUID
    http: httpx.AsyncClient
    worker: asyncpg.Connection

    async def store(self, events: Sequence[Seeded]) -> None:
        await store(self.worker, self.tenant_id, events)

    async def get(self, path: str, **parameters: Any) -> Any:
        """The answer's JSON; anything but 200 fails the test."""
        response = await self.http.get(f"/api/v1/events/{path}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    async def problem(self, path: str, **parameters: Any) -> tuple[int, list[str]]:
        """Status and pointers of the problem that is answered."""
        response = await self.http.get(f"/api/v1/events/{path}", params=parameters)
        assert response.headers["content-type"] == "application/problem+json", response.text
        problem = response.json()
        assert problem["status"] == response.status_code
        return response.status_code, [error["pointer"] for error in problem.get("errors", [])]


@dataclass
class Gateway:
    """What reading needs of a gateway's process; `over` gives the same with another database engine."""

    settings: GatewaySettings
    auth_engine: AsyncEngine
    keys: KeyRing
    directory: Directory
    verifier: TokenVerifier

    def over(self, engine: AsyncEngine) -> FastAPI:
        app = FastAPI()
        app.state.sluice = SimpleNamespace(
            engine=engine, verifier=self.verifier, settings=self.settings, throttle=Throttle(self.settings)
        )
        app.include_router(router)
        install(app)
        return app

    async def token(self, *, scopes: Sequence[str] = (EVENTS_READ,)) -> tuple[UUID, str]:
        """A fresh tenant and a token for it."""
        tenant = await create_tenant(self.auth_engine, self.settings, "a tenant", "free")
        await self.directory.refresh()
        now = time.time()
        token = issue_token(
            self.keys.signing_key(now),
            issuer=self.settings.issuer,
            audience=self.settings.issuer,
            tenant_id=tenant.tenant_id,
            client_id=tenant.client_id,
            scopes=scopes,
            lifetime_seconds=3600,
            now=now,
        )
        return tenant.tenant_id, token

    def client(self, app: FastAPI, token: str | None) -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # What a handler raises is answered as in production, so that a 500 shows as a 500.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=self.settings.issuer, headers=headers)


@pytest.fixture(scope="session")
async def gateway(database: Database) -> AsyncIterator[Gateway]:
    settings = database.settings()
    engine = create_engine(database.auth_url, pool_size=2)
    await ensure_signing_key(engine, settings)
    keys, directory = await KeyRing.load(engine, settings), await Directory.load(engine)
    verifier = TokenVerifier(keys, directory, issuer=settings.issuer, audience=settings.issuer)
    yield Gateway(settings, engine, keys, directory, verifier)
    await engine.dispose()


@pytest.fixture(scope="session")
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """Logs in as sluice_app."""
    made = create_engine(database.app_url, pool_size=3)
    yield made
    await made.dispose()


@pytest.fixture(scope="session")
async def worker(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Logs in as sluice_worker."""
    connection = await asyncpg.connect(database.worker_url)
    yield connection
    await connection.close()


@pytest.fixture
async def readers(
    gateway: Gateway, engine: AsyncEngine, worker: asyncpg.Connection
) -> AsyncIterator[tuple[Reader, Reader]]:
    """Two fresh tenants."""
    app = gateway.over(engine)
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            tenant_id, token = await gateway.token()
            made.append(Reader(tenant_id, await stack.enter_async_context(gateway.client(app, token)), worker))
        yield made[0], made[1]


@pytest.fixture
def reader(readers: tuple[Reader, Reader]) -> Reader:
    """A fresh tenant."""
    return readers[0]
