"""What GET's parameters and POST's members mean, and how mistakes in them are named."""

from typing import Any
from uuid import UUID

import pytest

from app.errors import InvalidError, MalformedError
from app.parameters import Reading
from search import cursor
from search.request import PARAMETERS, SearchRequest, pairs_of_body, read_request

TENANT = UUID("6f0d9b1e-2f7e-4f0a-9a57-1b2a9e0c7d11")


def asked(*pairs: tuple[str, str], tenant: UUID = TENANT) -> SearchRequest:
    return read_request(Reading(pairs, PARAMETERS), tenant, pointer="/query/q")


def test_without_parameters_everything_is_asked_for_newest_first() -> None:
    request = asked()
    assert (request.sort, request.limit, request.after, request.filters()) == ("newest", 20, (), [])


def test_words_are_sorted_by_relevance_unless_told_otherwise() -> None:
    assert asked(("q", "a")).sort == "relevance"
    assert asked(("q", "a"), ("sort", "oldest")).sort == "oldest"


def test_filters_and_times_become_clauses() -> None:
    request = asked(
        ("eventType", "t"), ("userId", "u"), ("clientId", "c"), ("timezone", "Asia/Shanghai"),
        ("startedAt", "2025-01-01"), ("endedAt", "2025-02-01T00:00:00.000001Z"),
    )  # fmt: skip
    assert request.filters() == [
        {"term": {"event_type": "t"}},
        {"term": {"client_id": "c"}},
        {"term": {"user_id": "u"}},
        {"range": {"timestamp": {"gte": "2024-12-31T16:00:00Z", "lt": "2025-02-01T00:00:00.000001Z"}}},
    ]


@pytest.mark.parametrize(
    ("pairs", "clauses"),
    [
        ([("started_at", "0001-01-01")], []),
        ([("ended_at", "9999-12-31")], []),
        ([("ended_at", "1969-12-31")], [{"match_none": {}}]),
        ([("started_at", "2262-01-01")], [{"match_none": {}}]),
    ],
)
def test_times_that_no_event_can_have_restrict_nothing_or_everything(pairs: Any, clauses: Any) -> None:
    assert asked(*pairs).filters() == clauses


@pytest.mark.parametrize(
    ("pairs", "pointer"),
    [
        ([("limit", "0")], "/query/limit"),
        ([("limit", "101")], "/query/limit"),
        ([("sort", "random")], "/query/sort"),
        ([("q", "x" * 1001)], "/query/q"),
        ([("q", "a\0")], "/query/q"),
        ([("user_id", "")], "/query/user_id"),
        ([("event_type", "a"), ("name", "b")], "/query/name"),
        ([("userId", "a"), ("user_id", "a")], "/query/user_id"),
        ([("tenant_id", "x")], "/query/tenant_id"),
        ([("cursor", "x")], "/query/cursor"),
        ([("started_at", "2025-01-02"), ("ended_at", "2025-01-01")], "/query/ended_at"),
    ],
)
def test_a_parameter_that_is_not_valid_is_named(pairs: Any, pointer: str) -> None:
    with pytest.raises(InvalidError) as raised:
        asked(*pairs)
    assert [fault.pointer for fault in raised.value.faults] == [pointer]


def test_an_unclosed_quote_is_400_with_its_position() -> None:
    with pytest.raises(MalformedError) as raised:
        asked(("q", 'a "b'))
    assert raised.value.extra == {"position": 2}
    assert raised.value.faults[0].pointer == "/query/q"


@pytest.mark.parametrize(
    "other",
    [
        ("q", "b"),
        ("event_type", "x"),
        ("user_id", "x"),
        ("client_id", "x"),
        ("sort", "oldest"),
        ("ended_at", "2025-01-01"),
    ],
)
def test_a_cursor_is_bound_to_its_question(other: tuple[str, str]) -> None:
    values = [1.5, "2025-01-01T00:00:00Z", "e"]
    behind = ("cursor", cursor.write(asked(("q", "a")).question, values))
    assert asked(("q", "a"), ("limit", "7"), behind).after == tuple(values)
    pairs = dict([("q", "a"), other, behind])
    with pytest.raises(InvalidError) as raised:
        asked(*pairs.items())
    assert [fault.pointer for fault in raised.value.faults] == ["/query/cursor"]


def test_a_cursor_is_bound_to_its_tenant() -> None:
    behind = ("cursor", cursor.write(asked().question, ["2025-01-01T00:00:00Z", "e"]))
    with pytest.raises(InvalidError):
        asked(behind, tenant=UUID(int=1))


def test_a_body_says_the_same_as_a_query() -> None:
    pairs = pairs_of_body(b'{"q": "a \\"b c\\"", "limit": 5, "eventType": "t", "cursor": null}')
    assert pairs == [("q", 'a "b c"'), ("limit", "5"), ("eventType", "t")]


def test_members_given_twice_are_seen() -> None:
    with pytest.raises(InvalidError):
        read_request(Reading(pairs_of_body(b'{"q": "a", "q": "b"}'), PARAMETERS, prefix=""), TENANT, pointer="/q")


@pytest.mark.parametrize("body", [b"", b"{", b'{"q": NaN}', b'{"q": "\\ud800"}', b"\xff", b'{"q": 1e999}'])
def test_a_body_that_is_no_json_is_400(body: bytes) -> None:
    with pytest.raises(MalformedError):
        pairs_of_body(body)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [(b"[]", ""), (b'"q"', ""), (b'{"q": 1}', "/q"), (b'{"limit": 1.5}', "/limit"), (b'{"q": {"match_all": {}}}', "/q"),
     (b'{"a/b": true}', "/a~1b")],
)  # fmt: skip
def test_a_member_of_another_type_is_422_with_its_pointer(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidError) as raised:
        pairs_of_body(body)
    assert [fault.pointer for fault in raised.value.faults] == [pointer]


def test_null_is_absent_only_for_what_is_a_parameter_and_a_whole_number_may_have_a_point() -> None:
    assert pairs_of_body(b'{"limit": 5.0, "startedAt": null}') == [("limit", "5")]
    with pytest.raises(InvalidError) as raised:
        pairs_of_body(b'{"other": null}')
    assert [(fault.pointer, fault.detail) for fault in raised.value.faults] == [("/other", "is not a parameter here")]
