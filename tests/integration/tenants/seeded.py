"""Tenants with a row in each table that holds tenants' rows, and connections as each runtime role to look at them."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tenants.lifecycle import CreatedTenant
    from tests.integration.conftest import Database

SETTINGS = ("app.tenant_id", "app.tenant_ids")

EVENT = """
    insert into events (tenant_id, event_id, event_type, user_id, client_id, timestamp, received_at, index_slice,
                        source_partition, source_offset, metadata)
    values ($1, $2, 'click', 'u', 'c', now(), now(), 202601, 0, 0, '{}')
"""
AGGREGATE = "insert into aggregated_events values ($1, date_trunc('hour', now()), 'click', 'c', 1)"
DEAD = """
    insert into dead_letters (tenant_id, reason, detail, topic, source_partition, source_offset, record_index, payload)
    values ($1, 'r', 'd', 't', 0, 0, 0, 'x')
"""
OF_CLIENT = (
    "insert into client_uses values ($1, $2, 'k', now())",
    "insert into client_assertions values ($1, $2, 'j', now() + interval '1 hour')",
)
OF_TENANT = (
    "insert into token_revocations (tenant_id, jti, expires_at) values ($1, 'j', now() + interval '1 hour')",
    "insert into usage (tenant_id, hour, client_id, stored) values ($1, date_trunc('hour', now()), 'c', 1)",
    "insert into monthly_usage values ($1, '2026-01-01', 1)",
    "insert into quota_notices (tenant_id, month, percent, quota) values ($1, '2026-01-01', 80, 1)",
    "insert into erasures (tenant_id, user_hash, user_id) values ($1, sha256('u'), 'u')",
    """
    insert into replays (tenant_id, target, requested_at, slot, total, total_estimated)
    values ($1, 'kafka', now(), 1, 0, false)
    """,
    "insert into audit_log (tenant_id, actor_kind, actor, action, subject) values ($1, 'worker', 'a', 'seeded', 's')",
    "insert into tenant_deletions (tenant_id) values ($1)",
)


async def seed(admin: asyncpg.Connection, tenant: CreatedTenant) -> None:
    """A row of the tenant in each table; its row in `tenants`, its client and its secret are there already."""
    await admin.execute(EVENT, tenant.tenant_id, str(uuid.uuid4()))
    for statement in OF_CLIENT:
        await admin.execute(statement, tenant.tenant_id, tenant.client_id)
    for statement in (AGGREGATE, DEAD, *OF_TENANT):
        await admin.execute(statement, tenant.tenant_id)


@contextlib.asynccontextmanager
async def connected(database: Database, role: str) -> AsyncIterator[asyncpg.Connection]:
    url = {
        "sluice_app": database.app_url,
        "sluice_worker": database.worker_url,
        "sluice_auth": database.auth_url,
    }[role]
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def batch(tenant_id: uuid.UUID) -> str:
    """The setting of a worker whose batch is of this tenant."""
    return f"{{{tenant_id}}}"
