"""Which rows of a batch must not be stored, because their user was erased after they were received.

Owns the question. Whoever stores asks it in its transaction, after it has locked the tenants' rows FOR KEY SHARE: an
erasure that asks for its cut locks them FOR UPDATE, so it is seen here or finds in `events` what was stored before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

import asyncpg

from app.events.users import user_hash
from workers.rows import Row

# A statement of its own: the one that waited for the lock sees what there was when it began to wait.
_WITH_ERASURES = """
select t.tenant_id from unnest($1::uuid[]) as t (tenant_id)
where exists (select from erasures e where e.tenant_id = t.tenant_id)
"""
_CUTS = """
select user_hash, max(cut_at) as cut_at from erasures where tenant_id = $1 and user_hash = any ($2::bytea[]) group by 1
"""


async def kept_and_suppressed(
    connection: asyncpg.Connection, by_tenant: Mapping[UUID, list[Row]]
) -> tuple[list[Row], list[Row]]:
    """The rows that may be stored and those that may not, in their order; row security must be bound to their tenants.

    One question for all tenants of the batch, and one more for each that has ever erased anybody.
    """
    if not by_tenant:
        return [], []
    erasing = {row["tenant_id"] for row in await connection.fetch(_WITH_ERASURES, list(by_tenant))}
    kept: list[Row] = []
    suppressed: list[Row] = []
    for tenant_id, rows in by_tenant.items():
        cuts = await _cuts(connection, tenant_id, rows) if tenant_id in erasing else {}
        if not cuts:
            kept += rows
            continue
        for row in rows:
            cut = cuts.get(row.user_id)
            (kept if cut is None or row.received_at > cut else suppressed).append(row)
    return kept, suppressed


async def _cuts(connection: asyncpg.Connection, tenant_id: UUID, rows: Iterable[Row]) -> dict[str | None, datetime]:
    """The last cut of each of the rows' users who was ever erased."""
    users = {user_hash(tenant_id, user_id): user_id for user_id in {row.user_id for row in rows} if user_id is not None}
    return {users[row["user_hash"]]: row["cut_at"] for row in await connection.fetch(_CUTS, tenant_id, list(users))}
