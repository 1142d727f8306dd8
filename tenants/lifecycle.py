"""Making tenants and looking at them. Each change is one transaction, which also tells every process (`directory`).

Works over an engine that logs in as sluice_auth. Refuses to own what a tenant's data is, and who may ask for this.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unicodedata import category
from uuid import UUID

from sqlalchemy import Row, text

from app.errors import Fault, InvalidError, NotFoundError
from auth.clients import create_client
from auth.credentials import key_bytes
from auth.scopes import PLATFORM_ADMIN, TENANT_SCOPES
from tenants.plans import EFFECTIVE_LIMITS, TenantLimits, known_plans
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.settings import OperatorSettings

MAX_NAME_LENGTH = 200
_NOT_TEXT = ("Cc", "Cs")  # control characters; what a command line in another encoding leaves behind
MAX_RATE = 1e9
MAX_BURST = 2**31 - 1  # PostgreSQL's integer

_INSERT = text("""
    insert into tenants (tenant_id, name, plan_id, events_per_second, burst)
    values (:tenant_id, :name, :plan, :rate, :burst)
""")
_SELECT = f"""
    select t.tenant_id, t.name, t.plan_id, t.status, t.created_at, {EFFECTIVE_LIMITS}
    from tenants t join plans p using (plan_id)
"""  # noqa: S608  a constant of this project
_LIST = text(f"{_SELECT} where t.tenant_id <> :platform order by t.created_at, t.tenant_id")
_SHOW = text(f"{_SELECT} where t.tenant_id = :tenant_id")
_CLIENTS = text("""
    select client_id, name, scopes, created_at, revoked_at from oauth_clients
    where tenant_id = :tenant_id order by created_at, client_id
""")


@dataclass(frozen=True)
class CreatedTenant:
    """A tenant just made and its first client. The only time that the secret can be seen."""

    tenant_id: UUID
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Tenant:
    """`limits` are the effective ones: the tenant's own where set, else the plan's."""

    tenant_id: UUID
    name: str
    plan: str
    status: str
    created_at: datetime
    limits: TenantLimits


@dataclass(frozen=True)
class TenantClient:
    """A client as an operator sees it. `revoked_at` None: not revoked."""

    client_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


async def create_tenant(  # noqa: PLR0917  reads as the command's line does
    engine: AsyncEngine,
    settings: OperatorSettings,
    name: str,
    plan: str,
    rate: float | None = None,
    burst: int | None = None,
    scopes: Sequence[str] = TENANT_SCOPES,
) -> CreatedTenant:
    """A new tenant with one client; names need not be unique.

    `rate` (events per second) and `burst` (events) override the plan's where given.

    Raises:
        InvalidError: the name, plan, rate, burst or a scope can't be; each fault names its field.
    """
    tenant_id = uuid.uuid4()
    async with engine.begin() as connection:
        await insert_tenant(connection, tenant_id, name, plan, rate=rate, burst=burst)
        if not scopes or not set(scopes) <= set(TENANT_SCOPES):
            fault = Fault("/scopes", f"must be some of {', '.join(TENANT_SCOPES)}")
            raise InvalidError("The tenant can't be created.", (fault,))
        client = await create_client(connection, key_bytes(settings.secret_hash_key), tenant_id, "first client", scopes)
    return CreatedTenant(tenant_id, client.client_id, client.client_secret)


async def insert_tenant(
    connection: AsyncConnection,
    tenant_id: UUID,
    name: str,
    plan: str,
    *,
    rate: float | None = None,
    burst: int | None = None,
) -> None:
    """Only the tenant's row, after checking it as `create_tenant` says. The caller commits."""
    plans = await known_plans(connection)
    faults = []
    if not 1 <= len(name.strip()) <= len(name) <= MAX_NAME_LENGTH or any(category(c) in _NOT_TEXT for c in name):
        detail = f"must be 1 to {MAX_NAME_LENGTH} characters, none a control character, not only spaces"
        faults.append(Fault("/name", detail))
    if plan not in plans:
        faults.append(Fault("/plan", f"must be one of {', '.join(plans)}"))
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
        faults.append(Fault("/rate", f"must be above 0 and at most {MAX_RATE:g} events per second"))
    if burst is not None and not 1 <= burst <= MAX_BURST:
        faults.append(Fault("/burst", f"must be 1 to {MAX_BURST} events"))
    if faults:
        raise InvalidError("The tenant can't be created.", tuple(faults))
    values: dict[str, Any] = {"tenant_id": tenant_id, "name": name, "plan": plan, "rate": rate, "burst": burst}
    await connection.execute(_INSERT, values)


async def list_tenants(engine: AsyncEngine) -> list[Tenant]:
    """Every tenant but the platform's own, the oldest first."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_LIST, {"platform": PLATFORM_TENANT_ID})).all()
    return [_tenant(row) for row in rows]


async def show(engine: AsyncEngine, tenant_id: UUID) -> tuple[Tenant, list[TenantClient]]:
    """One tenant and its clients, the oldest first; without secrets, which nobody has.

    Raises:
        NotFoundError: there is no such tenant.
    """
    async with engine.connect() as connection:
        row = (await connection.execute(_SHOW, {"tenant_id": tenant_id})).one_or_none()
        if row is None:
            raise NotFoundError(f"There is no tenant {tenant_id}.")
        clients = (await connection.execute(_CLIENTS, {"tenant_id": tenant_id})).all()
    return _tenant(row), [
        TenantClient(c.client_id, c.name, tuple(c.scopes), c.created_at, c.revoked_at) for c in clients
    ]


async def create_administrator(connection: AsyncConnection, settings: OperatorSettings) -> tuple[str, str]:
    """A client of the platform's tenant that may manage tenants: its id and secret. The caller commits."""
    key = key_bytes(settings.secret_hash_key)
    client = await create_client(connection, key, PLATFORM_TENANT_ID, "administrator", (PLATFORM_ADMIN,))
    return client.client_id, client.client_secret


def _tenant(row: Row[Any]) -> Tenant:
    limits = TenantLimits(row.events_per_second, row.burst, row.max_event_bytes, row.shards)
    return Tenant(row.tenant_id, row.name, row.plan_id, row.status, row.created_at, limits)
