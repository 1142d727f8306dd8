"""A tenant's clients on the running system, for OAuth clients that know nothing of Sluice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from app.database import create_engine
from app.settings import OperatorSettings
from auth.clients import create_key_client
from auth.scopes import TENANT_SCOPES
from tests.client_keys import ClientKey
from tests.system import System

WithKey = Callable[[ClientKey], Awaitable[str]]


@pytest.fixture(autouse=True)
def _loopback_is_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two switches by which these libraries are told so; in production there is TLS."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
async def with_key(system: System) -> WithKey:
    """Makes a client that authenticates with this key, of a fresh tenant; returns its id."""

    async def make(key: ClientKey) -> str:
        tenant = await system.tenant()
        engine = create_engine(system.settings(OperatorSettings).postgres_auth_url.get_secret_value(), pool_size=1)
        async with engine.begin() as connection:
            jwks = {"keys": [key.public]}
            client_id = await create_key_client(connection, jwks, UUID(tenant.tenant_id), "with a key", TENANT_SCOPES)
        await engine.dispose()
        return client_id

    return make
