"""Replays as jobs: made, listed, paused, resumed, cancelled, each change with its audit entry, in one transaction that
the caller commits. Works as sluice_app for the tenant it sees, or as sluice_auth; each statement says the tenant.

Refuses to send anything (`workers.replay`, `app.recovery.replay_stream`) and to own who may ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import text

from app.errors import ConflictError, NotFoundError
from app.recovery.selection import Place, Selection
from app.webhooks.signing import new_secret, seal
from tenants.audit import Action, record
from tenants.pages import Place as ListPlace

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.recovery.selection import Estimate
    from tenants.audit import Actor
    from tenants.pages import PageAsked

Target = Literal["index", "kafka", "webhook", "ndjson"]
State = Literal["running", "paused", "cancelled", "failed", "done"]
RATE = """
    coalesce(0.7 * rate + 0.3 * :sent / greatest(extract(epoch from clock_timestamp() - moved_at), 0.001),
             :sent / greatest(extract(epoch from clock_timestamp() - moved_at), 0.001))
"""
"""Events a second, lately, when `sent` more are: null until it has moved once. A fifth piece hardly heeds the first."""

UNFINISHED = ("running", "paused")
MOST_UNFINISHED = 4
"""Of one tenant."""

COLUMNS = """
    tenant_id, replay_id, target, started_at, ended_at, event_type, user_id, events_per_second, webhook_url,
    requested_at, state, total, total_estimated, sent, refused, at_timestamp, at_event_id, attempts, problem,
    finished_at, rate, moved_at
"""
_ONE = text(f"select {COLUMNS} from replays where tenant_id = :tenant_id and replay_id = :replay_id")  # noqa: S608
_LOCKED = text(f"{_ONE.text} for update")
# The lowest place that is free. Two requests at once get the same one: the second waits, and then finds it taken.
_INSERT = text(f"""
    insert into replays (tenant_id, replay_id, target, started_at, ended_at, event_type, user_id, events_per_second,
                         webhook_url, webhook_secret, requested_at, slot, total, total_estimated)
    select cast(:tenant_id as uuid), cast(:replay_id as uuid), cast(:target as text),
           cast(:started_at as timestamptz), cast(:ended_at as timestamptz),
           cast(:event_type as text), cast(:user_id as text), cast(:events_per_second as float8),
           cast(:webhook_url as text), cast(:webhook_secret as bytea), cast(:requested_at as timestamptz), slot,
           cast(:total as bigint), cast(:total_estimated as boolean)
    from generate_series(1, {MOST_UNFINISHED}) as slot
    where not exists (
        select from replays r
        where r.tenant_id = cast(:tenant_id as uuid) and r.slot = slot.slot and r.state in ('running', 'paused')
    )
    order by slot limit 1
    on conflict do nothing
    returning replay_id
""")  # noqa: S608  a constant of this module
_MOVE = text("""
    update replays set state = :state, problem = null, attempts = 0, due_at = null, moved_at = null, rate = null
    where tenant_id = :tenant_id and replay_id = :replay_id
""")
_END = text("""
    update replays set finished_at = now(), webhook_secret = null
    where tenant_id = :tenant_id and replay_id = :replay_id
""")


@dataclass(frozen=True)
class Order:
    """What is to be sent where, and how fast at most."""

    target: Target
    selection: Selection
    events_per_second: float | None = None
    webhook_url: str | None = None


@dataclass(frozen=True)
class Replay:
    """One job. `after`: the last event that was sent. `rate`: events a second, lately; None: not known."""

    replay_id: UUID
    order: Order
    state: State
    total: int
    total_estimated: bool
    sent: int
    refused: int
    after: Place | None
    attempts: int
    rate: float | None
    problem: str | None
    finished_at: datetime | None

    @property
    def tenant_id(self) -> UUID:
        return self.order.selection.tenant_id

    @property
    def requested_at(self) -> datetime:
        return self.order.selection.requested_at


async def moment(connection: AsyncConnection) -> datetime:
    """PostgreSQL's time: what is received later is not part of a replay that is asked for now."""
    now: datetime = (await connection.execute(text("select clock_timestamp()"))).scalar_one()
    return now


async def create(
    connection: AsyncConnection, key_encryption_key: bytes, actor: Actor, order: Order, counted: Estimate
) -> tuple[UUID, str | None]:
    """The new replay's id, and the secret that its webhook's messages are signed with (None: no webhook).

    Raises:
        ConflictError: the tenant has `MOST_UNFINISHED`.
    """
    selection = order.selection
    replay_id = uuid4()
    secret = new_secret() if order.target == "webhook" else None
    sealed = None if secret is None else seal(key_encryption_key, secret, bound_to(selection.tenant_id, replay_id))
    values = {
        "tenant_id": selection.tenant_id,
        "replay_id": replay_id,
        "target": order.target,
        "started_at": selection.started_at,
        "ended_at": selection.ended_at,
        "event_type": selection.event_type,
        "user_id": selection.user_id,
        "events_per_second": order.events_per_second,
        "webhook_url": order.webhook_url,
        "webhook_secret": sealed,
        "requested_at": selection.requested_at,
        "total": counted.events,
        "total_estimated": counted.estimated,
    }
    for _ in range(MOST_UNFINISHED):
        if (await connection.execute(_INSERT, values)).one_or_none() is not None:
            await record(connection, selection.tenant_id, actor, Action("replay.created", str(replay_id), _told(order)))
            return replay_id, secret
    raise ConflictError(f"The tenant has {MOST_UNFINISHED} unfinished replays, which is the most: cancel one first.")


async def find(connection: AsyncConnection, tenant_id: UUID, replay_id: UUID, *, lock: bool = False) -> Replay:
    """The job; with `lock`, so that nobody moves it before this transaction ends.

    Raises:
        NotFoundError: the tenant has no such replay.
    """
    values = {"tenant_id": tenant_id, "replay_id": replay_id}
    row = (await connection.execute(_LOCKED if lock else _ONE, values)).one_or_none()
    if row is None:
        raise NotFoundError("There is no such replay.")
    return replay_of(row)


async def page_of_replays(
    connection: AsyncConnection, tenant_id: UUID | None, asked: PageAsked
) -> tuple[list[Replay], ListPlace | None]:
    """A page of a tenant's replays (None: of all tenants', as sluice_auth), newest first, and where the next begins."""
    conditions = ["true"]
    values: dict[str, Any] = {"rows": asked.limit + 1}
    if tenant_id is not None:
        conditions.append("tenant_id = :tenant_id")
        values |= {"tenant_id": tenant_id}
    if asked.after is not None:
        conditions.append("(requested_at, replay_id) < (:moment, cast(:replay_id as uuid))")
        values |= {"moment": asked.after.moment, "replay_id": asked.after.entry_id}
    statement = text(f"""
        select {COLUMNS} from replays where {" and ".join(conditions)}
        order by requested_at desc, replay_id desc limit :rows
    """)  # noqa: S608  constants of this module
    rows = (await connection.execute(statement, values)).all()
    found = [replay_of(row) for row in rows[: asked.limit]]
    more = len(rows) > asked.limit
    return found, ListPlace(found[-1].requested_at, str(found[-1].replay_id)) if more else None


async def pause(connection: AsyncConnection, tenant_id: UUID, replay_id: UUID, actor: Actor) -> Replay:
    """Let it stand still, after the piece that is under way. Again, it changes nothing.

    Raises:
        NotFoundError, ConflictError: there is none, or it is finished.
    """
    return await _move(connection, tenant_id, replay_id, actor, ("replay.paused", "paused", ("running",)))


async def resume(connection: AsyncConnection, tenant_id: UUID, replay_id: UUID, actor: Actor) -> Replay:
    """Let it go on behind the last event that was sent, at once also if it waits after a fault. Raises as `pause`."""
    return await _move(connection, tenant_id, replay_id, actor, ("replay.resumed", "running", ("paused",)))


async def cancel(connection: AsyncConnection, tenant_id: UUID, replay_id: UUID, actor: Actor) -> Replay:
    """End it, after the piece that is under way, for good. Raises as `pause`."""
    return await _move(connection, tenant_id, replay_id, actor, ("replay.cancelled", "cancelled", UNFINISHED))


def bound_to(tenant_id: UUID, replay_id: UUID) -> str:
    """What a webhook's secret is sealed with."""
    return f"replay {tenant_id} {replay_id}"


def replay_of(row: Row[Any]) -> Replay:
    """A row of `COLUMNS`."""
    selection = Selection(row.tenant_id, row.requested_at, row.started_at, row.ended_at, row.event_type, row.user_id)
    return Replay(
        replay_id=row.replay_id,
        order=Order(row.target, selection, row.events_per_second, row.webhook_url),
        state=row.state,
        total=row.total,
        total_estimated=row.total_estimated,
        sent=row.sent,
        refused=row.refused,
        after=None if row.at_timestamp is None else Place(row.at_timestamp, row.at_event_id),
        attempts=row.attempts,
        rate=row.rate,
        problem=row.problem,
        finished_at=row.finished_at,
    )


def _told(order: Order) -> dict[str, Any]:
    """As the audit log tells it, for ever and also to the platform: without what the tenant's events hold, without a
    user who may have to be erased, and of a URL, which may hold a secret, the host only.
    """
    selection = order.selection
    told = {
        "target": order.target,
        "started_at": None if selection.started_at is None else selection.started_at.isoformat(),
        "ended_at": None if selection.ended_at is None else selection.ended_at.isoformat(),
        "filtered_by": [name for name in ("event_type", "user_id") if getattr(selection, name) is not None],
        "events_per_second": order.events_per_second,
        "webhook_host": None if order.webhook_url is None else urlsplit(order.webhook_url).hostname,
    }
    return {name: value for name, value in told.items() if value is not None}


async def _move(
    connection: AsyncConnection,
    tenant_id: UUID,
    replay_id: UUID,
    actor: Actor,
    move: tuple[str, State, tuple[str, ...]],
) -> Replay:
    name, state, before = move
    found = await find(connection, tenant_id, replay_id, lock=True)
    if found.state == state:
        return found
    if found.state not in before:
        raise ConflictError(f"The replay is {found.state}.")
    named = {"tenant_id": tenant_id, "replay_id": replay_id}
    await connection.execute(_MOVE, named | {"state": state})
    if state == "cancelled":
        await connection.execute(_END, named)
    await record(connection, tenant_id, actor, Action(name, str(replay_id)))
    return await find(connection, tenant_id, replay_id)
