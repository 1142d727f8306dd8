"""What a row of `events` becomes."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.documents import LONGEST_ID_BYTES, bulk_lines, document, document_id
from search.numbers import sortable

TENANT = UUID("6f0d9b1e-2f7e-4f0a-9a57-1b2a9e0c7d11")


def row(metadata: Any, **changes: Any) -> dict[str, Any]:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata, ensure_ascii=False)
    return {
        "tenant_id": TENANT,
        "event_id": "e1",
        "event_type": "order.paid",
        "user_id": "u1",
        "client_id": "c1",
        "timestamp": datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        "received_at": datetime(2025, 4, 1, tzinfo=UTC),
        "index_slice": 202504,
        "metadata": text,
    } | changes


def source(metadata: Any, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document(row(metadata, **changes), "p").source)
    return found


def test_it_goes_to_its_slice_under_its_tenants_routing() -> None:
    made = document(row({}), "p")
    assert (made.routing, made.index_name, made.id) == (str(TENANT), "p-202504", f"{TENANT}:e1")


def test_it_holds_the_event_with_microseconds() -> None:
    assert source({"a": 1}) == {
        "tenant_id": str(TENANT),
        "event_id": "e1",
        "event_type": "order.paid",
        "user_id": "u1",
        "client_id": "c1",
        "timestamp": "2025-03-01T12:00:00.123456Z",
        "received_at": "2025-04-01T00:00:00Z",
        "label": ["order.paid", "u1"],
        "metadata": {"a": 1},
        "numbers": {"a": [sortable(1)]},
    }


def test_text_is_every_string_value_and_no_key() -> None:
    metadata = {"subject": " a\n\tb ", "deep": [{"x": "c"}, ["d", 5, None, True]], "empty": " \u3000"}
    assert source(metadata)["text"] == ["a b", "c", "d"]


def test_numbers_are_found_under_their_path_and_booleans_are_none() -> None:
    metadata = {"amount": -1.5, "items": [{"n": 1}, {"n": 2}], "flag": True}
    assert source(metadata)["numbers"] == {"amount": [sortable(-1.5)], "items.n": [sortable(1), sortable(2)]}


def test_an_event_without_a_user_has_none() -> None:
    found = source({}, user_id=None)
    assert "user_id" not in found
    assert found["label"] == ["order.paid"]


@pytest.mark.parametrize("digits", ["1" + "0" * 399, "-" + "9" * 400, "0." + "0" * 399 + "1", "1" + "0" * 350 + ".5"])
def test_numbers_that_no_double_holds_stay_as_they_are_written(digits: str) -> None:
    made = document(row(f'{{"n": {digits}, "s": "x"}}'), "p").source
    assert digits.encode() in made
    assert json.loads(made)["text"] == ["x"]


def test_metadata_whose_key_path_is_too_long_for_a_term_is_kept_as_text() -> None:
    metadata = {"a" * 20_000: {"b" * 15_000: "x", "n": 1}, "m": 2}
    found = source(metadata)
    assert "metadata" not in found
    assert json.loads(found["metadata_json"]) == metadata
    assert found["text"] == ["x"]
    assert sorted(map(len, found["numbers"])) == [1, 20_002]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_ids_are_short_enough_and_as_different_as_event_ids(one: str, other: str) -> None:
    first, second = document_id(str(TENANT), one), document_id(str(TENANT), other)
    assert len(first.encode()) <= LONGEST_ID_BYTES
    assert (first == second) == (one == other)


def test_no_event_id_can_imitate_the_hash_of_another() -> None:
    long = "é" * 200 + "件" * 40
    hashed = document_id(str(TENANT), long)
    assert hashed.startswith(f"{TENANT}#")
    assert document_id(str(TENANT), hashed.removeprefix(f"{TENANT}")) != hashed


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    st.dictionaries(st.text(), st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_bulk_lines_are_two_lines_of_json_whatever_the_texts(event_id: str, metadata: dict[str, str]) -> None:
    made = document(row(metadata, event_id=event_id), "p")
    action, written, rest = bulk_lines(made).split(b"\n")
    assert json.loads(action) == {
        "index": {"_index": "p-202504", "_id": made.id, "routing": str(TENANT)},
    }
    assert json.loads(written)["event_id"] == event_id
    assert json.loads(written)["metadata"] == metadata
    assert rest == b""
