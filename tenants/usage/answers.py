"""What is asked and answered about usage, as JSON, to a tenant about itself and to the platform about any."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from app.parameters import TIME_SCHEMA, Parameter
from tenants.answers import Moment
from tenants.usage.reading import Amounts, UsageInterval, UsageWindow, this_month

if TYPE_CHECKING:
    from app.parameters import Reading
    from tenants.plans import Allowance
    from tenants.usage.reading import Usage

LONGEST_CLIENT_ID = 200

STARTED_AT = Parameter(
    "started_at",
    "Only hours that begin at or after this moment: RFC 3339, or a date (UTC). Left out: the start of this month.",
    TIME_SCHEMA,
    "2026-01-01",
)
ENDED_AT = Parameter(
    "ended_at",
    "Only hours that begin before this moment: RFC 3339, or a date (UTC). Left out: the end of this month.",
    TIME_SCHEMA,
    "2026-02-01",
)
INTERVAL = Parameter(
    "interval",
    "The width of the series' buckets, in UTC.",
    {"type": "string", "enum": [interval.value for interval in UsageInterval], "default": UsageInterval.DAY.value},
    UsageInterval.DAY.value,
)
CLIENT_ID = Parameter(
    "client_id",
    "Only what this client sent; quota and warnings are always the tenant's.",
    {"type": "string", "minLength": 1, "maxLength": LONGEST_CLIENT_ID},
)
USAGE_PARAMETERS = (STARTED_AT, ENDED_AT, INTERVAL, CLIENT_ID)


def read_window(reading: Reading, now: datetime) -> UsageWindow:
    """The window that `reading`, made with `USAGE_PARAMETERS`, asks for.

    Raises:
        InvalidError: names every fault.
    """
    month = this_month(now)
    started_at = reading.moment(STARTED_AT.name) or month.started_at
    ended_at = reading.moment(ENDED_AT.name) or month.ended_at
    if ended_at < started_at:
        reading.refuse(ENDED_AT.name, "is before started_at, which is the start of this month unless it is given")
    interval = reading.choice(INTERVAL.name, [*UsageInterval], default=UsageInterval.DAY)
    client_id = reading.text(CLIENT_ID.name, most=LONGEST_CLIENT_ID)
    reading.finish()
    return UsageWindow(started_at, ended_at, UsageInterval(interval), client_id)


class AmountsAnswer(BaseModel):
    """`stored`, `duplicates` (sent again, and not counted again) and `bytes` are exact, `rejected` and `throttled` are
    best effort.
    """

    stored: NonNegativeInt
    duplicates: NonNegativeInt
    bytes: NonNegativeInt
    rejected: NonNegativeInt
    throttled: NonNegativeInt


class UsagePointAnswer(AmountsAnswer):
    """`bucket` is the start of the hour, day or month (UTC)."""

    bucket: Moment
    client_id: str


class QuotaAnswer(BaseModel):
    """Of this month (UTC), whatever was asked for. `limit` null: the plan has none, and then `percent` is null too.

    `used`: events stored that were received this month. `at_quota`: what happens at 100 %.
    """

    limit: PositiveInt | None
    used: NonNegativeInt
    percent: float | None
    at_quota: Literal["refuse", "warn"]
    resets_at: Moment


class WarningAnswer(BaseModel):
    """`percent` of `quota`, as it was then, was reached this month."""

    percent: Literal[80, 100]
    quota: PositiveInt
    reached_at: Moment


class UsageAnswer(BaseModel):
    """`series` by bucket, then client; what is zero throughout is left out. `totals` is its sum."""

    started_at: Moment
    ended_at: Moment
    interval: UsageInterval
    totals: AmountsAnswer
    quota: QuotaAnswer
    warnings: list[WarningAnswer]
    series: list[UsagePointAnswer]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "started_at": "2026-01-01T00:00:00Z",
                "ended_at": "2026-02-01T00:00:00Z",
                "interval": "day",
                "totals": {"stored": 812, "duplicates": 3, "bytes": 288260, "rejected": 2, "throttled": 0},
                "quota": {
                    "limit": 1000,
                    "used": 812,
                    "percent": 81.2,
                    "at_quota": "refuse",
                    "resets_at": "2026-02-01T00:00:00Z",
                },
                "warnings": [{"percent": 80, "quota": 1000, "reached_at": "2026-01-02T10:11:12.131415Z"}],
                "series": [
                    {
                        "bucket": "2026-01-02T00:00:00Z",
                        "client_id": "slc_9f86d081884c7d659a2feaa0c55ad015",
                        "stored": 812,
                        "duplicates": 3,
                        "bytes": 288260,
                        "rejected": 2,
                        "throttled": 0,
                    }
                ],
            }
        }
    )

    @classmethod
    def of(cls, usage: Usage, allowance: Allowance) -> UsageAnswer:
        """What was read, against what the tenant's plan allows."""
        limit = allowance.monthly_quota
        return cls(
            started_at=usage.window.started_at,
            ended_at=usage.window.ended_at,
            interval=usage.window.interval,
            totals=AmountsAnswer(**_amounts(usage.totals)),
            quota=QuotaAnswer(
                limit=limit,
                used=usage.used,
                percent=None if limit is None else round(usage.used / limit * 100, 2),
                at_quota="refuse" if allowance.at_quota == "refuse" else "warn",
                resets_at=usage.resets_at,
            ),
            warnings=[
                WarningAnswer(percent=80 if each.percent == 80 else 100, quota=each.quota, reached_at=each.reached_at)  # noqa: PLR2004
                for each in usage.warnings
            ],
            series=[
                UsagePointAnswer(bucket=point.bucket, client_id=point.client_id, **_amounts(point.amounts))
                for point in usage.series
            ],
        )


def _amounts(amounts: Amounts) -> dict[str, int]:
    return {
        "stored": amounts.stored,
        "duplicates": amounts.duplicates,
        "bytes": amounts.bytes,
        "rejected": amounts.rejected,
        "throttled": amounts.throttled,
    }
