"""What a tenant has used: stored, duplicate, rejected and throttled events by hour and client, and its month's quota.

Reads what the store worker and the gateways wrote (`workers.usage`, `tenants.usage.refusals`). Every statement says the
tenant, so that it can be read as sluice_app, one tenant a transaction, and as sluice_auth, for the platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.errors import Fault, InvalidError

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

MOST_ENTRIES = 20_000
"""Buckets times clients: about 3 MB of JSON."""


class UsageInterval(StrEnum):
    """The width of a series' buckets, in UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True)
class UsageWindow:
    """The hours that begin in [started_at, ended_at), of one client or (None) of all."""

    started_at: datetime
    ended_at: datetime
    interval: UsageInterval = UsageInterval.DAY
    client_id: str | None = None


@dataclass(frozen=True)
class Amounts:
    """Events, and `bytes` of those stored. The last two are best effort: a gateway that is killed forgets some."""

    stored: int
    duplicates: int
    bytes: int
    rejected: int
    throttled: int


@dataclass(frozen=True)
class UsagePoint:
    """What one client did in the bucket that begins at `bucket` (UTC)."""

    bucket: datetime
    client_id: str
    amounts: Amounts


@dataclass(frozen=True)
class Warned:
    """`percent` of `quota` was reached at this moment, within the month."""

    percent: int
    quota: int
    reached_at: datetime


@dataclass(frozen=True)
class Usage:
    """`used`: events stored that were received in the month of `now`, with the `warnings` of that month, oldest first.

    `series` by bucket, then client, without what is zero throughout. `resets_at`: when the month ends.
    """

    window: UsageWindow
    totals: Amounts
    series: tuple[UsagePoint, ...]
    used: int
    warnings: tuple[Warned, ...]
    resets_at: datetime


_SUMS = """
    coalesce(sum(stored), 0)::bigint, coalesce(sum(duplicates), 0)::bigint, coalesce(sum(bytes), 0)::bigint,
    coalesce(sum(rejected), 0)::bigint, coalesce(sum(throttled), 0)::bigint
"""
_SERIES = text(f"""
    select date_trunc(:interval, hour, 'UTC') as bucket, client_id, {_SUMS}
    from usage
    where tenant_id = :tenant_id and hour >= :started_at and hour < :ended_at
      and (cast(:client_id as text) is null or client_id = :client_id)
    group by 1, 2 order by 1, 2
    limit {MOST_ENTRIES + 1}
""")  # noqa: S608  constants of this module
_MONTH = text("select stored from monthly_usage where tenant_id = :tenant_id and month = :month")
_NOTICES = text("""
    select percent, quota, reached_at from quota_notices where tenant_id = :tenant_id and month = :month
    order by reached_at, percent
""")


async def read_usage(connection: AsyncConnection, tenant_id: UUID, window: UsageWindow, now: datetime) -> Usage:
    """What the tenant used in `window`, and in the month (UTC) of `now` of its quota. Best in a snapshot.

    Raises:
        InvalidError: the series would have more than `MOST_ENTRIES` entries.
    """
    asked = {
        "tenant_id": tenant_id,
        "started_at": window.started_at,
        "ended_at": window.ended_at,
        "interval": window.interval.value,
        "client_id": window.client_id,
    }
    rows = (await connection.execute(_SERIES, asked)).all()
    if len(rows) > MOST_ENTRIES:
        detail = f"the series would have more than {MOST_ENTRIES} entries (buckets times clients): choose a longer one"
        raise InvalidError("The series would be too long.", (Fault("/query/interval", detail),))
    series = tuple(UsagePoint(row[0], row[1], Amounts(*row[2:])) for row in rows)
    of_month = {"tenant_id": tenant_id, "month": month_of(now)}
    used = (await connection.execute(_MONTH, of_month)).scalar_one_or_none()
    notices = await connection.execute(_NOTICES, of_month)
    return Usage(
        window,
        _total(series),
        series,
        used or 0,
        tuple(Warned(row.percent, row.quota, row.reached_at) for row in notices),
        end_of_month(now),
    )


def this_month(now: datetime, interval: UsageInterval = UsageInterval.DAY) -> UsageWindow:
    """The month (UTC) of `now`, to its end."""
    return UsageWindow(_start_of_month(now), end_of_month(now), interval)


def month_of(now: datetime) -> date:
    """The first day of the month (UTC) of `now`: how `monthly_usage` names it."""
    return _start_of_month(now).date()


def end_of_month(now: datetime) -> datetime:
    """When the month (UTC) of `now` ends."""
    first = _start_of_month(now)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _start_of_month(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _total(series: tuple[UsagePoint, ...]) -> Amounts:
    amounts = [point.amounts for point in series]
    return Amounts(
        sum(each.stored for each in amounts),
        sum(each.duplicates for each in amounts),
        sum(each.bytes for each in amounts),
        sum(each.rejected for each in amounts),
        sum(each.throttled for each in amounts),
    )
