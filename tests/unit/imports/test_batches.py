"""The law of batching: whatever the lines and bounds, none is lost, none doubled, order kept, bounds held."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.imports.batches import Bounds, batches
from app.imports.failures import SourceError
from app.imports.lines import Line, Where

SIZES = st.lists(st.integers(0, 60), max_size=80)


def lines_of(sizes: list[int]) -> list[Line]:
    return [Line(Where("f", number), b"x" * size) for number, size in enumerate(sizes, 1)]


def size_of(batch: list[Line]) -> int:
    return sum(len(line.body) + 1 for line in batch)


@given(SIZES, st.integers(1, 20), st.integers(1, 100))
def test_no_line_is_lost_or_doubled_and_every_batch_is_within_bounds(sizes: list[int], events: int, size: int) -> None:
    lines = lines_of(sizes)
    made = list(batches(lines, Bounds(events, size)))
    assert [line for batch in made for line in batch] == lines
    assert all(1 <= len(batch) <= events for batch in made)
    assert all(size_of(batch) <= size or len(batch) == 1 for batch in made)


@given(SIZES, st.integers(1, 20), st.integers(1, 100))
def test_no_batch_could_have_taken_the_next_line_too(sizes: list[int], events: int, size: int) -> None:
    made = list(batches(lines_of(sizes), Bounds(events, size)))
    for batch, following in pairwise(made):
        assert len(batch) == events or size_of(batch) + size_of(following[:1]) > size


@given(SIZES, st.integers(1, 20), st.data())
def test_bounds_may_shrink_between_batches_without_losing_a_line(
    sizes: list[int], events: int, data: st.DataObject
) -> None:
    lines, bounds = lines_of(sizes), Bounds(events)
    made = []
    for batch in batches(lines, bounds):
        assert len(batch) <= bounds.events
        made += batch
        bounds.lower(events=data.draw(st.none() | st.integers(1, 20)))
    assert made == lines


def test_bounds_are_never_raised_and_never_zero() -> None:
    bounds = Bounds(10, 100)
    bounds.lower(events=20, size=1000)
    assert bounds == Bounds(10, 100)
    bounds.lower(events=1)
    assert bounds == Bounds(1, 100)


def test_what_was_read_before_a_failure_comes_out_before_it() -> None:
    def failing() -> Iterator[Line]:
        yield from lines_of([1, 1, 1])
        raise SourceError("damaged")

    made = batches(failing(), Bounds(2))
    assert [len(next(made)), len(next(made))] == [2, 1]
    with pytest.raises(SourceError, match="damaged"):
        next(made)
