"""The range of a timeline where the caller leaves it open."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from app.reads.timeline import Range, range_of
from app.reads.window import Window

NOW = datetime(2026, 3, 7, 20, 30, tzinfo=UTC)


def test_by_default_it_is_today_and_the_29_days_after_it_in_utc() -> None:
    assert range_of(Window(), NOW) == Range(datetime(2026, 3, 7, tzinfo=UTC), datetime(2026, 4, 6, tzinfo=UTC))


def test_today_is_the_zones_own() -> None:
    shanghai = range_of(Window(zone=ZoneInfo("Asia/Shanghai")), NOW)
    assert shanghai == Range(datetime(2026, 3, 7, 16, tzinfo=UTC), datetime(2026, 4, 6, 16, tzinfo=UTC))


def test_thirty_days_are_days_of_the_zones_calendar() -> None:
    # New York's summer time begins on 2026-03-08, so that these 30 days are an hour short.
    new_york = range_of(Window(zone=ZoneInfo("America/New_York")), NOW)
    assert new_york == Range(datetime(2026, 3, 7, 5, tzinfo=UTC), datetime(2026, 4, 6, 4, tzinfo=UTC))


def test_the_end_follows_a_given_start_and_a_given_end_stays() -> None:
    start, end = datetime(2020, 1, 1, 7, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
    assert range_of(Window(started_at=start), NOW) == Range(start, datetime(2020, 1, 31, 7, tzinfo=UTC))
    assert range_of(Window(started_at=start, ended_at=end), NOW) == Range(start, end)


def test_a_default_end_beyond_the_calendar_is_an_overflow() -> None:
    with pytest.raises(OverflowError):
        range_of(Window(started_at=datetime(9999, 12, 15, tzinfo=UTC)), NOW)
