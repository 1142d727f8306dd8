"""Usage as the store worker writes it: what was stored, what was sent again, and when a month's quota comes near.

In the transaction of the events themselves, so it is exact: it can be recounted from `events` (`app.verification`).
What a quota means for a gateway is said by `tenants.directory`; here it is only noticed that it was reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog

from app.metrics import QUOTA_NOTICES

log = structlog.get_logger()

PERCENTAGES = (80, 100)
"""Of the monthly quota, at which a notice is written."""


class Key(NamedTuple):
    """What usage is kept by: `hour` is the start of that in which the events were received."""

    tenant_id: UUID
    hour: datetime
    client_id: str


class Stored(NamedTuple):
    """New events of one key, and their size as `events` can be asked for it: see `BYTES`."""

    key: Key
    events: int
    bytes: int


BYTES = """
    octet_length(event_id) + octet_length(event_type) + coalesce(octet_length(user_id), 0)
    + octet_length(metadata::text)
"""
"""The size of a stored event: a SQL expression over the columns of `events`."""


def hour_of(moment: datetime) -> datetime:
    """The start of the hour (UTC) that holds `moment`.

    Raises:
        OverflowError: it is outside the years 0001 to 9999.
    """
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass
class Tally:
    """What became of one batch's events, by key. Each that was sent is stored, refused, or else a duplicate."""

    sent: Counter[Key] = field(default_factory=Counter)
    stored: Counter[Key] = field(default_factory=Counter)
    bytes: Counter[Key] = field(default_factory=Counter)
    refused: Counter[Key] = field(default_factory=Counter)

    def add(self, found: Iterable[Stored]) -> None:
        for key, events, size in found:
            self.stored[key] += events
            self.bytes[key] += size

    def duplicates(self, key: Key) -> int:
        return self.sent[key] - self.stored[key] - self.refused[key]


_WRITE = """
with batch as (
    select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
        as b (tenant_id, hour, client_id, stored, duplicates, bytes)
), hourly as (
    insert into usage (tenant_id, hour, client_id, stored, duplicates, bytes)
    select * from batch order by tenant_id, hour, client_id collate "C"
    on conflict (tenant_id, hour, client_id) do update set
        stored = usage.stored + excluded.stored,
        duplicates = usage.duplicates + excluded.duplicates,
        bytes = usage.bytes + excluded.bytes
)
insert into monthly_usage (tenant_id, month, stored)
select tenant_id, date_trunc('month', hour at time zone 'UTC')::date, sum(stored)
from batch group by 1, 2 order by 1, 2
on conflict (tenant_id, month) do update set stored = monthly_usage.stored + excluded.stored
returning tenant_id, month, stored
"""

_KNOWN = """
select tenant_id, month, percent, quota from quota_notices where (tenant_id, month) in (
    select * from unnest($1::uuid[], $2::date[])
)
"""

_NOTICE = """
insert into quota_notices (tenant_id, month, percent, quota) values ($1, $2, $3, $4) on conflict do nothing
"""


async def write_usage(connection: asyncpg.Connection, tally: Tally, quotas: Mapping[UUID, int | None]) -> None:
    """Add `tally` to the usage of its tenants, whom row security must be bound to, and note quotas that are reached.

    Call it last in a transaction: a notice locks the row that makes all gateways look, until the commit. The month's
    row is locked from here on too, so of two workers the second sees what the first has written.
    """
    rows = [
        (*key, tally.stored[key], tally.duplicates(key), tally.bytes[key])
        for key, sent in tally.sent.items()
        if sent > tally.refused[key]
    ]
    if not rows:
        return
    totals = await connection.fetch(_WRITE, *(list(column) for column in zip(*rows, strict=True)))
    reached = [
        (tenant_id, month, percent, quota, stored)
        for tenant_id, month, stored in totals
        if (quota := quotas[tenant_id]) is not None
        for percent in PERCENTAGES
        if stored * 100 >= quota * percent
    ]
    if reached:
        await _notice(connection, reached)


async def _notice(connection: asyncpg.Connection, reached: list[tuple[UUID, date, int, int, int]]) -> None:
    known = await connection.fetch(_KNOWN, [each[0] for each in reached], [each[1] for each in reached])
    noticed = {tuple(row) for row in known}
    for tenant_id, month, percent, quota, stored in reached:
        if (tenant_id, month, percent, quota) not in noticed:
            await connection.execute(_NOTICE, tenant_id, month, percent, quota)
            QUOTA_NOTICES.labels(str(percent)).inc()
            log.warning(
                "quota", tenant_id=str(tenant_id), month=month.isoformat(), percent=percent, quota=quota, stored=stored
            )
