"""Asking for a tenant's deletion, and the receipt that says how far it is. Works as sluice_auth.

The request is one transaction after which nobody can send, read or manage as this tenant, and nothing new is stored
for it. What is there then the `maintain` worker removes (`workers.tenant_deletion`), however often that is killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.errors import NotFoundError
from tenants.audit import Action, record
from tenants.lifecycle import refuse_platform
from tenants.records import DELETED, DELETING, no_such_tenant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.audit import Actor

# Waits for the transactions of the store worker, which hold this row FOR KEY SHARE: what they store is there to be
# deleted, and those that come after see the status.
_LOCK = text("select status, name, plan_id from tenants where tenant_id = :tenant_id for update")
_BEGIN = text("update tenants set status = 'deleting' where tenant_id = :tenant_id")
_REQUEST = text("insert into tenant_deletions (tenant_id) values (:tenant_id)")
_RECEIPT = text("""
    select tenant_id, requested_at, step, total, deleted, kafka_until, finished_at, problem
    from tenant_deletions where tenant_id = :tenant_id
""")
_LAST_USAGE = text("""
    select to_char(hour at time zone 'UTC', 'YYYY-MM') as month, sum(stored)::bigint as stored,
           sum(duplicates)::bigint as duplicates, sum(bytes)::bigint as bytes, sum(rejected)::bigint as rejected,
           sum(throttled)::bigint as throttled
    from usage where tenant_id = :tenant_id group by 1 order by 1
""")


@dataclass(frozen=True)
class Deletion:
    """A receipt. `deleted` counts rows, documents and keys by place, `total` what they were when it began (None: not
    yet counted). `step` is the one under way, `problem` what it waits for. `kafka_until`: when Kafka's retention has
    removed the last records; None once finished: the topic is kept for ever.
    """

    tenant_id: UUID
    requested_at: datetime
    step: str
    total: int | None
    deleted: Mapping[str, int]
    kafka_until: datetime | None
    finished_at: datetime | None
    problem: str | None


async def request_deletion(connection: AsyncConnection, tenant_id: UUID, actor: Actor) -> Deletion:
    """Begin to delete the tenant with all its data. Asking again answers the same receipt. The caller commits.

    The audit entry keeps what was used by month, for the last bill: exact, as nothing is stored any more.

    Raises:
        NotFoundError: there is no such tenant.
        ConflictError: it is the platform's own.
    """
    refuse_platform(tenant_id)
    row = (await connection.execute(_LOCK, {"tenant_id": tenant_id})).one_or_none()
    if row is None:
        raise no_such_tenant(tenant_id)
    if row.status not in {DELETING, DELETED}:
        await connection.execute(_BEGIN, {"tenant_id": tenant_id})
        await connection.execute(_REQUEST, {"tenant_id": tenant_id})
        months = (await connection.execute(_LAST_USAGE, {"tenant_id": tenant_id})).mappings().all()
        usage = {month["month"]: {k: v for k, v in month.items() if k != "month"} for month in months}
        detail: dict[str, Any] = {"name": row.name, "plan": row.plan_id, "was": row.status, "usage": usage}
        await record(connection, tenant_id, actor, Action("tenant.deletion_requested", str(tenant_id), detail))
    return await read_deletion(connection, tenant_id)


async def read_deletion(connection: AsyncConnection, tenant_id: UUID) -> Deletion:
    """The receipt.

    Raises:
        NotFoundError: nobody has asked for this tenant's deletion.
    """
    row = (await connection.execute(_RECEIPT, {"tenant_id": tenant_id})).one_or_none()
    if row is None:
        raise NotFoundError(f"No deletion of tenant {tenant_id} was asked for.")
    return Deletion(
        row.tenant_id,
        row.requested_at,
        row.step,
        row.total,
        row.deleted,
        row.kafka_until,
        row.finished_at,
        row.problem,
    )
