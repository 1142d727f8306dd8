from hypothesis import given
from hypothesis import strategies as st

from deploy.local.policy import RestartPolicy

POLICY = RestartPolicy(limit=5, window=60.0)


def test_the_first_death_is_answered_almost_at_once_and_later_ones_more_slowly() -> None:
    delays = [POLICY.delay([0.0] * deaths, now=0.0) for deaths in range(1, 6)]

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2]


def test_the_sixth_death_within_a_minute_is_the_end() -> None:
    assert POLICY.delay([0, 10, 20, 30, 40, 50], now=50) is None


def test_deaths_long_ago_are_forgotten() -> None:
    assert POLICY.delay([0, 10, 20, 30, 40, 100.1], now=100.1) is not None


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20))
def test_a_restart_is_refused_exactly_when_more_than_the_limit_died_within_the_window(deaths: list[float]) -> None:
    now = max(deaths)
    recent = [death for death in deaths if now - death <= POLICY.window]

    delay = POLICY.delay(deaths, now)

    assert (delay is None) == (len(recent) > POLICY.limit)
    assert delay is None or POLICY.first_delay <= delay <= POLICY.longest_delay
