"""Cursors of lists: what one says is what it was given, and only for the question that it answers."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidError
from app.parameters import Reading
from tenants.pages import LONGEST, PAGE_PARAMETERS, PageAsked, Place, decode, encode, read_page

ANY = re.compile(".*")
PLACES = st.builds(
    Place,
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  Hypothesis adds the zone
    st.text(st.characters(codec="utf-8"), max_size=200),
)


@given(PLACES, st.binary())
def test_a_cursor_says_the_place_that_it_was_made_of(place: Place, question: bytes) -> None:
    cursor = encode(place, question)
    assert decode(cursor, question) == place
    assert len(cursor) <= LONGEST


@given(PLACES, st.binary(), st.binary())
def test_a_cursor_of_another_question_is_none(place: Place, question: bytes, other: bytes) -> None:
    if question != other:
        assert decode(encode(place, question), other) is None


@given(PLACES, st.data())
def test_a_cursor_that_was_touched_is_none(place: Place, data: st.DataObject) -> None:
    cursor = encode(place, b"q")
    at = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.characters(exclude_characters=cursor[at], codec="utf-8"))
    assert decode(cursor[:at] + letter + cursor[at + 1 :], b"q") is None
    assert decode(cursor[:at], b"q") is None
    assert decode(cursor + "=", b"q") is None


@given(st.text(max_size=50))
def test_any_other_text_is_none(text: str) -> None:
    assert decode(text, b"q") is None


def test_a_page_s_cursor_is_bound_to_everything_but_the_limit() -> None:
    place = Place(datetime(2026, 1, 2, tzinfo=UTC), "a")
    first = read_page(Reading([], PAGE_PARAMETERS), ANY, "list", "tenant", None)
    assert first == PageAsked(100, None, first.question)
    assert first.next_cursor(None) is None
    cursor = first.next_cursor(place)
    assert cursor is not None
    again = read_page(Reading([("limit", "7"), ("cursor", cursor)], PAGE_PARAMETERS), ANY, "list", "tenant", None)
    assert (again.limit, again.after) == (7, place)
    for question in (("list", "other", None), ("list", "tenant", "x"), ("other", "tenant", None), ("list", "tenant")):
        reading = Reading([("cursor", cursor)], PAGE_PARAMETERS)
        assert read_page(reading, ANY, *question).after is None
        with pytest.raises(InvalidError):
            reading.finish()
