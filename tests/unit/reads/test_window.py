"""Parameters of the read endpoints: spellings, times, zones, and what is said about wrong ones."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidError, MalformedError
from app.parameters import MOST_PARAMETERS, Reading, openapi_parameters, pairs_of_query
from app.reads.window import WINDOW_PARAMETERS, Window, window_of


def faults(query: bytes) -> dict[str, str]:
    with pytest.raises(InvalidError) as raised:
        window_of(pairs_of_query(query))
    return {fault.pointer: fault.detail for fault in raised.value.faults}


def test_nothing_asked_restricts_nothing() -> None:
    assert window_of([]) == Window()


@pytest.mark.parametrize(
    "query",
    [
        b"started_at=2026-01-02T00:00:00Z&ended_at=2026-02-01&event_type=click&client_id=c",
        b"startedAt=2026-01-02&endedAt=2026-02-01T08:00:00%2B08:00&eventType=click&clientId=c",
        b"startedAt=2026-01-02t00:00:00.000z&ended_at=2026-02-01&name=click&client_id=c&timezone=UTC",
    ],
)
def test_both_spellings_mean_the_same(query: bytes) -> None:
    assert window_of(pairs_of_query(query)) == Window(
        datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), "click", "c"
    )


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("UTC", "2026-03-08T00:00:00+00:00"),
        ("Asia/Shanghai", "2026-03-07T16:00:00+00:00"),
        ("America/New_York", "2026-03-08T05:00:00+00:00"),
        ("Asia/Kathmandu", "2026-03-07T18:15:00+00:00"),
        ("Etc/GMT+5", "2026-03-08T05:00:00+00:00"),
    ],
)
def test_a_date_is_the_start_of_its_day_in_the_zone(zone: str, start: str) -> None:
    query = f"started_at=2026-03-08&timezone={zone.replace('+', '%2B')}".encode()
    window = window_of(pairs_of_query(query))
    assert window.started_at == datetime.fromisoformat(start)
    assert window.zone == ZoneInfo(zone)


def test_a_day_whose_midnight_is_skipped_starts_with_the_jump() -> None:
    # On 2018-11-04 clocks in São Paulo went from 00:00 to 01:00.
    window = window_of([("started_at", "2018-11-04"), ("timezone", "America/Sao_Paulo")])
    assert window.started_at == datetime(2018, 11, 4, 3, tzinfo=UTC)


def test_both_spellings_at_once_are_refused_at_the_second_one() -> None:
    assert faults(b"event_type=a&eventType=a") == {"/query/eventType": "says the same as event_type: give only one"}
    assert faults(b"name=a&event_type=a") == {"/query/event_type": "says the same as name: give only one"}
    assert faults(b"startedAt=2026-01-01&startedAt=2026-01-01") == {"/query/startedAt": "is given twice"}


def test_unknown_parameters_are_named_with_an_escaped_pointer() -> None:
    found = faults(b"from=2026-01-01&a%2Fb~c=1&=x")
    assert set(found) == {"/query/from", "/query/a~1b~0c", "/query/"}
    assert "started_at" in found["/query/from"]


def test_every_fault_is_named_at_the_spelling_that_was_used() -> None:
    found = faults(b"startedAt=yesterday&ended_at=2026-02-30&timezone=Mars&name=&client_id=a%00")
    assert set(found) == {"/query/startedAt", "/query/ended_at", "/query/timezone", "/query/name", "/query/client_id"}


def test_an_end_before_its_start_is_refused_and_an_empty_range_is_not() -> None:
    assert faults(b"started_at=2026-01-02&endedAt=2026-01-01") == {"/query/endedAt": "is before started_at"}
    assert window_of([("started_at", "2026-01-02"), ("ended_at", "2026-01-02")]).started_at is not None


def test_a_plus_that_became_a_space_is_explained() -> None:
    assert "%2B" in faults(b"started_at=2026-01-01T00:00:00+08:00")["/query/started_at"]


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "utc ",
        "+08:00",
        "America",
        "../../etc/passwd",
        "/etc/localtime",
        "localtime",
        "posix/UTC",
        "A" * 5000,
        "a\0b",
    ],
)
def test_what_is_no_iana_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidError) as raised:
        window_of([("timezone", zone)])
    assert [fault.pointer for fault in raised.value.faults] == ["/query/timezone"]


@pytest.mark.parametrize("query", [b"event_type=%E0%80", b"event_type=%zz", b"event_type=%", b"a=%C3"])
def test_a_query_that_cannot_be_decoded_is_malformed(query: bytes) -> None:
    with pytest.raises(MalformedError):
        pairs_of_query(query)


def test_more_parameters_than_any_question_has_are_malformed() -> None:
    with pytest.raises(MalformedError):
        pairs_of_query(b"&".join([b"a=1"] * (MOST_PARAMETERS + 1)))
    assert len(pairs_of_query(b"&".join([b"a=1"] * MOST_PARAMETERS))) == MOST_PARAMETERS


@given(st.binary(max_size=200))
def test_no_query_is_more_than_refused(query: bytes) -> None:
    with suppress(MalformedError, InvalidError):
        window_of(pairs_of_query(query))


names = st.sampled_from([spelling for parameter in WINDOW_PARAMETERS for spelling in parameter.spellings])


@given(st.lists(st.tuples(names, st.text(max_size=40) | st.dates().map(str)), max_size=6))
def test_any_values_are_read_or_refused_with_pointers_into_the_query(pairs: list[tuple[str, str]]) -> None:
    pointers: set[str] | None = None
    try:
        window_of(pairs)
    except InvalidError as error:
        pointers = {fault.pointer for fault in error.faults}
    assert pointers != set()
    assert (pointers or set()) <= {f"/query/{name}" for name, _ in pairs}


def test_numbers_outside_their_bounds_are_refused() -> None:
    limits = [*WINDOW_PARAMETERS]
    for text in ("0", "11", "1e1", " 5", "5.0", "\u0665", "", "9" * 5000):
        reading = Reading([("event_type", text)], limits)
        reading.integer("event_type", default=3, least=1, most=10)
        with pytest.raises(InvalidError):
            reading.finish()
    reading = Reading([("event_type", "10")], limits)
    assert reading.integer("event_type", default=3, least=1, most=10) == 10
    assert reading.integer("client_id", default=3, least=1, most=10) == 3
    reading.finish()


def test_a_body_with_the_same_names_has_pointers_from_its_root() -> None:
    reading = Reading([("eventType", "a"), ("name", "b")], WINDOW_PARAMETERS, prefix="")
    with pytest.raises(InvalidError) as raised:
        reading.finish()
    assert [fault.pointer for fault in raised.value.faults] == ["/name"]


def test_openapi_lists_each_parameter_once_with_its_other_spellings() -> None:
    listed = openapi_parameters(WINDOW_PARAMETERS)["parameters"]
    assert [entry["name"] for entry in listed] == ["started_at", "ended_at", "event_type", "client_id", "timezone"]
    assert "`eventType`, `name`" in listed[2]["description"]
