"""Cursors: what was encoded comes back, and nothing else does."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.reads.cursor import LONGEST, CursorError, Place, decode, encode
from app.reads.timeline import question
from app.reads.window import Window

times = st.datetimes(timezones=st.just(UTC))
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)
places = st.builds(Place, times, ids, times, times)
questions = st.binary(max_size=60)


@given(places, questions)
def test_a_cursor_gives_back_its_place(place: Place, asked: bytes) -> None:
    text = encode(place, asked)
    assert decode(text, asked) == place
    assert len(text) <= LONGEST


@given(places, questions, st.data())
def test_a_cursor_that_was_changed_is_refused(place: Place, asked: bytes, data: st.DataObject) -> None:
    text = encode(place, asked)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ %é"))
    kind = data.draw(st.sampled_from(["replace", "insert", "cut"]))
    changed = {
        "replace": text[:at] + other + text[at + 1 :],
        "insert": text[:at] + other + text[at:],
        "cut": text[:at],
    }[kind]
    assume(changed != text)
    with pytest.raises(CursorError):
        decode(changed, asked)


@pytest.mark.parametrize("event_id", ["a", "ab", "abc"])
def test_a_cursor_has_one_spelling(event_id: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    text = encode(Place(start, event_id, start, start), b"q")
    spellings = {text[:-1] + last for last in string.ascii_letters + string.digits + "-_"} - {text}
    spellings |= {f"{text[:9]}{junk}{text[9:]}" for junk in (" ", "%", "%%%%", "====", "\n")}
    spellings |= {f"{text}{padding}" for padding in ("=", "==", "===", "====")}
    for spelling in spellings:
        with pytest.raises(CursorError):
            decode(spelling, b"q")


@given(places, questions, questions)
def test_a_cursor_of_another_question_is_refused(place: Place, asked: bytes, other: bytes) -> None:
    assume(asked != other)
    with pytest.raises(CursorError):
        decode(encode(place, asked), other)


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: raw.hex()), questions)
def test_made_up_text_is_refused(text: str, asked: bytes) -> None:
    with pytest.raises(CursorError):
        decode(text, asked)


def test_tenant_user_times_and_filters_are_each_part_of_the_question() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    asked = [
        question(UUID(int=1), "u", Window()),
        question(UUID(int=2), "u", Window()),
        question(UUID(int=1), "v", Window()),
        question(UUID(int=1), "u", Window(started_at=start)),
        question(UUID(int=1), "u", Window(ended_at=start)),
        question(UUID(int=1), "u", Window(event_type="c")),
        question(UUID(int=1), "u", Window(client_id="c")),
    ]
    assert len(set(asked)) == len(asked)
