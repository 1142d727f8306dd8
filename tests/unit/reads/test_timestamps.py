"""Timestamps: what RFC 3339 allows is read, nothing else is, and an instant has one text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.timestamps import TimestampError, format_utc, parse_rfc3339

GRAMMAR = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

instants = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(instants)
def test_reading_what_was_written_gives_the_same_instant(instant: datetime) -> None:
    text = format_utc(instant)
    assert parse_rfc3339(text) == instant
    assert GRAMMAR.fullmatch(text)
    assert not re.search(r"0Z$", text.partition(".")[1] + text.partition(".")[2])


@given(instants, offsets)
def test_an_offset_is_taken_off(instant: datetime, offset: timezone) -> None:
    local = instant.astimezone(offset)
    assert parse_rfc3339(local.isoformat()) == instant
    assert parse_rfc3339(local.isoformat()).tzinfo is UTC
    assert format_utc(local) == format_utc(instant)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05.500000Z", "2026-01-02T03:04:05.5Z"),
        ("2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02t03:04:05.1z", "2026-01-02T03:04:05.1Z"),
        ("2026-01-02T03:04:05-00:00", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.999999999+05:45", "2026-01-01T21:19:05.999999Z"),
        ("0800-01-02T03:04:05Z", "0800-01-02T03:04:05Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
        ("2017-01-01T05:44:60.25+05:45", "2016-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_the_written_form_is_canonical(text: str, canonical: str) -> None:
    assert format_utc(parse_rfc3339(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-02",
        "2026-01-02T03:04Z",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05.1234567890Z",
        "2026-01-02T03:04:05.123456xZ",
        "2026-01-02T03:04:05.123456 +05:30",
        "2026-01-02T03:04:05+0530",
        "2026-01-02T03:04:05+05:30:10",
        "2026-01-02T03:04:05+05:60",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:60:00Z",
        "2026-01-02T03:04:60Z",
        "2026-06-29T23:59:60Z",
        "2026-06-30T23:59:61Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "20260102T030405Z",
        "2026-W01-1T03:04:05Z",
        " 2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        "\uff1226-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\ud800",
        "now",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(TimestampError):
        parse_rfc3339(text)


@given(st.text(alphabet="0123456789-:.TtZz+ ,", max_size=40) | st.text())
def test_only_the_grammar_is_read(text: str) -> None:
    try:
        parse_rfc3339(text)
    except TimestampError:
        return
    assert GRAMMAR.fullmatch(text)


@given(
    st.tuples(st.integers(0, 9999), *(st.integers(0, 99) for _ in range(5))),
    st.sampled_from(["Z", "z", "+00:00", "-23:59", "+14:00", "+07:61"]),
)
def test_fields_out_of_range_are_a_refusal_and_never_another_error(fields: tuple[int, ...], zone: str) -> None:
    year, month, day, hour, minute, second = fields
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}"
    try:
        read = parse_rfc3339(text)
    except TimestampError:
        return
    assert abs(read.year - year) <= 1
    assert read.minute == minute or zone == "-23:59"


def test_a_datetime_without_zone_has_no_text() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        format_utc(datetime(2026, 1, 1))  # noqa: DTZ001
