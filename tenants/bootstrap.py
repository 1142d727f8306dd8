"""What must be there before anything can be asked of the system: a signing key, an administrator, a demo tenant.

`sluice up` calls it at every start and keeps what it returns. Refuses to own that file.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text

from app.database import create_engine
from auth.clients import find_client
from auth.credentials import key_bytes
from auth.keys import ensure_signing_key
from auth.scopes import TENANT_SCOPES
from tenants.audit import Actor
from tenants.lifecycle import NewTenant, add_client, create_administrator, insert_tenant
from tenants.platform import PLATFORM_TENANT_ID
from tenants.records import ACTIVE, SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.settings import OperatorSettings

DEMO_TENANT_ID = UUID(int=1)
"""Fixed, because names need not be unique and the demo tenant must be found again."""

# Kept for ever and fast, so that a newcomer's import of years of history is neither throttled nor cleaned up.
DEMO_PLAN = "enterprise"

# NO KEY: an entry of the audit log refers to the row. Who changes a plan or a key adds one while holding the row that
# making a client here then waits for.
_STATUS = text("select status from tenants where tenant_id = :tenant_id for no key update")
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
            if await _status(connection, PLATFORM_TENANT_ID) is None:
                await connection.execute(_INSERT_PLATFORM, {"tenant_id": PLATFORM_TENANT_ID})
                await _status(connection, PLATFORM_TENANT_ID)
            known = previous or {}
            admin = await _working(connection, settings, PLATFORM_TENANT_ID, known.get("admin"))
            if admin is None:
                client_id, client_secret = await create_administrator(connection, settings)
                admin = {"client_id": client_id, "client_secret": client_secret}
            demo_id = await _demo_tenant(connection, known.get("demo"))
            demo = await _working(connection, settings, demo_id, known.get("demo"))
            if demo is None:
                key = key_bytes(settings.secret_hash_key)
                client_id, client_secret = await add_client(
                    connection, key, demo_id, "demo", TENANT_SCOPES, Actor.operator()
                )
                demo = {"client_id": client_id, "client_secret": client_secret}
    finally:
        await engine.dispose()
    return {"admin": admin, "demo": {"tenant_id": str(demo_id)} | demo}


async def _demo_tenant(connection: AsyncConnection, previous: Any) -> UUID:
    """The demo tenant, made if it is not there. One that was deleted stays so, and another takes its place."""
    candidates = [DEMO_TENANT_ID]
    with contextlib.suppress(TypeError, KeyError, ValueError, AttributeError):
        candidates.insert(0, UUID(previous["tenant_id"]))
    for tenant_id in candidates:
        if tenant_id != PLATFORM_TENANT_ID and await _status(connection, tenant_id) in {ACTIVE, SUSPENDED}:
            return tenant_id
    tenant_id = DEMO_TENANT_ID if await _status(connection, DEMO_TENANT_ID) is None else uuid.uuid4()
    await insert_tenant(connection, tenant_id, NewTenant("demo", DEMO_PLAN), Actor.operator())
    return tenant_id


async def _status(connection: AsyncConnection, tenant_id: UUID) -> str | None:
    """None if there is no such tenant; otherwise its row is held until the commit."""
    status: str | None = (await connection.execute(_STATUS, {"tenant_id": tenant_id})).scalar_one_or_none()
    return status


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
    if client.matching_secret(key_bytes(settings.secret_hash_key), client_secret) is None:
        return None
    return {"client_id": client_id, "client_secret": client_secret}
