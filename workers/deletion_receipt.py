"""What the `maintain` worker writes of a tenant's deletion: where it stands, what was removed, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from tenants.audit import Action, Actor, record

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

WORKER = Actor("worker", "maintain")

_OPEN = """
select tenant_id, step, extract(epoch from now() - requested_at)::float8 as age, problem from tenant_deletions
where finished_at is null order by requested_at, tenant_id
"""
_FINISHED = "select tenant_id from tenant_deletions where finished_at > now() - interval '1 day'"
_REMOVED = """
update tenant_deletions
set deleted = jsonb_set(deleted, array[$2::text], to_jsonb(coalesce((deleted ->> $2::text)::bigint, 0) + $3::bigint))
where tenant_id = $1
"""
_MOVE = "update tenant_deletions set step = $3, total = coalesce($4, total) where tenant_id = $1 and step = $2"
_NOTE = "update tenant_deletions set problem = $2 where tenant_id = $1 and finished_at is null"

_HOLD = text("""
    select deleted from tenant_deletions where tenant_id = :tenant_id and step = 'verify' and finished_at is null
    for update skip locked
""")
# The plan must be some plan; this one can't be deleted, so it keeps none of the operator's own alive.
_TOMBSTONE = text("""
    update tenants set name = 'deleted', status = 'deleted', plan_id = 'free', events_per_second = null, burst = null
    where tenant_id = :tenant_id
""")
_LAST_USAGE = text("""
    select detail -> 'usage' from audit_log
    where tenant_id = :tenant_id and action = 'tenant.deletion_requested' order by at desc limit 1
""")
_FINISH = text("""
    update tenant_deletions
    set step = 'done', problem = null, finished_at = now(), kafka_until = now() + :kept,
        total = greatest(total, :total)
    where tenant_id = :tenant_id returning kafka_until
""")


class Job(NamedTuple):
    """A deletion that is open. `age`: seconds since it was asked for."""

    tenant_id: UUID
    step: str
    age: float
    problem: str | None


async def open_jobs(connection: asyncpg.Connection) -> list[Job]:
    """All deletions that are not finished, the oldest first."""
    return [Job(*row) for row in await connection.fetch(_OPEN)]


async def lately_finished(connection: asyncpg.Connection) -> list[UUID]:
    """Tenants whose deletion ended within a day."""
    return [row["tenant_id"] for row in await connection.fetch(_FINISHED)]


async def add_removed(connection: asyncpg.Connection, tenant_id: UUID, place: str, count: int) -> None:
    """Add to the receipt, in the transaction that removed it."""
    if count:
        await connection.execute(_REMOVED, tenant_id, place, count)


async def move(
    connection: asyncpg.Connection, tenant_id: UUID, step: str, following: str, *, total: int | None = None
) -> None:
    """Go from one step to the next; nothing if another worker did."""
    await connection.execute(_MOVE, tenant_id, step, following, total)


async def note(connection: asyncpg.Connection, tenant_id: UUID, problem: str | None) -> None:
    """Say what it waits for, or that it no longer does."""
    await connection.execute(_NOTE, tenant_id, problem)


async def finish(engine: AsyncEngine, tenant_id: UUID, kept: timedelta | None) -> bool:
    """Leave a tombstone, close the receipt and write the audit entry; False if another worker is at it.

    `kept`: for how long Kafka may hold what was written last; None: for ever.
    """
    async with engine.begin() as connection:
        held = (await connection.execute(_HOLD, {"tenant_id": tenant_id})).one_or_none()
        if held is None:
            return False
        await connection.execute(_TOMBSTONE, {"tenant_id": tenant_id})
        values = {"tenant_id": tenant_id, "kept": kept, "total": sum(held.deleted.values())}
        until = (await connection.execute(_FINISH, values)).scalar_one()
        detail = {
            "deleted": held.deleted,
            "usage": await _last_usage(connection, tenant_id),
            "kafka_until": None if until is None else until.isoformat().replace("+00:00", "Z"),
        }
        await record(connection, tenant_id, WORKER, Action("tenant.deleted", str(tenant_id), detail))
    return True


async def _last_usage(connection: AsyncConnection, tenant_id: UUID) -> object:
    return (await connection.execute(_LAST_USAGE, {"tenant_id": tenant_id})).scalar_one()
