"""What is done about dead letters: edit, retry, discard, one or many, each with its audit entry, in one transaction
that the caller commits. Works as sluice_app and as sluice_worker under row security; each statement says the tenant.

A retry is only queued here, where nothing can get lost; the `maintain` worker does it (`workers.letters`). The audit
log never holds what is in an event, as nothing could erase it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.errors import ConflictError, Fault, InvalidError
from app.events.dead_letters import decode_event
from app.events.timestamps import format_utc
from app.recovery.letter_edits import edited
from app.recovery.letters import DISCARDED, OPEN, QUEUED, Filters, WholeLetter, find
from tenants.audit import Action, record

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.audit import Actor

MOST_AT_ONCE = 1000

_SET_STATUS = text("""
    update dead_letters set status = :status, changed_at = now()
    where tenant_id = :tenant_id and dead_letter_id = :dead_letter_id
""")
_SET_EVENT = text("""
    update dead_letters set retry_payload = :payload, event_id = :event_id, event_type = :event_type,
        user_id = :user_id, changed_at = now()
    where tenant_id = :tenant_id and dead_letter_id = :dead_letter_id
""")
_MAY_BECOME = {QUEUED: (OPEN, DISCARDED), DISCARDED: (OPEN, QUEUED)}
_DONE = {QUEUED: "retried", DISCARDED: "discarded"}


@dataclass(frozen=True)
class Caller:
    """Who does it, to whose letters."""

    tenant_id: UUID
    actor: Actor


@dataclass(frozen=True)
class Changed:
    """How many letters were changed, and how many more there are that the same call would change."""

    changed: int
    remaining: int


async def retry(connection: AsyncConnection, caller: Caller, dead_letter_id: UUID) -> WholeLetter:
    """Queue an open or discarded letter to be tried again.

    Raises:
        NotFoundError: there is no such letter.
        ConflictError: it is being tried again, or was resolved.
    """
    return await _move(connection, caller, dead_letter_id, QUEUED)


async def discard(connection: AsyncConnection, caller: Caller, dead_letter_id: UUID) -> WholeLetter:
    """Give an open or queued letter up; it can be looked at, and retried, until it is removed.

    Raises:
        NotFoundError: there is no such letter.
        ConflictError: it is under way, or was resolved, or discarded before.
    """
    return await _move(connection, caller, dead_letter_id, DISCARDED)


async def edit(connection: AsyncConnection, caller: Caller, dead_letter_id: UUID, changes: bytes) -> WholeLetter:
    """Replace members of an open letter's event by those in `changes`, a JSON object: see `letter_edits.edited`.

    Raises:
        NotFoundError: there is no such letter.
        ConflictError: it is not open, or no event of the store.
        MalformedError, InvalidError: the result is no event, or another user's.
    """
    whole = await find(connection, caller.tenant_id, dead_letter_id, lock=True)
    letter = whole.letter
    if letter.status != OPEN:
        raise ConflictError(f"The dead letter is {letter.status}: only an open one can be edited.")
    if not letter.is_event_of_the_store:
        raise ConflictError("Only a single event that was not stored can be edited; discard or retry this one.")
    payload = edited(whole.retry_payload or whole.payload, changes, datetime.now(UTC))
    event = decode_event(payload)
    if letter.user_id is not None and event.user_id != letter.user_id:
        # An erasure finds letters by their user; what still names another one would be missed.
        fault = Fault("/user_id", "can't be changed once it is known: the original still names it")
        raise InvalidError("The event is not valid.", (fault,))
    before, after = decode_event(whole.retry_payload or whole.payload), event
    members = [name for name in event.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    named = {"tenant_id": caller.tenant_id, "dead_letter_id": dead_letter_id}
    values = {"event_id": event.event_id, "event_type": event.event_type, "user_id": event.user_id}
    await connection.execute(_SET_EVENT, {**named, **values, "payload": payload})
    action = Action("dead_letter.edited", str(dead_letter_id), {"members": members})
    await record(connection, caller.tenant_id, caller.actor, action)
    return await find(connection, caller.tenant_id, dead_letter_id)


async def retry_all(connection: AsyncConnection, caller: Caller, filters: Filters) -> Changed:
    """Queue the oldest open letters that `filters` choose (its status apart), at most `MOST_AT_ONCE`."""
    return await _move_all(connection, caller, filters, QUEUED)


async def discard_all(connection: AsyncConnection, caller: Caller, filters: Filters) -> Changed:
    """Discard as `retry_all` queues."""
    return await _move_all(connection, caller, filters, DISCARDED)


async def _move(connection: AsyncConnection, caller: Caller, dead_letter_id: UUID, status: str) -> WholeLetter:
    named = {"tenant_id": caller.tenant_id, "dead_letter_id": dead_letter_id}
    letter = (await find(connection, caller.tenant_id, dead_letter_id, lock=True)).letter
    if letter.status not in _MAY_BECOME[status]:
        may = " or ".join(_MAY_BECOME[status])
        raise ConflictError(f"The dead letter is {letter.status}: only one that is {may} can be {_DONE[status]}.")
    await connection.execute(_SET_STATUS, named | {"status": status})
    action = Action(f"dead_letter.{_DONE[status]}", str(dead_letter_id), {"was": letter.status})
    await record(connection, caller.tenant_id, caller.actor, action)
    return await find(connection, caller.tenant_id, dead_letter_id)


async def _move_all(connection: AsyncConnection, caller: Caller, filters: Filters, status: str) -> Changed:
    chosen = Filters(OPEN, filters.reason, filters.started_at, filters.ended_at)
    where, values = chosen.condition(caller.tenant_id)
    update = text(f"""
        update dead_letters set status = :new_status, changed_at = now()
        where tenant_id = :tenant_id and dead_letter_id = any (array(
            select dead_letter_id from dead_letters where {where}
            order by created_at, dead_letter_id limit {MOST_AT_ONCE} for update
        ))
    """)  # noqa: S608  constants of this package
    count = text(f"select count(*) from dead_letters where {where}")  # noqa: S608  constants of this package
    changed = (await connection.execute(update, values | {"new_status": status})).rowcount
    if changed:
        told: dict[str, Any] = {"letters": changed, "reason": chosen.reason}
        told |= {name: format_utc(moment) for name, moment in _range(chosen) if moment is not None}
        action = Action(f"dead_letters.{_DONE[status]}", str(caller.tenant_id), told)
        await record(connection, caller.tenant_id, caller.actor, action)
    return Changed(changed, (await connection.execute(count, values)).scalar_one())


def _range(filters: Filters) -> tuple[tuple[str, datetime | None], ...]:
    return ("started_at", filters.started_at), ("ended_at", filters.ended_at)
