"""Numbers as text in the order of the numbers."""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from search.numbers import sortable

numbers = st.floats(allow_nan=False) | st.integers() | st.integers(-1000, 1000)


def as_double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


@given(numbers, numbers)
@example(9, 10)
@example(-10, -9)
@example(-0.0, 0)
@example(10**400, float("inf"))
@example(-(10**400), -1e308)
@example(5e-324, 0)
def test_texts_compare_as_their_numbers_do(a: float, b: float) -> None:
    x, y = as_double(a), as_double(b)
    assert (sortable(a) < sortable(b)) == (x < y)
    assert (sortable(a) == sortable(b)) == (x == y)


@given(numbers)
def test_a_text_is_always_sixteen_hexadecimal_digits(number: float) -> None:
    text = sortable(number)
    assert len(text) == 16
    assert struct.unpack(">Q", bytes.fromhex(text))


def test_the_encoding_is_this_one_because_documents_keep_it() -> None:
    assert sortable(0) == "8000000000000000"
    assert sortable(1) == "bff0000000000000"
    assert sortable(-1) == "400fffffffffffff"
