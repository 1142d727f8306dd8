"""What must be there before anything can be asked of the system: a signing key, an administrator, a demo tenant.

`sluice up` calls it at every start and keeps what it returns. Refuses to own that file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text

from app.database import create_engine
from auth.clients import create_client, find_client
from auth.credentials import key_bytes
from auth.keys import ensure_signing_key
from auth.scopes import TENANT_SCOPES
from tenants.lifecycle import create_administrator, insert_tenant
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.settings import OperatorSettings

DEMO_TENANT_ID = UUID(int=1)
"""Fixed, because names need not be unique and the demo tenant must be found again."""

# Kept for ever and fast, so that a newcomer's import of years of history is neither throttled nor cleaned up.
DEMO_PLAN = "enterprise"

_EXISTS = text("select 1 from tenants where tenant_id = :tenant_id for update")
_INSERT_PLATFORM = text("""
    insert into tenants (tenant_id, name, plan_id) values (:tenant_id, 'platform', 'free') on conflict do nothing
""")


async def ensure_platform(settings: OperatorSettings, previous: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make what is missing; returns `{"admin": {client_id, client_secret}, "demo": {tenant_id, client_id,
    client_secret}}`.

    `previous` is what an earlier call returned, if that is still known. Credentials of it that work are returned
    unchanged; others can't be recovered, so new clients are made, and the old stay for whoever may hold them.
    Safe to call again and by several processes at once. The tables must be there.
    """
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
    try:
        await ensure_signing_key(engine, settings)
        async with engine.begin() as connection:
            # The platform's row is also the lock: a second caller waits here for the first one's commit.
            if not await _exists(connection, PLATFORM_TENANT_ID):
                await connection.execute(_INSERT_PLATFORM, {"tenant_id": PLATFORM_TENANT_ID})
                await _exists(connection, PLATFORM_TENANT_ID)
            if not await _exists(connection, DEMO_TENANT_ID):
                await insert_tenant(connection, DEMO_TENANT_ID, "demo", DEMO_PLAN)
            known = previous or {}
            admin = await _working(connection, settings, PLATFORM_TENANT_ID, known.get("admin"))
            if admin is None:
                client_id, client_secret = await create_administrator(connection, settings)
                admin = {"client_id": client_id, "client_secret": client_secret}
            demo = await _working(connection, settings, DEMO_TENANT_ID, known.get("demo"))
            if demo is None:
                key = key_bytes(settings.secret_hash_key)
                client = await create_client(connection, key, DEMO_TENANT_ID, "demo", TENANT_SCOPES)
                demo = {"client_id": client.client_id, "client_secret": client.client_secret}
    finally:
        await engine.dispose()
    return {"admin": admin, "demo": {"tenant_id": str(DEMO_TENANT_ID)} | demo}


async def _exists(connection: AsyncConnection, tenant_id: UUID) -> bool:
    return (await connection.execute(_EXISTS, {"tenant_id": tenant_id})).one_or_none() is not None


async def _working(
    connection: AsyncConnection, settings: OperatorSettings, tenant_id: UUID, credentials: Any
) -> dict[str, str] | None:
    """These credentials, if they are a client's of this tenant and its secret still fits."""
    match credentials:
        case {"client_id": str(client_id), "client_secret": str(client_secret)}:
            client = await find_client(connection, client_id)
        case _:
            return None
    if client is None or client.tenant_id != tenant_id:
        return None
    if not client.has_secret(key_bytes(settings.secret_hash_key), client_secret):
        return None
    return {"client_id": client_id, "client_secret": client_secret}
