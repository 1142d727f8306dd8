"""How often each event type happened when, exact at any edge: 15-minute aggregates, raw events beside them.

Owns the choice between aggregates and events; `count`, `trend` and `stats` sum what it selects.
Where retention has removed events, the aggregates still count whole quarters of an hour, partial ones no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Subquery,
    Text,
    Uuid,
    column,
    literal_column,
    select,
    table,
    union_all,
)

from app.reads.buckets import ceil_quarter, floor_quarter

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from app.reads.window import Window

# What the queries of this folder use of the tables that migrations make.
events = table(
    "events",
    column("tenant_id", Uuid),
    column("event_id", Text),
    column("event_type", Text),
    column("user_id", Text),
    column("client_id", Text),
    column("timestamp", DateTime(timezone=True)),
    column("metadata", Text),
)
aggregates = table(
    "aggregated_events",
    column("tenant_id", Uuid),
    column("bucket", DateTime(timezone=True)),
    column("event_type", Text),
    column("client_id", Text),
    column("count", BigInteger),
)


def tallies(tenant_id: UUID, window: Window, *, from_events: bool = False) -> Subquery:
    """Rows (at, event_type, count) whose counts add up to the events of `window`.

    `at` is an event's timestamp, or the start of the quarter of an hour that was counted as a whole. With
    `from_events` every row is one event: for whoever must cut within a quarter.
    """
    start, end = window.started_at, window.ended_at
    first = None if start is None else ceil_quarter(start)
    last = None if end is None else floor_quarter(end)
    if from_events or (first is not None and last is not None and last <= first):
        return _of_events(tenant_id, window, start, end).subquery("tallies")
    pieces = [_of_aggregates(tenant_id, window, first, last)]
    if start != first:
        pieces.append(_of_events(tenant_id, window, start, first))
    if end != last:
        pieces.append(_of_events(tenant_id, window, last, end))
    return union_all(*pieces).subquery("tallies")


def of_window(
    tenant_id: UUID, window: Window, start: datetime | None, end: datetime | None
) -> list[ColumnElement[bool]]:
    """The conditions on `events` for the tenant, the filters of `window` and [start, end)."""
    conditions = _filters(tenant_id, window, events.c.tenant_id, events.c.event_type, events.c.client_id)
    return conditions + _between(events.c.timestamp, start, end)


def quarters_of_window(tenant_id: UUID, window: Window) -> list[ColumnElement[bool]]:
    """The conditions on `aggregates` for every quarter of an hour that `window` touches, even in part."""
    start = None if window.started_at is None else floor_quarter(window.started_at)
    conditions = _filters(tenant_id, window, aggregates.c.tenant_id, aggregates.c.event_type, aggregates.c.client_id)
    return [*conditions, *_between(aggregates.c.bucket, start, window.ended_at), aggregates.c.count > 0]


def _of_events(
    tenant_id: UUID, window: Window, start: datetime | None, end: datetime | None
) -> Select[tuple[datetime, str, int]]:
    one: ColumnElement[int] = literal_column("1::bigint", BigInteger)
    return select(events.c.timestamp.label("at"), events.c.event_type, one.label("count")).where(
        *of_window(tenant_id, window, start, end)
    )


def _of_aggregates(
    tenant_id: UUID, window: Window, first: datetime | None, last: datetime | None
) -> Select[tuple[datetime, str, int]]:
    own = aggregates.c
    filters = _filters(tenant_id, window, own.tenant_id, own.event_type, own.client_id)
    return select(own.bucket.label("at"), own.event_type, own.count).where(
        *filters, *_between(own.bucket, first, last), own.count > 0
    )


def _filters(
    tenant_id: UUID,
    window: Window,
    tenant: ColumnElement[UUID],
    event_type: ColumnElement[str],
    client_id: ColumnElement[str],
) -> list[ColumnElement[bool]]:
    conditions = [tenant == tenant_id]
    if window.event_type is not None:
        conditions.append(event_type == window.event_type)
    if window.client_id is not None:
        conditions.append(client_id == window.client_id)
    return conditions


def _between(
    moment: ColumnElement[datetime], start: datetime | None, end: datetime | None
) -> list[ColumnElement[bool]]:
    bounds = []
    if start is not None:
        bounds.append(moment >= start)
    if end is not None:
        bounds.append(moment < end)
    return bounds
