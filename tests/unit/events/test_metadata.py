"""Which metadata is taken, and that the quick scan never clears what the full check would refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.metadata import MAX_DEPTH, MAX_DIGITS, MOST_FAULTS, are_plain, faults_of, is_plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@given(st.dictionaries(st.text(), JSON), st.booleans())
def test_what_the_scan_clears_has_no_fault(content: dict[str, Any], ascii_only: bool) -> None:
    try:
        raw = json.dumps(content, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 body can hold unescaped
        return
    if is_plain(raw):
        assert faults_of(raw, "/metadata") == []


def test_sixteen_levels_are_taken_and_seventeen_are_not() -> None:
    assert faults_of(nested(MAX_DEPTH), "/metadata") == []
    assert is_plain(nested(MAX_DEPTH))
    assert not is_plain(nested(MAX_DEPTH + 1))
    assert [fault.detail for fault in faults_of(nested(MAX_DEPTH + 1), "/metadata")] == ["is nested more than 16 deep"]


def test_many_shallow_objects_are_not_taken_for_deep_ones() -> None:
    raw = json.dumps({str(number): {} for number in range(40)}).encode()
    assert not is_plain(raw)
    assert faults_of(raw, "") == []


def test_brackets_within_strings_are_not_levels() -> None:
    raw = json.dumps({"text": '{["\\' * 30}).encode()
    assert faults_of(raw, "") == []


@pytest.mark.parametrize(
    ("literal", "fine"),
    [
        ("0", True),
        ("-1.5e3", True),
        ("1e308", True),
        ("1e399", True),
        ("1e400", False),
        ("1E+400", False),
        ("1e-400", True),
        ("1e-401", False),
        ("1e200000", False),
        ("1e-999999999999999999999", False),
        ("1" + "0" * (MAX_DIGITS - 1), True),
        ("1" + "0" * MAX_DIGITS, False),
        ("0." + "0" * (MAX_DIGITS - 1) + "1", True),
        ("0." + "0" * MAX_DIGITS + "1", False),
        ("0e000400", True),
    ],
)
def test_numbers_are_taken_up_to_400_digits_on_either_side(literal: str, fine: bool) -> None:
    raw = f'{{"n":{literal}}}'.encode()
    assert (faults_of(raw, "/metadata") == []) is fine
    if not fine:
        assert not is_plain(raw)
        assert faults_of(raw, "/metadata")[0].pointer == "/metadata/n"


@pytest.mark.parametrize(
    ("raw", "pointer", "reason"),
    [
        (rb'{"a":["x","\u0000"]}', "/m/a/1", "contains NUL (U+0000)"),
        (rb'{"a/b~c":"\ud800"}', "/m/a~1b~0c", "contains a lone surrogate"),
        (rb'{"\u0000":1}', "/m", "a key contains NUL (U+0000)"),
        (b"[]", "/m", "must be an object"),
        (b'"text"', "/m", "must be an object"),
    ],
)
def test_each_fault_has_its_pointer(raw: bytes, pointer: str, reason: str) -> None:
    assert [(fault.pointer, fault.detail) for fault in faults_of(raw, "/m")] == [(pointer, reason)]


def test_an_escaped_backslash_before_u0000_is_only_text() -> None:
    raw = rb'{"a":"\\u0000"}'
    assert not is_plain(raw)
    assert faults_of(raw, "") == []


def test_a_surrogate_pair_is_a_character() -> None:
    assert faults_of(rb'{"a":"\ud83d\ude00"}', "") == []


def test_numbers_that_would_swell_a_row_are_refused_together() -> None:
    fine = b'{"n":[' + b",".join([b"1e399"] * 163) + b"]}"
    swelling = b'{"n":[' + b",".join([b"1e399"] * 164) + b"]}"
    assert faults_of(fine, "/metadata") == []
    assert [fault.pointer for fault in faults_of(swelling, "/metadata")] == ["/metadata"]


@given(st.lists(st.dictionaries(st.text(), JSON), min_size=1, max_size=5))
def test_what_is_cleared_together_is_clear_each(contents: list[dict[str, Any]]) -> None:
    raws = [json.dumps(content).encode() for content in contents]
    if are_plain(raws):
        assert all(faults_of(raw, "") == [] for raw in raws)


@pytest.mark.parametrize("bad", [nested(17), b'{"n":1e400}', rb'{"n":"\u0000"}'])
def test_one_bad_among_many_is_not_cleared(bad: bytes) -> None:
    assert are_plain([b"{}"] * 50)
    assert not are_plain([b"{}"] * 25 + [bad] + [b"{}"] * 25)


@pytest.mark.parametrize("bad", [rb'"\u0000"', b"1e999", rb'{"\u0000":1}', rb'["\ud800"]'])
def test_a_value_that_a_later_member_replaces_is_looked_at_too(bad: bytes) -> None:
    # PostgreSQL reads it before it drops it, and refuses the whole document.
    assert faults_of(b'{"a":%b,"a":1}' % bad, "/m")[0].pointer.startswith("/m")


def test_of_thousands_of_faults_a_few_are_told() -> None:
    raw = b'{"a":[' + b",".join([rb'"\u0000"'] * 5000) + b"]}"
    assert [fault.pointer for fault in faults_of(raw, "")] == [f"/a/{index}" for index in range(MOST_FAULTS)]
    long_key = b'{"%b":[' % (b"k" * 30_000) + b",".join([rb'"\u0000"'] * 3000) + b"]}"
    assert len(faults_of(long_key, "")) == 1


@given(st.dictionaries(st.text(), JSON))
def test_whatever_way_characters_are_escaped_only_nul_is_a_fault(content: dict[str, Any]) -> None:
    raw = json.dumps(content).encode()
    assert (faults_of(raw, "") == []) is (rb"\u0000" not in raw.replace(rb"\\", b""))
