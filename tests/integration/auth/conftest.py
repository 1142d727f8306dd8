"""The OAuth endpoints and two guarded routes over a real database, and a way to make tenants in it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.database import create_engine
from app.http_errors import install as install_error_handlers
from app.throttling.throttle import Throttle
from auth.credentials import key_bytes
from auth.dependencies import EventsReader, EventsWriter, PlatformAdmin, TenantAdmin
from auth.endpoints import router
from auth.keys import KeyRing, ensure_signing_key
from auth.rotation import list_keys, retire, rotate
from auth.tokens import TokenVerifier
from tenants.directory import Directory
from tenants.lifecycle import CreatedTenant, create_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database


@dataclass
class Gateway:
    """What a gateway's process holds for authentication, and its application."""

    settings: GatewaySettings
    auth_engine: AsyncEngine
    keys: KeyRing
    directory: Directory
    verifier: TokenVerifier
    app: FastAPI

    def client(self, **options: Any) -> httpx.AsyncClient:
        """An HTTP client of this application."""
        return httpx.AsyncClient(transport=self.transport, base_url=self.settings.issuer, **options)

    @property
    def transport(self) -> httpx.ASGITransport:
        return httpx.ASGITransport(self.app)

    async def tenant(self, **options: Any) -> CreatedTenant:
        return await create_tenant(self.auth_engine, self.settings, "a tenant", "free", **options)

    async def token(self, tenant: CreatedTenant, **form: str) -> str:
        """A token for the tenant's first client."""
        async with self.client() as client:
            answer = await client.post("/oauth/token", data=credentials(tenant) | form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def execute(self, sql: str, **values: Any) -> None:
        async with self.auth_engine.begin() as connection:
            await connection.execute(text(sql), values)

    async def scalar(self, sql: str, **values: Any) -> Any:
        """The one value that the query finds."""
        async with self.auth_engine.connect() as connection:
            return await connection.scalar(text(sql), values)


def credentials(tenant: CreatedTenant) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": tenant.client_id,
        "client_secret": tenant.client_secret,
    }


def application(**held: Any) -> FastAPI:
    app = FastAPI()
    app.state.sluice = SimpleNamespace(**held)
    app.include_router(router)
    install_error_handlers(app)

    @app.get("/read")
    async def read(reader: EventsReader) -> dict[str, str]:
        return {"tenant_id": str(reader.tenant_id), "client_id": reader.client_id}

    @app.get("/write")
    async def write(writer: EventsWriter) -> str:
        return writer.client_id

    @app.get("/manage")
    async def manage(admin: TenantAdmin) -> str:
        return admin.client_id

    @app.get("/platform")
    async def platform(admin: PlatformAdmin) -> str:
        return admin.client_id

    return app


@contextlib.asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway's part in authentication, with its polling."""
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=3)
    keys = await KeyRing.load(engine, settings)
    directory = await Directory.load(engine)
    directory.on_change(keys.refresh)
    verifier = TokenVerifier(keys, directory, issuer=settings.issuer, audience=settings.issuer)
    app = application(
        settings=settings,
        auth_engine=engine,
        keys=keys,
        directory=directory,
        verifier=verifier,
        throttle=Throttle(settings),
    )
    polling = asyncio.create_task(directory.run())
    try:
        yield Gateway(settings, engine, keys, directory, verifier, app)
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling
        await engine.dispose()


@pytest.fixture(scope="session")
async def settings(database: Database) -> GatewaySettings:
    """Settings of a gateway whose database has a signing key."""
    many = "1000000/minute"  # from one address, what many would send
    made = database.settings(token_limit=many, admin_limit=many, query_limit=many, failure_limit=many)
    engine = create_engine(database.auth_url, pool_size=1)
    await ensure_signing_key(engine, made)
    await engine.dispose()
    return made


@pytest.fixture(scope="session")
async def gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    async with running(settings) as made:
        yield made


@dataclass
class Keyed:
    """A database of the test's own with a first key: keys are the whole system's, not a tenant's."""

    settings: GatewaySettings
    engine: AsyncEngine
    first: str

    @property
    def key(self) -> bytes:
        return key_bytes(self.settings.key_encryption_key)

    async def rotate(self, lead_seconds: float) -> str:
        async with self.engine.begin() as connection:
            return (await rotate(connection, self.key, lead_seconds)).kid

    async def retire(self, kid: str) -> str | None:
        async with self.engine.begin() as connection:
            successor = await retire(connection, self.key, kid)
        return None if successor is None else successor.kid

    async def states(self) -> dict[str, str]:
        async with self.engine.connect() as connection:
            return {key.kid: key.state for key in await list_keys(connection, self.key)}

    async def execute(self, sql: str) -> None:
        async with self.engine.begin() as connection:
            await connection.exec_driver_sql(sql)


@pytest.fixture
async def keyed(new_database: Callable[[], AbstractAsyncContextManager[Database]]) -> AsyncIterator[Keyed]:
    async with new_database() as database:
        settings = database.settings()
        engine = create_engine(database.auth_url, pool_size=4)
        yield Keyed(settings, engine, await ensure_signing_key(engine, settings))
        await engine.dispose()
