"""A migrated database beside the running system's own, and settings that log in to it as each runtime role."""

from __future__ import annotations

import base64
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from app.settings import GatewaySettings, MigrationSettings
from migrations.run import migrate_postgres
from tests.system import create_database, role_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager


@dataclass(frozen=True)
class Database:
    """URLs of one migrated database: the administrator's and each runtime role's."""

    admin_url: str
    app_url: str
    worker_url: str
    auth_url: str

    def settings(self, **changes: Any) -> GatewaySettings:
        """Settings of a gateway over this database, with fresh keys."""
        values = {
            "postgres_app_url": self.app_url,
            "postgres_auth_url": self.auth_url,
            "redis_url": "redis://127.0.0.1:9/0",
            "kafka_bootstrap": "127.0.0.1:9",
            "elasticsearch_url": "http://127.0.0.1:9",
            "key_encryption_key": random_key(),
            "secret_hash_key": random_key(),
            **{f"{limit}_limit": "1000000/minute" for limit in ("token", "admin", "query", "failure")},
            "issuer": "http://127.0.0.1:8000",
        }
        return GatewaySettings.model_validate(values | changes)


def random_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@asynccontextmanager
async def migrated(postgres_url: str) -> AsyncIterator[Database]:
    """A new database on this server, migrated, dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    admin_url = await create_database(postgres_url, name)
    try:
        database = Database(admin_url, *(role_url(admin_url, role) for role in ("app", "worker", "auth")))
        await migrate_postgres(_migration_settings(database))
        yield database
    finally:
        server = await asyncpg.connect(postgres_url)
        await server.execute(f"drop database {name} with (force)")
        await server.close()


def _migration_settings(database: Database) -> MigrationSettings:
    return MigrationSettings.model_validate(
        {
            "postgres_url": database.admin_url,
            "postgres_app_url": database.app_url,
            "postgres_worker_url": database.worker_url,
            "postgres_auth_url": database.auth_url,
            "kafka_bootstrap": "127.0.0.1:9",
            "elasticsearch_url": "http://127.0.0.1:9",
        }
    )


@pytest.fixture(scope="session")
async def database(endpoints: Any) -> AsyncIterator[Database]:
    """One migrated database for the session; tests make tenants of their own in it."""
    async with migrated(endpoints.postgres_url) as made:
        yield made


@pytest.fixture
def new_database(endpoints: Any) -> Callable[[], AbstractAsyncContextManager[Database]]:
    """For a test of what happens in an empty one: `async with new_database() as database`."""
    return lambda: migrated(endpoints.postgres_url)
