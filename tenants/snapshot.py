"""Active tenants and clients as one moment of PostgreSQL shows them, and tokens revoked since a given version.

Role: sluice_auth. Refuses to own when to read: that is `tenants.directory`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from tenants.plans import EFFECTIVE_LIMITS, Allowance, ClientLimits, TenantLimits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

PIECE = 500
"""Rows at a time: requests go on between pieces, however many tenants there are."""

DRAIN_SECONDS = 60
"""For so long a move to other shards may hold events back; then whoever was to end it has died (`workers.shards`)."""

# A quota that is reached is compared anew at each reading, because a change of plan may have raised or lowered it.
_TENANTS = text(f"""
    select t.tenant_id, t.plan_id, {EFFECTIVE_LIMITS}, p.retention_days, p.monthly_quota, p.at_quota,
           case when p.at_quota = 'refuse' and m.stored >= p.monthly_quota
                then extract(epoch from date_trunc('month', now() at time zone 'UTC') at time zone 'UTC'
                                        + interval '1 month')::float8
                else 0 end as refused_until,
           coalesce(extract(epoch from drain_started_at - now())::float8 + {DRAIN_SECONDS}, 0) as still_moves
    from tenants t join plans p using (plan_id)
    left join monthly_usage m
        on m.tenant_id = t.tenant_id and m.month = date_trunc('month', now() at time zone 'UTC')::date
    where t.status = 'active'
""")  # noqa: S608  a constant of this project
_CLIENTS = text("""
    select c.tenant_id, c.client_id, c.scopes, c.networks, c.events_per_second, c.burst
    from oauth_clients c join tenants t using (tenant_id)
    where c.revoked_at is null and t.status = 'active'
""")
_REVOKED = text("""
    select jti, extract(epoch from expires_at)::float8 as expires_at from token_revocations
    where version > :version and expires_at > now()
""")


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """An active tenant. More events are refused until `refused_until` (seconds since 1970; 0: they are not) because
    the month's quota is reached. Until `moves_until` (by `time.monotonic`; 0: it does not) it moves to other shards.
    """

    tenant_id: UUID
    plan_id: str
    limits: TenantLimits
    allowance: Allowance
    refused_until: float
    moves_until: float = 0.0


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """An active client of an active tenant. `networks` empty: may call from anywhere; `limits` None: only the tenant's.

    A change makes a new object, so that who keeps one can tell by identity whether it is still the last word.
    """

    tenant: TenantRecord
    scopes: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]
    limits: ClientLimits | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the database, never changed: readers in the middle of a request see all of it or none."""

    version: int
    tenants: Mapping[UUID, TenantRecord]
    clients: Mapping[str, ClientAccess]


NOTHING = Snapshot(-1, {}, {})


async def read_snapshot(connection: AsyncConnection, version: int) -> Snapshot:
    """All active tenants and clients, filed under `version`."""
    tenants: dict[UUID, TenantRecord] = {}
    async for rows in (await connection.stream(_TENANTS)).partitions(PIECE):
        tenants.update((row.tenant_id, _tenant(row)) for row in rows)
    clients: dict[str, ClientAccess] = {}
    doubled = set()
    async for rows in (await connection.stream(_CLIENTS)).partitions(PIECE):
        for row in rows:
            if row.client_id in clients:  # ids are 128 random bits: a fault, and then neither is trusted
                doubled.add(row.client_id)
            clients[row.client_id] = _access(row, tenants[row.tenant_id])
    for client_id in doubled:
        del clients[client_id]
    return Snapshot(version, tenants, clients)


async def read_revocations(connection: AsyncConnection, after: int) -> dict[str, float]:
    """Tokens revoked after that version of the revocations, by `jti`: when they expire, in seconds since 1970."""
    revoked: dict[str, float] = {}
    async for rows in (await connection.stream(_REVOKED, {"version": after})).partitions(PIECE):
        revoked.update((row.jti, row.expires_at) for row in rows)
    return revoked


def _tenant(row: Row[Any]) -> TenantRecord:
    limits = TenantLimits(row.events_per_second, row.burst, row.max_event_bytes, row.shards)
    allowance = Allowance(row.retention_days, row.monthly_quota, row.at_quota)
    # By this process' clock, from what PostgreSQL's says is left: the two need not agree.
    moves_until = time.monotonic() + row.still_moves if row.still_moves > 0 else 0.0
    return TenantRecord(row.tenant_id, row.plan_id, limits, allowance, row.refused_until, moves_until)


def _access(row: Row[Any], tenant: TenantRecord) -> ClientAccess:
    limits = None if row.burst is None else ClientLimits(row.events_per_second, row.burst)
    return ClientAccess(tenant, frozenset(row.scopes), tuple(row.networks), limits)
