"""The storage of windows: counts as a naive list of moments would, and keeps a bounded number of keys."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter

from app.throttling.windows import Windows


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=60))
def test_a_window_admits_its_limit_from_its_first_request_until_it_ends(requests: list[tuple[str, float]]) -> None:
    clock = Clock()
    limiter = FixedWindowRateLimiter(Windows(clock=clock))
    limit = RateLimitItemPerMinute(3)
    begun: dict[str, float] = {}
    counted: dict[str, int] = {}
    for key, pause in requests:
        clock.now += pause
        if clock.now >= begun.get(key, -60.0) + 60:
            begun[key], counted[key] = clock.now, 0
        counted[key] += 1
        assert limiter.hit(limit, key) is (counted[key] <= 3)
        assert limiter.test(limit, key) is (counted[key] < 3)
        stats = limiter.get_window_stats(limit, key)
        assert stats.remaining == max(0, 3 - counted[key])
        assert stats.reset_time == begun[key] + 60


def test_a_key_that_was_never_counted_has_all_of_its_limit_and_nothing_to_wait_for() -> None:
    clock = Clock()
    stats = FixedWindowRateLimiter(Windows(clock=clock)).get_window_stats(RateLimitItemPerMinute(3), "new")
    assert (stats.remaining, stats.reset_time) == (3, clock.now)


def test_windows_that_have_ended_are_forgotten_as_others_begin() -> None:
    clock = Clock()
    windows = Windows(clock=clock)
    for number in range(1_000):
        windows.incr(f"early {number}", 60)
    clock.now += 60
    windows.incr("late", 60)
    assert len(windows) == 1


def test_the_oldest_windows_make_room_when_there_are_too_many() -> None:
    windows = Windows(clock=Clock(), capacity=10)
    for number in range(1_000):
        windows.incr(str(number), 60)
    assert len(windows) == 10
    assert windows.get("999") == 1
    assert windows.get("989") == 0


def test_a_window_that_begins_again_is_no_longer_among_the_oldest() -> None:
    clock = Clock()
    windows = Windows(clock=clock, capacity=2)
    windows.incr("again", 1)
    windows.incr("other", 60)
    clock.now += 1
    windows.incr("again", 60)
    windows.incr("third", 60)
    assert (windows.get("other"), windows.get("again"), windows.get("third")) == (0, 1, 1)


def test_windows_can_be_cleared_one_by_one_and_all_at_once() -> None:
    windows = Windows(clock=Clock())
    for key in ("a", "b", "c"):
        windows.incr(key, 60)
    windows.clear("a")
    assert windows.get("a") == 0
    assert windows.reset() == 2
    assert len(windows) == 0
