"""Making tenants and changing what they may do. Each change is one transaction, which also writes the audit entry and
tells every process (`directory`).

Works as sluice_auth. Refuses to own what a tenant's data is, who may ask for this, and deletion (`tenants.deletion`).
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unicodedata import category
from uuid import UUID

from sqlalchemy import text

from app.errors import ConflictError, Fault, InvalidError
from auth.clients import create_client
from auth.credentials import key_bytes
from auth.scopes import PLATFORM_ADMIN, TENANT_SCOPES
from tenants.audit import Action, Actor, record
from tenants.plans import MAX_BURST, MAX_RATE, hold_plan, known_plans
from tenants.platform import PLATFORM_TENANT_ID
from tenants.records import ACTIVE, DELETED, DELETING, SUSPENDED, no_such_tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.settings import OperatorSettings

MAX_NAME_LENGTH = 200
_NOT_TEXT = ("Cc", "Cs")  # control characters; what a command line in another encoding leaves behind

_INSERT = text("""
    insert into tenants (tenant_id, name, plan_id, events_per_second, burst, shards)
    select :tenant_id, :name, plan_id, :rate, :burst, shards from plans where plan_id = :plan
""")
_LOCK = text("select status, plan_id from tenants where tenant_id = :tenant_id for no key update")
_CHANGE_PLAN = text("""
    update tenants set plan_id = :plan, events_per_second = :rate, burst = :burst where tenant_id = :tenant_id
""")
_CHANGE_STATUS = text("update tenants set status = :status where tenant_id = :tenant_id")


@dataclass(frozen=True)
class NewTenant:
    """What a tenant is made from. `rate` (events per second) and `burst` (events) override the plan's where given;
    `scopes` are its first client's.
    """

    name: str
    plan: str = "standard"
    rate: float | None = None
    burst: int | None = None
    scopes: Sequence[str] = TENANT_SCOPES


@dataclass(frozen=True)
class CreatedTenant:
    """A tenant just made and its first client. The only time that the secret can be seen."""

    tenant_id: UUID
    client_id: str
    client_secret: str = field(repr=False)


async def create_tenant(  # noqa: PLR0917  reads as the command's line does
    engine: AsyncEngine,
    settings: OperatorSettings,
    name: str,
    plan: str,
    rate: float | None = None,
    burst: int | None = None,
    scopes: Sequence[str] = TENANT_SCOPES,
) -> CreatedTenant:
    """For commands: `add_tenant` in a transaction of its own, done by whoever runs this."""
    asked = NewTenant(name, plan, rate, burst, scopes)
    async with engine.begin() as connection:
        return await add_tenant(connection, key_bytes(settings.secret_hash_key), asked, Actor.operator())


async def add_tenant(connection: AsyncConnection, key: bytes, asked: NewTenant, actor: Actor) -> CreatedTenant:
    """A new tenant with one client; names need not be unique. The caller commits. `key`: the secret hash key's bytes.

    Raises:
        InvalidError: the name, plan, rate, burst or a scope can't be; each fault names its member.
    """
    tenant_id = uuid.uuid4()
    await insert_tenant(connection, tenant_id, asked, actor)
    if not asked.scopes or not set(asked.scopes) <= set(TENANT_SCOPES):
        fault = Fault("/scopes", f"must be some of {', '.join(TENANT_SCOPES)}")
        raise InvalidError("The tenant can't be created.", (fault,))
    client_id, client_secret = await add_client(connection, key, tenant_id, "first client", asked.scopes, actor)
    return CreatedTenant(tenant_id, client_id, client_secret)


async def insert_tenant(connection: AsyncConnection, tenant_id: UUID, asked: NewTenant, actor: Actor) -> None:
    """Only the tenant's row, after checking it as `add_tenant` says. The caller commits."""
    faults = []
    name = asked.name
    if not 1 <= len(name.strip()) <= len(name) <= MAX_NAME_LENGTH or any(category(c) in _NOT_TEXT for c in name):
        detail = f"must be 1 to {MAX_NAME_LENGTH} characters, none a control character, not only spaces"
        faults.append(Fault("/name", detail))
    faults += await _limit_faults(connection, asked.plan, asked.rate, asked.burst)
    if faults:
        raise InvalidError("The tenant can't be created.", tuple(faults))
    await connection.execute(
        _INSERT,
        {"tenant_id": tenant_id, "name": name, "plan": asked.plan, "rate": asked.rate, "burst": asked.burst},
    )
    detail_ = {"name": name, **_plan_detail(asked.plan, asked.rate, asked.burst)}
    await record(connection, tenant_id, actor, Action("tenant.created", str(tenant_id), detail_))


async def change_plan(  # noqa: PLR0917  one change
    connection: AsyncConnection, tenant_id: UUID, plan: str, rate: float | None, burst: int | None, actor: Actor
) -> None:
    """Put the tenant on `plan`; its own rate and burst are then exactly these. The caller commits.

    Raises:
        NotFoundError: there is no such tenant.
        InvalidError: the plan, rate or burst can't be.
        ConflictError: the tenant is the platform's own, or being deleted.
    """
    _, before = await _lock(connection, tenant_id)
    if faults := await _limit_faults(connection, plan, rate, burst):
        raise InvalidError("The plan can't be changed.", tuple(faults))
    await connection.execute(_CHANGE_PLAN, {"tenant_id": tenant_id, "plan": plan, "rate": rate, "burst": burst})
    detail = {"from": before, **_plan_detail(plan, rate, burst)}
    await record(connection, tenant_id, actor, Action("tenant.plan_changed", str(tenant_id), detail))


async def suspend(connection: AsyncConnection, tenant_id: UUID, actor: Actor) -> None:
    """Have every process refuse the tenant within a second; what it has sent is still stored. Doing it again changes
    nothing. The caller commits. Raises NotFoundError and ConflictError as `change_plan`.
    """
    await _set_status(connection, tenant_id, SUSPENDED, Action("tenant.suspended", str(tenant_id)), actor)


async def resume(connection: AsyncConnection, tenant_id: UUID, actor: Actor) -> None:
    """Undo `suspend`, in the same manner."""
    await _set_status(connection, tenant_id, ACTIVE, Action("tenant.resumed", str(tenant_id)), actor)


async def add_client(  # noqa: PLR0917  one client
    connection: AsyncConnection, key: bytes, tenant_id: UUID, name: str, scopes: Sequence[str], actor: Actor
) -> tuple[str, str]:
    """A client of the tenant, audited: its id and secret. The caller commits."""
    client = await create_client(connection, key, tenant_id, name, scopes)
    detail = {"name": name, "scopes": list(scopes)}
    await record(connection, tenant_id, actor, Action("client.created", client.client_id, detail))
    return client.client_id, client.client_secret


async def create_administrator(connection: AsyncConnection, settings: OperatorSettings) -> tuple[str, str]:
    """A client of the platform's tenant that may manage tenants: its id and secret. The caller commits."""
    key = key_bytes(settings.secret_hash_key)
    return await add_client(connection, key, PLATFORM_TENANT_ID, "administrator", (PLATFORM_ADMIN,), Actor.operator())


def refuse_platform(tenant_id: UUID) -> None:
    """Raises ConflictError for the platform's own tenant, which holds the administrators' clients."""
    if tenant_id == PLATFORM_TENANT_ID:
        raise ConflictError("This is the platform's own tenant; it can't be changed.")


async def _lock(connection: AsyncConnection, tenant_id: UUID) -> tuple[str, str]:
    """The tenant's status and plan, which nobody else changes until the commit."""
    refuse_platform(tenant_id)
    row = (await connection.execute(_LOCK, {"tenant_id": tenant_id})).one_or_none()
    if row is None:
        raise no_such_tenant(tenant_id)
    if row.status in {DELETING, DELETED}:
        raise ConflictError("The tenant is being deleted." if row.status == DELETING else "The tenant was deleted.")
    return row.status, row.plan_id


async def _set_status(connection: AsyncConnection, tenant_id: UUID, status: str, action: Action, actor: Actor) -> None:
    before, _ = await _lock(connection, tenant_id)
    if before != status:
        await connection.execute(_CHANGE_STATUS, {"tenant_id": tenant_id, "status": status})
        await record(connection, tenant_id, actor, action)


async def _limit_faults(connection: AsyncConnection, plan: str, rate: float | None, burst: int | None) -> list[Fault]:
    faults = []
    if not await hold_plan(connection, plan):
        faults.append(Fault("/plan", f"must be one of {', '.join(await known_plans(connection))}"))
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
        faults.append(Fault("/events_per_second", f"must be above 0 and at most {MAX_RATE:g} events per second"))
    if burst is not None and not 1 <= burst <= MAX_BURST:
        faults.append(Fault("/burst", f"must be 1 to {MAX_BURST} events"))
    return faults


def _plan_detail(plan: str, rate: float | None, burst: int | None) -> dict[str, object]:
    return {"plan": plan, "events_per_second": rate, "burst": burst}
