"""`Retry-After` is never too early for a lone client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenants.limits.buckets import retry_after


@given(st.floats(0, 10_000, allow_nan=False))
def test_the_wait_is_whole_seconds_never_too_early_and_at_most_a_quarter_late(seconds: float) -> None:
    wait = retry_after(seconds)
    assert seconds <= wait <= seconds * 1.25 + 1
