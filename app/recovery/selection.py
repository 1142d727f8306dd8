"""Which stored events a replay is about, read page by page in the order of their timestamps, and counted beforehand.

Works on any connection under row security that shows the tenant; each statement says the tenant itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

PAGE_EVENTS = 1000
PAGE_BYTES = 2**20
"""A page ends with the event whose metadata passes this."""

MEASURED = 100_000
COUNTED = 1_000_000
"""So many events are counted one by one, and of so many the size is added up; beyond that both are estimates."""

_SIZE = """octet_length(event_id) + octet_length(event_type) + coalesce(octet_length(user_id), 0)
           + octet_length(metadata::text)"""


@dataclass(frozen=True)
class Selection:
    """Events with started_at ≤ timestamp < ended_at that pass the filters and were received by `requested_at`."""

    tenant_id: UUID
    requested_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    event_type: str | None = None
    user_id: str | None = None


@dataclass(frozen=True)
class Place:
    """Behind the event with this timestamp and id."""

    timestamp: datetime
    event_id: str

    def is_before(self, other: Place) -> bool:
        """In the order of pages, which compares ids as bytes."""
        return (self.timestamp, self.event_id.encode()) < (other.timestamp, other.event_id.encode())


@dataclass(frozen=True)
class Page:
    """Rows of `events`, metadata as text. `last`: there are no more behind it."""

    rows: Sequence[RowMapping]
    last: bool

    @property
    def end(self) -> Place | None:
        """The last row's place; None: the page is empty."""
        return Place(self.rows[-1]["timestamp"], self.rows[-1]["event_id"]) if self.rows else None

    @property
    def places(self) -> list[Place]:
        return [Place(row["timestamp"], row["event_id"]) for row in self.rows]


@dataclass(frozen=True)
class Estimate:
    """How many events there are, and the octets of their event_id, event_type, user_id and metadata."""

    events: int
    size: int
    estimated: bool


async def page(
    connection: AsyncConnection,
    selection: Selection,
    after: Place | None,
    *,
    limit: int = PAGE_EVENTS,
    most_bytes: int = PAGE_BYTES,
    received_since: datetime | None = None,
    without_users: Sequence[str] = (),
) -> Page:
    """Up to `limit` of the events behind `after`, by timestamp and then event id; never empty while there is more.

    Left out are events that were received before `received_since`, and those of `without_users`.
    """
    where, values = _condition(selection)
    if after is not None:
        # The first is said as well for the sake of the index on timestamps alone.
        where += ' and "timestamp" >= :at_timestamp and ("timestamp", event_id) > (:at_timestamp, :at_event_id)'
        values |= {"at_timestamp": after.timestamp, "at_event_id": after.event_id}
    if received_since is not None:
        where += " and received_at >= :received_since"
        values |= {"received_since": received_since}
    if without_users:
        where += " and (user_id is null or user_id <> all (:without_users))"
    statement = text(f"""
        with found as (
            select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
                   metadata::text as metadata
            from events where {where} order by "timestamp", event_id limit :rows
        ), sized as (
            select *, coalesce(sum(octet_length(metadata)) over (
                       order by "timestamp", event_id rows between unbounded preceding and 1 preceding
                   ), 0) as before, count(*) over () as found
            from found
        )
        select * from sized where before < :bytes order by "timestamp", event_id limit :limit
    """)  # noqa: S608  constants of this module
    values |= {"rows": limit + 1, "limit": limit, "bytes": most_bytes}
    if without_users:
        statement = statement.bindparams(bindparam("without_users", list(without_users), type_=ARRAY(TEXT)))
    rows = (await connection.execute(statement, values)).mappings().all()
    return Page(rows, last=not rows or rows[0]["found"] == len(rows))


async def place_of(connection: AsyncConnection, tenant_id: UUID, event_id: str) -> Place | None:
    """Where a stored event is; None: it is not stored."""
    found = await connection.execute(
        text('select "timestamp" from events where tenant_id = :tenant_id and event_id = :event_id'),
        {"tenant_id": tenant_id, "event_id": event_id},
    )
    timestamp = found.scalar_one_or_none()
    return None if timestamp is None else Place(timestamp, event_id)


async def estimate(connection: AsyncConnection, selection: Selection) -> Estimate:
    """How much it is: exact up to `MEASURED` events. Takes a bounded time however many there are."""
    where, values = _condition(selection)
    measured = (
        await connection.execute(
            text(f"""
                select count(*) as events, coalesce(sum(size), 0)::bigint as size
                from (select {_SIZE} as size from events where {where} limit :most) as found
            """),  # noqa: S608  constants of this module
            values | {"most": MEASURED + 1},
        )
    ).one()
    if measured.events <= MEASURED:
        return Estimate(measured.events, measured.size, estimated=False)
    counted = await connection.scalar(
        text(f"select count(*) from (select from events where {where} limit :most) as found"),  # noqa: S608
        values | {"most": COUNTED + 1},
    )
    if counted > COUNTED:
        plan = await connection.scalar(text(f"explain (format json) select from events where {where}"), values)
        plan = json.loads(plan) if isinstance(plan, str) else plan
        counted = max(counted, int(plan[0]["Plan"]["Plan Rows"]))
    return Estimate(counted, measured.size * counted // measured.events, estimated=True)


def _condition(selection: Selection) -> tuple[str, dict[str, Any]]:
    """SQL and its values, of constants of this module only."""
    conditions = {
        "tenant_id = :tenant_id": selection.tenant_id,
        "received_at <= :requested_at": selection.requested_at,
        '"timestamp" >= :started_at': selection.started_at,
        '"timestamp" < :ended_at': selection.ended_at,
        "event_type = :event_type": selection.event_type,
        "user_id = :user_id": selection.user_id,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    return " and ".join(given), {condition.rpartition(":")[2]: value for condition, value in given.items()}
