"""Buckets of a zone's calendar, held against a scan of the clock that zoneinfo shows."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.reads.buckets import Interval, ceil_quarter, floor_quarter, on_quarter, segments, spans

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Monrovia",
]
LENGTHS = {
    Interval.HOURLY: timedelta(days=2),
    Interval.DAILY: timedelta(days=9),
    Interval.WEEKLY: timedelta(days=24),
    Interval.MONTHLY: timedelta(days=70),
}
MINUTE = timedelta(minutes=1)

moments = st.datetimes(datetime(1970, 2, 10), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def shown(moment: datetime, interval: Interval, zone: ZoneInfo) -> Any:
    """What makes a moment belong to its bucket, by the calendar's own words."""
    local = moment.astimezone(zone)
    if interval is Interval.HOURLY:
        return local.date(), local.hour, local.utcoffset()
    if interval is Interval.DAILY:
        return local.date()
    return local.isocalendar()[:2] if interval is Interval.WEEKLY else (local.year, local.month)


def check(start: datetime, interval: Interval, zone: ZoneInfo, step: timedelta) -> None:
    start = start.replace(second=0, microsecond=0) - timedelta(minutes=start.minute % 15)
    end = start + LENGTHS[interval]
    cut = segments(start, end, interval, zone)
    first_shown: dict[Any, datetime] = {}
    seen: list[datetime] = []
    moment = start - interval.reach
    while moment < end:
        key = shown(moment, interval, zone)
        first_shown.setdefault(key, moment)
        if moment >= start:
            bucket = cut.buckets[cut.bucket_of[bisect_right(cut.edges, moment) - 1]]
            assert bucket == first_shown[key], (moment, key)
            if bucket not in seen:
                seen.append(bucket)
        moment += step
    assert list(cut.buckets) == seen
    assert list(cut.edges) == sorted(set(cut.edges))
    assert cut.edges[0] == start


@settings(deadline=None, max_examples=150)
@given(moments, st.sampled_from(Interval), st.sampled_from([zone for zone in ZONES if "Monrovia" not in zone]))
@example(datetime(2026, 3, 7, tzinfo=UTC), Interval.HOURLY, "America/New_York")
@example(datetime(2026, 10, 31, tzinfo=UTC), Interval.HOURLY, "America/New_York")
@example(datetime(2026, 10, 28, tzinfo=UTC), Interval.DAILY, "America/New_York")
@example(datetime(2026, 4, 4, tzinfo=UTC), Interval.HOURLY, "Australia/Lord_Howe")
@example(datetime(2026, 10, 3, tzinfo=UTC), Interval.HOURLY, "Australia/Lord_Howe")
@example(datetime(2011, 12, 27, tzinfo=UTC), Interval.DAILY, "Pacific/Apia")
@example(datetime(2011, 12, 27, tzinfo=UTC), Interval.MONTHLY, "Pacific/Apia")
@example(datetime(2018, 11, 1, tzinfo=UTC), Interval.DAILY, "America/Sao_Paulo")
@example(datetime(2014, 5, 10, tzinfo=UTC), Interval.MONTHLY, "Africa/Cairo")
def test_each_moment_is_in_the_bucket_that_the_local_clock_shows(
    start: datetime, interval: Interval, zone: str
) -> None:
    # Where a change falls within a quarter of an hour, the scan has to be finer to name the bucket's first moment.
    fine = zone == "America/St_Johns" and interval in (Interval.HOURLY, Interval.DAILY)
    if zone == "America/St_Johns" and not fine:
        start = start.replace(year=max(start.year, 2012), day=1)
    check(start, interval, ZoneInfo(zone), MINUTE if fine else timedelta(minutes=15))


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        # Clocks went from 00:01 back to 23:01: the old day is left, entered again and left again.
        ("America/St_Johns", datetime(2010, 11, 6, 12, tzinfo=UTC)),
        ("America/St_Johns", datetime(2010, 3, 13, 12, tzinfo=UTC)),
        # Until 1972-01-07 the offset was 44 minutes and 30 seconds.
        ("Africa/Monrovia", datetime(1972, 1, 6, 12, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("interval", [Interval.HOURLY, Interval.DAILY])
def test_changes_within_a_quarter_of_an_hour_are_cut_exactly(zone: str, start: datetime, interval: Interval) -> None:
    check(start, interval, ZoneInfo(zone), timedelta(seconds=30))


def test_the_day_that_samoa_left_out_has_no_bucket() -> None:
    start = datetime(2011, 12, 29, 10, tzinfo=UTC)
    cut = segments(start, start + timedelta(days=2), Interval.DAILY, ZoneInfo("Pacific/Apia"))
    assert cut.buckets == (start, datetime(2011, 12, 30, 10, tzinfo=UTC))


def test_the_hour_shown_twice_in_autumn_is_two_buckets_and_the_day_has_25() -> None:
    zone = ZoneInfo("America/New_York")
    start = datetime(2026, 11, 1, 4, tzinfo=UTC)
    day = segments(start, start + timedelta(days=1, hours=1), Interval.DAILY, zone)
    hours = segments(start, start + timedelta(days=1, hours=1), Interval.HOURLY, zone)
    assert (len(day.buckets), len(hours.buckets)) == (1, 25)


def test_the_first_bucket_bears_its_calendar_start_when_the_range_begins_within_it() -> None:
    start = datetime(2026, 1, 14, 13, 7, 30, 5, tzinfo=UTC)
    end = start + timedelta(microseconds=1)
    starts = {interval: segments(start, end, interval, ZoneInfo("UTC")).buckets for interval in Interval}
    assert starts == {
        Interval.HOURLY: (datetime(2026, 1, 14, 13, tzinfo=UTC),),
        Interval.DAILY: (datetime(2026, 1, 14, tzinfo=UTC),),
        Interval.WEEKLY: (datetime(2026, 1, 12, tzinfo=UTC),),
        Interval.MONTHLY: (datetime(2026, 1, 1, tzinfo=UTC),),
    }


def test_an_empty_range_has_no_bucket() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert segments(moment, moment, Interval.DAILY, ZoneInfo("UTC")).edges == ()


@given(moments, st.timedeltas(timedelta(0), timedelta(days=800)), st.sampled_from(ZONES))
@settings(deadline=None)
def test_within_a_span_the_offset_is_constant(start: datetime, length: timedelta, zone: str) -> None:
    found = spans(start, start + length, ZoneInfo(zone))
    assert found[0].started_at == start
    ends = [*(span.started_at for span in found[1:]), start + length]
    for span, end in zip(found, ends, strict=True):
        assert span.started_at < end or length == timedelta(0)
        at = span.started_at
        while at < end:
            assert at.astimezone(ZoneInfo(zone)).utcoffset() == span.offset
            at += timedelta(hours=13)
    for before, after in pairwise(found):
        assert before.offset != after.offset


@given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_quarters_are_those_of_the_clock_in_utc(moment: datetime) -> None:
    floor, ceiling = floor_quarter(moment), ceil_quarter(moment) if moment.year < 9999 else None
    assert floor == moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
    if ceiling is not None:
        assert ceiling == (floor if floor == moment else floor + timedelta(minutes=15))
        assert on_quarter([floor, ceiling])
    assert on_quarter([moment]) == (floor == moment)
