"""Tenants as an operator sees them: their limits, what they may override, their clients. Reads only, as sluice_auth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, Row, bindparam, text

from app.errors import NotFoundError
from tenants.pages import PageAsked, Place
from tenants.plans import EFFECTIVE_LIMITS, Allowance, TenantLimits
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

ACTIVE = "active"
SUSPENDED = "suspended"
DELETING = "deleting"
DELETED = "deleted"
STATUSES = (ACTIVE, SUSPENDED, DELETING, DELETED)
NOT_DELETED = (ACTIVE, SUSPENDED, DELETING)

_SELECT = f"""
    select t.tenant_id, t.name, t.plan_id, t.status, t.created_at, {EFFECTIVE_LIMITS},
           t.events_per_second as own_rate, t.burst as own_burst, p.retention_days, p.monthly_quota, p.at_quota
    from tenants t join plans p using (plan_id)
"""  # noqa: S608  a constant of this project
_LIST = text(f"""
    {_SELECT} where t.tenant_id <> :platform and t.status = any (:statuses)
    order by t.created_at, t.tenant_id
""")
_PAGE = text(f"""
    {_SELECT} where t.tenant_id <> :platform and t.status = any (:statuses)
        and (cast(:at as timestamptz) is null or (t.created_at, t.tenant_id) > (:at, cast(:id as uuid)))
    order by t.created_at, t.tenant_id limit :limit
""").bindparams(bindparam("at", type_=DateTime(timezone=True)))
_SHOW = text(f"{_SELECT} where t.tenant_id = :tenant_id")
_CLIENTS = text("""
    select client_id, name, scopes, created_at, revoked_at from oauth_clients
    where tenant_id = :tenant_id order by created_at, client_id
""")
_STORED_THIS_MONTH = text("""
    select stored from monthly_usage
    where tenant_id = :tenant_id and month = date_trunc('month', now() at time zone 'UTC')::date
""")


@dataclass(frozen=True)
class Tenant:
    """`limits` are the effective ones: the tenant's own (`own_rate`, `own_burst`) where set, else the plan's."""

    tenant_id: UUID
    name: str
    plan: str
    status: str
    created_at: datetime
    limits: TenantLimits
    own_rate: float | None
    own_burst: int | None
    allowance: Allowance


@dataclass(frozen=True)
class TenantClient:
    """A client as an operator sees it. `revoked_at` None: not revoked."""

    client_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class TenantPage:
    """Tenants, the oldest first; `last` is where the next page begins behind, None if there is none."""

    tenants: tuple[Tenant, ...]
    last: Place | None


async def list_tenants(engine: AsyncEngine, statuses: Sequence[str] = NOT_DELETED) -> list[Tenant]:
    """Every tenant with one of these statuses but the platform's own, the oldest first."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_LIST, {"platform": PLATFORM_TENANT_ID, "statuses": list(statuses)})).all()
    return [_tenant(row) for row in rows]


async def page_of_tenants(connection: AsyncConnection, statuses: Sequence[str], asked: PageAsked) -> TenantPage:
    """As `list_tenants`, one page of it."""
    values = {
        "platform": PLATFORM_TENANT_ID,
        "statuses": list(statuses),
        "at": None if asked.after is None else asked.after.moment,
        "id": None if asked.after is None else asked.after.entry_id,
        "limit": asked.limit + 1,
    }
    tenants = [_tenant(row) for row in (await connection.execute(_PAGE, values)).all()]
    shown = tenants[: asked.limit]
    more = len(tenants) > asked.limit
    return TenantPage(tuple(shown), Place(shown[-1].created_at, str(shown[-1].tenant_id)) if more else None)


async def find_tenant(connection: AsyncConnection, tenant_id: UUID) -> Tenant:
    """One tenant, whatever its status.

    Raises:
        NotFoundError: there is no such tenant.
    """
    row = (await connection.execute(_SHOW, {"tenant_id": tenant_id})).one_or_none()
    if row is None:
        raise no_such_tenant(tenant_id)
    return _tenant(row)


async def clients_of(connection: AsyncConnection, tenant_id: UUID) -> list[TenantClient]:
    """The tenant's clients, the oldest first; without secrets, which nobody has."""
    rows = (await connection.execute(_CLIENTS, {"tenant_id": tenant_id})).all()
    return [TenantClient(c.client_id, c.name, tuple(c.scopes), c.created_at, c.revoked_at) for c in rows]


async def stored_this_month(connection: AsyncConnection, tenant_id: UUID) -> int:
    """Events stored that were received in this month (UTC): what the quota is compared with."""
    return (await connection.execute(_STORED_THIS_MONTH, {"tenant_id": tenant_id})).scalar_one_or_none() or 0


async def show(engine: AsyncEngine, tenant_id: UUID) -> tuple[Tenant, list[TenantClient]]:
    """One tenant and its clients. Raises as `find_tenant`."""
    async with engine.connect() as connection:
        return await find_tenant(connection, tenant_id), await clients_of(connection, tenant_id)


def no_such_tenant(tenant_id: object) -> NotFoundError:
    """The one way in which an unknown tenant is answered."""
    return NotFoundError(f"There is no tenant {tenant_id}.")


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(
        row.tenant_id,
        row.name,
        row.plan_id,
        row.status,
        row.created_at,
        TenantLimits(row.events_per_second, row.burst, row.max_event_bytes, row.shards),
        row.own_rate,
        row.own_burst,
        Allowance(row.retention_days, row.monthly_quota, row.at_quota),
    )
