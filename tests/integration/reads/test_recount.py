"""Count, trend and stats equal an independent recount, at any edge, in any zone, for any filter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from app.reads.answers import CountAnswer, StatsAnswer, TrendAnswer
from tests.integration.reads import recount
from tests.integration.reads.recount import Question
from tests.integration.reads.seeding import Seeded, scattered, seeded

if TYPE_CHECKING:
    from random import Random

    from tests.integration.reads.conftest import Reader

# Near both changes of the clock in New York and on Lord Howe Island (half an hour), and the end of an ISO year.
TIMES = [
    datetime(2026, 3, 8, 6, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
]
ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]


def asked(random: Random, events: list[Seeded]) -> Question:
    def edge() -> datetime:
        kind = random.randrange(4)
        moment = random.choice(events).timestamp
        if kind == 0:
            return moment
        if kind == 1:
            return moment + timedelta(microseconds=random.choice([-1, 1]))
        if kind == 2:
            return datetime.fromtimestamp(moment.timestamp() // 900 * 900 + random.choice([-900, 0, 900]), UTC)
        return moment + timedelta(seconds=random.uniform(-90_000, 90_000))

    start, end = sorted([edge(), edge()])
    return Question(
        started_at=random.choice([None, start, start]),
        ended_at=random.choice([None, end, end]),
        event_type=random.choice([None, None, "click", "注册", "never"]),
        client_id=random.choice([None, None, "c2", "nobody"]),
        timezone=random.choice(ZONES),
    )


@pytest.mark.parametrize("seed", range(5))
async def test_count_trend_and_stats_equal_a_recount(reader: Reader, seed: int) -> None:
    random = seeded(seed)
    events = scattered(random, TIMES[seed], 400, days=1) + scattered(random, TIMES[seed], 100, days=20)
    await reader.store(events)
    for number in range(24):
        question = asked(random, events)
        said = question.parameters()
        count = await reader.get("count", **said)
        assert count == {"event_type": question.event_type, "count": len(question.matching(events))}, question
        CountAnswer.model_validate(count)
        interval = ["hourly", "daily", "weekly", "monthly"][number % 4]
        trend = await reader.get("trend", interval=interval, **said)
        assert trend["series"] == recount.trend(question, events, interval), (question, interval)
        assert (trend["interval"], trend["timezone"]) == (interval, question.timezone)
        TrendAnswer.model_validate(trend)
        top = random.choice([1, 2, 10])
        stats = await reader.get("stats", top=top, **said)
        assert stats == recount.stats(question, events, top), (question, top)
        StatsAnswer.model_validate(stats)


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        # Clocks here went from 00:01 back to 23:01, so days and hours end within a stored quarter of an hour.
        ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
        ("Pacific/Kiritimati", datetime(1979, 9, 30, 12, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("interval", ["hourly", "daily"])
async def test_zones_whose_hours_began_within_a_quarter_were_counted_exactly(
    reader: Reader, zone: str, around: datetime, interval: str
) -> None:
    events = [Seeded(around + timedelta(minutes=minute)) for minute in range(-200, 200)]
    await reader.store(events)
    trend = await reader.get("trend", interval=interval, timezone=zone)
    if interval == "daily":
        days = [event.timestamp.astimezone(ZoneInfo(zone)).date() for event in events]
        expected = [days.count(day) for day in sorted(set(days))]
    else:
        hours = [recount.shown(event.timestamp, "hourly", ZoneInfo(zone)) for event in events]
        expected = [hours.count(hour) for hour in dict.fromkeys(hours)]
    assert [point["count"] for point in trend["series"]] == expected


@pytest.mark.parametrize(
    ("zone", "hour", "before"),
    [
        # 02:31Z is when the clock went from 00:01 back to 23:01; the hour before it lasted a minute.
        ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC), datetime(2010, 11, 7, 2, 30, tzinfo=UTC)),
        # 20 minutes to the hour in UTC is the full hour at an offset of -10:40.
        ("Pacific/Kiritimati", datetime(1979, 9, 1, 12, 40, tzinfo=UTC), datetime(1979, 9, 1, 12, 31, tzinfo=UTC)),
        # 15:00Z is when the clock went from 02:00 back to 01:30.
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 4, 4, 14, 59, tzinfo=UTC)),
    ],
)
async def test_the_peak_hour_begins_where_the_local_clock_says(
    reader: Reader, zone: str, hour: datetime, before: datetime
) -> None:
    await reader.store([Seeded(hour + timedelta(seconds=30 * number)) for number in range(20)])
    await reader.store([Seeded(before) for _ in range(9)])
    named = hour.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (await reader.get("stats", timezone=zone))["peak_hour"] == {"bucket": named, "count": 20}
    # The hour keeps its name when the range enters it late.
    late = (hour + timedelta(minutes=5)).isoformat()
    assert (await reader.get("stats", timezone=zone, started_at=late))["peak_hour"] == {"bucket": named, "count": 10}


async def test_answers_without_any_event_are_zeros_and_nulls(reader: Reader) -> None:
    assert await reader.get("count") == {"event_type": None, "count": 0}
    assert await reader.get("count", event_type="all") == {"event_type": "all", "count": 0}
    assert (await reader.get("trend"))["series"] == []
    year = {"started_at": "2026-01-01", "ended_at": "2026-01-03"}
    assert (await reader.get("trend", **year))["series"] == []
    assert (await reader.get("trend", event_type="a", **year))["series"] == [
        {"bucket": "2026-01-01T00:00:00Z", "event_type": "a", "count": 0},
        {"bucket": "2026-01-02T00:00:00Z", "event_type": "a", "count": 0},
    ]
    assert await reader.get("stats") == {
        "total": 0,
        "by_type": [],
        "first_event_at": None,
        "last_event_at": None,
        "peak_hour": None,
        "unique_users": 0,
        "timezone": "UTC",
    }


async def test_ranges_to_the_ends_of_the_calendar_are_counted(reader: Reader) -> None:
    await reader.store([Seeded(datetime(2026, 1, 1, tzinfo=UTC))])
    ever = {"started_at": "0001-01-01T00:00:00Z", "ended_at": "9999-12-31T23:59:59.999999Z"}
    assert (await reader.get("count", **ever))["count"] == 1
    assert (await reader.get("stats", **ever, timezone="America/New_York"))["total"] == 1
    for start, end in (("0001-01-01", "0001-01-02"), ("9999-12-30", "9999-12-31T23:00:00Z")):
        answered = await reader.http.get(
            "/api/v1/events/trend",
            params={"started_at": start, "ended_at": end, "interval": "monthly", "event_type": "a"},
        )
        assert answered.status_code in (200, 422), answered.text


async def test_a_trend_that_would_be_too_long_is_refused_and_says_what_would_help(reader: Reader) -> None:
    long = {"started_at": "1990-01-01", "ended_at": "2026-01-01"}
    assert await reader.problem("trend", interval="daily", **long) == (422, ["/query/interval"])
    assert await reader.problem("trend", interval="hourly", started_at="0001-02-01", ended_at="9999-01-01") == (
        422,
        ["/query/interval"],
    )
    assert (await reader.get("trend", interval="weekly", **long))["series"] == []
    start = datetime(2025, 1, 1, tzinfo=UTC)
    await reader.store([Seeded(start + timedelta(days=day), event_type=f"t{day % 10}") for day in range(365)])
    hourly = {"interval": "hourly", "started_at": "2025-01-01", "ended_at": "2026-01-01"}
    assert await reader.problem("trend", **hourly) == (422, ["/query/interval"])
    assert len((await reader.get("trend", event_type="t1", **hourly))["series"]) == 8760


async def test_a_tenant_never_counts_anothers_events(readers: tuple[Reader, Reader]) -> None:
    mine, others = readers
    random = seeded(7)
    events = scattered(random, TIMES[0], 60, days=1)
    await mine.store(events[:20])
    await others.store(events[20:])
    for reader, own in ((mine, events[:20]), (others, events[20:])):
        everything = Question(None, None, None, None, "UTC")
        assert (await reader.get("count"))["count"] == len(own)
        assert (await reader.get("trend"))["series"] == recount.trend(everything, own, "daily")
        assert await reader.get("stats") == recount.stats(everything, own, 10)
