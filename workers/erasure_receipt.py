"""What the `maintain` worker writes of a user's erasure: where it stands, what was removed, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from tenants.audit import Action, record
from workers.deletion_receipt import WORKER
from workers.replay_removal import forget_replays_of_user

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

_OPEN = """
select tenant_id, erasure_id, cut_at, step, problem from erasures where finished_at is null order by cut_at, erasure_id
"""
_ONE = "tenant_id = $1 and erasure_id = $2"
_HOLD = f"select user_id from erasures where {_ONE} and step = $3 and finished_at is null for update skip locked"  # noqa: S608
_REMOVED = f"""
update erasures
set deleted = jsonb_set(deleted, array[$3::text], to_jsonb(coalesce((deleted ->> $3::text)::bigint, 0) + $4::bigint))
where {_ONE}
"""  # noqa: S608  a constant of this module
_MOVE = f"update erasures set step = $3 where {_ONE}"  # noqa: S608  a constant of this module
_NOTE = f"update erasures set problem = $3 where {_ONE} and finished_at is null"  # noqa: S608

_HOLD_LAST = text("""
    select user_hash, cut_at, deleted from erasures
    where tenant_id = :tenant_id and erasure_id = :erasure_id and step = 'verify' and finished_at is null
    for update skip locked
""")
_FINISH = text("""
    update erasures
    set step = 'done', user_id = null, problem = null, finished_at = now(), kafka_until = now() + :kept
    where tenant_id = :tenant_id and erasure_id = :erasure_id returning kafka_until
""")


class Job(NamedTuple):
    """An erasure that is open."""

    tenant_id: UUID
    erasure_id: UUID
    cut_at: datetime
    step: str
    problem: str | None


async def open_jobs(connection: asyncpg.Connection) -> list[Job]:
    """All erasures that are not finished, the oldest first. As sluice_auth."""
    return [Job(*row) for row in await connection.fetch(_OPEN)]


async def hold(connection: asyncpg.Connection, job: Job) -> str | None:
    """The user, and nobody else is at this step of the erasure until the commit; None if another process is, or was."""
    user_id: str | None = await connection.fetchval(_HOLD, job.tenant_id, job.erasure_id, job.step)
    return user_id


async def add_removed(connection: asyncpg.Connection, job: Job, place: str, count: int) -> None:
    """Add to the receipt, in the transaction that removed it."""
    if count:
        await connection.execute(_REMOVED, job.tenant_id, job.erasure_id, place, count)


async def move(connection: asyncpg.Connection, job: Job, following: str) -> None:
    """Go on to the next step, in the transaction that holds the receipt."""
    await connection.execute(_MOVE, job.tenant_id, job.erasure_id, following)


async def note(connection: asyncpg.Connection, job: Job, problem: str | None) -> None:
    """Say what it waits for, or that it no longer does. As sluice_auth."""
    await connection.execute(_NOTE, job.tenant_id, job.erasure_id, problem)


async def finish(engine: AsyncEngine, job: Job, kept: timedelta | None) -> bool:
    """Forget who it was, close the receipt and write the audit entry; False if another worker is at it.

    `kept`: for how long Kafka may hold what was written last; None: for ever.
    """
    named = {"tenant_id": job.tenant_id, "erasure_id": job.erasure_id}
    async with engine.begin() as connection:
        held = (await connection.execute(_HOLD_LAST, named)).one_or_none()
        if held is None:
            return False
        await forget_replays_of_user(connection, job.tenant_id, held.user_hash)
        until = (await connection.execute(_FINISH, {**named, "kept": kept})).scalar_one()
        detail = {
            "user_hash": held.user_hash.hex(),
            "cut_at": _told(held.cut_at),
            "deleted": held.deleted,
            "kafka_until": None if until is None else _told(until),
        }
        await record(connection, job.tenant_id, WORKER, Action("erasure.finished", str(job.erasure_id), detail))
    return True


def _told(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
