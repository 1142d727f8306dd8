"""One event: bounds, aliases, defaults, and where each fault is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from app.events.model import IncomingEvent, Receipt, accept, fault_from
from app.events.record import AcceptedEvent

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
RECEIPT = Receipt(NOW, NOW + timedelta(days=1))


def take(**members: Any) -> AcceptedEvent | list[tuple[str, str]]:
    verdict = accept(msgspec.json.decode(msgspec.json.encode(members), type=IncomingEvent), RECEIPT)
    return [(fault.pointer, fault.detail) for fault in verdict] if isinstance(verdict, list) else verdict


def good(**members: Any) -> AcceptedEvent:
    event = take(**members)
    assert isinstance(event, AcceptedEvent), event
    return event


def test_only_the_type_is_required_and_the_rest_is_made() -> None:
    event = good(event_type="click")
    assert UUID(event.event_id).version == 7
    assert event.timestamp == NOW
    assert event.user_id is None
    assert bytes(event.metadata) == b"{}"


def test_null_counts_as_absent() -> None:
    event = good(event_type="a", user_id=None, event_id=None, timestamp=None, metadata=None)
    assert (event.user_id, event.timestamp, bytes(event.metadata)) == (None, NOW, b"{}")


@pytest.mark.parametrize("name", ["event_type", "eventType", "name"])
def test_the_type_has_three_spellings(name: str) -> None:
    assert good(**{name: "click"}).event_type == "click"


def test_camel_case_is_accepted_for_each_member() -> None:
    event = good(eventType="a", userId="u", eventId="e")
    assert (event.event_id, event.user_id) == ("e", "u")


@pytest.mark.parametrize(
    ("first", "second"), [("event_type", "name"), ("eventType", "name"), ("user_id", "userId"), ("event_id", "eventId")]
)
def test_two_spellings_at_once_are_refused(first: str, second: str) -> None:
    members = {"event_type": "a"} if first not in ("event_type", "eventType") else {}
    assert take(**members, **{first: "x", second: "x"}) == [
        (f"/{second}", f"means the same as {first}: send one of them")
    ]


@pytest.mark.parametrize("name", ["event_type", "event_id", "user_id"])
def test_texts_have_1_to_200_characters(name: str) -> None:
    base = {"event_type": "a"}
    assert isinstance(take(**{**base, name: "修" * 200}), AcceptedEvent)
    assert take(**{**base, name: ""}) == [(f"/{name}", "must have 1 to 200 characters, has 0")]
    assert take(**{**base, name: "x" * 201}) == [(f"/{name}", "must have 1 to 200 characters, has 201")]
    assert take(**{**base, name: "a\0b"}) == [(f"/{name}", "contains NUL (U+0000)")]


def test_timestamps_are_bounded_by_1970_and_tomorrow() -> None:
    assert good(event_type="a", timestamp="1970-01-01T00:00:00Z").timestamp == datetime(1970, 1, 1, tzinfo=UTC)
    assert good(event_type="a", timestamp="2026-05-05T12:00:00Z").timestamp == NOW + timedelta(days=1)
    assert take(event_type="a", timestamp="1969-12-31T23:59:59Z") == [("/timestamp", "is before 1970-01-01")]
    assert take(event_type="a", timestamp="2026-05-05T12:00:01Z") == [
        ("/timestamp", "is more than one day in the future")
    ]


def test_a_date_is_the_start_of_that_day_in_utc() -> None:
    assert good(event_type="a", timestamp="2026-01-02").timestamp == datetime(2026, 1, 2, tzinfo=UTC)


def test_an_offset_is_kept_as_the_same_instant() -> None:
    assert good(event_type="a", timestamp="2026-01-02T08:00:00+08:00").timestamp == datetime(2026, 1, 2, tzinfo=UTC)


def test_several_faults_are_named_at_once() -> None:
    verdict = take(user_id="", timestamp="yesterday")
    assert isinstance(verdict, list)
    assert {pointer for pointer, _ in verdict} == {"/timestamp", "/event_type", "/user_id"}


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"event_type": 5}', "/event_type"),
        (b'{"event_typ": "a"}', "/event_typ"),
        (b'{"event_type": "a", "a/b": 1}', "/a~1b"),
        (b'{"event_type": "a", "b`c": 1}', "/b`c"),
        (b'{"event_type": "a", "b` - at `$.c": 1}', "/b` - at `$.c"),
        (b"[]", ""),
    ],
)
def test_the_decoder_s_errors_become_pointers(text: bytes, pointer: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=IncomingEvent)
    assert fault_from(caught.value).pointer == pointer
