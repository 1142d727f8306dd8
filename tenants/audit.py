"""The audit log: who did what to a tenant, when and from where. Entries are added here, in the transaction of what they
tell of, and read; nobody can change or remove one (`migrations`). Refuses to decide who may read it.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from tenants.pages import Place
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.addresses import Address
    from auth.principal import Principal
    from tenants.pages import PageAsked

ActorKind = Literal["client", "platform", "operator", "worker"]

_INSERT = text("""
    insert into audit_log (tenant_id, actor_kind, actor, action, subject, detail, address, request_id)
    values (:tenant_id, :actor_kind, :actor, :action, :subject, :detail, cast(:address as inet), :request_id)
""").bindparams(bindparam("detail", type_=JSONB))
_SELECT = """
    select tenant_id, audit_id, at, actor_kind, actor, action, subject, detail, address, request_id from audit_log
"""
_NEWEST_FIRST = "order by at desc, audit_id desc limit :rows"


@dataclass(frozen=True)
class Actor:
    """Who does something: a client of the tenant, an administrator of the platform, whoever typed a command (by the
    name of the system's account), or a worker. `address` and `request_id` None: not over HTTP.
    """

    kind: ActorKind
    name: str
    address: Address | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, principal: Principal, address: Address, request_id: str) -> Actor:
        """The client that a request's token speaks for."""
        kind: ActorKind = "platform" if principal.tenant_id == PLATFORM_TENANT_ID else "client"
        return cls(kind, principal.client_id, address, request_id)

    @classmethod
    def operator(cls) -> Actor:
        """Whoever typed the command: the name of the system's account, or its number if it has no name.

        By the process and not by LOGNAME or USER, which are anyone's to set.
        """
        try:
            return cls("operator", pwd.getpwuid(os.getuid()).pw_name)
        except KeyError:
            return cls("operator", str(os.getuid()))


@dataclass(frozen=True)
class Action:
    """What was done: `name` such as `client.created`, to which `subject` (an id). `detail` holds no secret."""

    name: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


async def record(connection: AsyncConnection, tenant_id: UUID, actor: Actor, action: Action) -> None:
    """Add an entry to the tenant's log. The caller commits, with what the entry tells of."""
    await connection.execute(
        _INSERT,
        {
            "tenant_id": tenant_id,
            "actor_kind": actor.kind,
            "actor": actor.name,
            "action": action.name,
            "subject": action.subject,
            "detail": dict(action.detail),
            "address": None if actor.address is None else str(actor.address),
            "request_id": actor.request_id,
        },
    )


@dataclass(frozen=True)
class Entry:
    """One entry of the log; `audit_id` names it within its tenant's."""

    tenant_id: UUID
    audit_id: UUID
    at: datetime
    actor: Actor
    action: Action


@dataclass(frozen=True)
class Filters:
    """Entries with started_at ≤ at < ended_at and of this action; None does not restrict."""

    action: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


async def read(
    connection: AsyncConnection, tenant_id: UUID | None, filters: Filters, page: PageAsked
) -> tuple[list[Entry], Place | None]:
    """A page of a tenant's entries (None: of all tenants', as sluice_auth), newest first, and where the next begins.

    An entry that is added meanwhile moves no later page.
    """
    conditions = {
        "tenant_id = :tenant_id": tenant_id,
        "action = :action": filters.action,
        "at >= :started_at": filters.started_at,
        "at < :ended_at": filters.ended_at,
    }
    values: dict[str, Any] = {c.rpartition(":")[2]: value for c, value in conditions.items() if value is not None}
    said = [condition for condition, value in conditions.items() if value is not None]
    if page.after is not None:
        said.append("(at, audit_id) < (:moment, cast(:audit_id as uuid))")
        values |= {"moment": page.after.moment, "audit_id": page.after.entry_id}
    where = f"where {' and '.join(said)}" if said else ""
    statement = text(f"{_SELECT} {where} {_NEWEST_FIRST}").columns(detail=JSONB)  # constants of this module
    rows = (await connection.execute(statement, values | {"rows": page.limit + 1})).all()
    entries = [
        Entry(
            row.tenant_id,
            row.audit_id,
            row.at,
            Actor(row.actor_kind, row.actor, row.address, row.request_id),
            Action(row.action, row.subject, row.detail),
        )
        for row in rows[: page.limit]
    ]
    more = len(rows) > page.limit
    return entries, Place(entries[-1].at, str(entries[-1].audit_id)) if more else None
