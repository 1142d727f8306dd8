"""How long a worker waits before it tries again: longer each time, up to a bound, and never all at the same moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.loop import backoff


@given(st.integers(1, 10_000))
def test_a_pause_lies_in_the_upper_half_of_a_bound_that_doubles_from_a_tenth_of_a_second_to_five(attempt: int) -> None:
    bound = min(5.0, 0.1 * 2 ** min(attempt - 1, 60))
    assert bound / 2 <= backoff(attempt) <= bound


def test_workers_that_failed_at_the_same_moment_do_not_come_back_at_the_same_moment() -> None:
    pauses = {backoff(7) for _ in range(50)}
    assert len(pauses) > 40
    assert max(pauses) - min(pauses) > 1
