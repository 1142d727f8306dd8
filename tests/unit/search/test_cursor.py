"""Cursors come back as they went, and nothing else is taken for one."""

import base64
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.timestamps import format_utc
from search import cursor

times = st.datetimes(datetime(1970, 1, 1), datetime(2261, 12, 31), timezones=st.just(UTC)).map(format_utc)  # noqa: DTZ001
event_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
scores = st.floats(0, 2.0**120, width=32)


@given(st.sampled_from(get_args(cursor.Sort)), scores, times, event_ids)
def test_what_was_written_is_read_again(sort: cursor.Sort, score: float, time: str, event_id: str) -> None:
    values = [time, event_id] if sort != "relevance" else [score, time, event_id]
    question = cursor.digest("a", None, "b")
    text = cursor.write(question, values)
    assert len(text) <= cursor.LONGEST_CURSOR
    assert cursor.read(text, question, sort) == values
    with pytest.raises(cursor.CursorError, match="another search"):
        cursor.read(text, cursor.digest("a", "b", None), sort)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_refused_with_one_kind_of_error(text: str) -> None:
    with pytest.raises(cursor.CursorError):
        cursor.read(text, cursor.digest("a"), "newest")


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["2025-01-01T00:00:00Z"],
        ["2025-01-01T00:00:00Z", 1],
        ["2025-01-01T00:00:00Z", "e", "more"],
        ["1969-12-31T23:59:59Z", "e"],
        ["2262-04-12T00:00:00Z", "e"],
        ["now-1d", "e"],
        ["2025-01-01T00:00:00Z", "e" * 201],
        [None, "e"],
        [{"script": "1"}, "e"],
    ],
)
def test_values_that_no_hit_can_have_are_refused(values: list[Any]) -> None:
    question = cursor.digest("a")
    with pytest.raises(cursor.CursorError, match="not a cursor"):
        cursor.read(cursor.write(question, values), question, "newest")


@pytest.mark.parametrize("score", ["1", True, None, 1e39, [1]])
def test_a_score_that_no_hit_can_have_is_refused(score: Any) -> None:
    question = cursor.digest("a")
    with pytest.raises(cursor.CursorError, match="not a cursor"):
        cursor.read(cursor.write(question, [score, "2025-01-01T00:00:00Z", "e"]), question, "relevance")
