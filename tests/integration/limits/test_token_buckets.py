"""The token bucket on the real Redis: exact, shared, all or nothing, and never a hang without Redis."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from deploy.local.ports import free_ports
from deploy.local.servers import Endpoints
from tenants.limits import TokenBuckets
from tenants.plans import TenantLimits
from tests.system import until


def limits(rate: float, burst: int) -> TenantLimits:
    return TenantLimits(rate, burst, 65_536, 1)


class Buckets:
    """Makes buckets as several processes would: each with a connection of its own, all under one prefix."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._prefix = f"test-{secrets.token_hex(4)}"
        self._made: list[tuple[TokenBuckets, Redis]] = []

    def process(self, *, processes: int = 1, url: str | None = None, timeout: float = 2.0) -> TokenBuckets:
        client = Redis.from_url(url or self._url, socket_timeout=timeout, socket_connect_timeout=timeout)
        buckets = TokenBuckets(client, prefix=self._prefix, timeout_seconds=timeout, processes=processes)
        self._made.append((buckets, client))
        return buckets

    async def close(self) -> None:
        for buckets, client in self._made:
            await buckets.close()
            await client.aclose()


@pytest.fixture
async def made(endpoints: Endpoints) -> AsyncIterator[Buckets]:
    buckets = Buckets(endpoints.redis_url)
    yield buckets
    await buckets.close()


async def test_a_burst_is_granted_at_once_and_then_no_more(made: Buckets) -> None:
    buckets, tenant, slow = made.process(), uuid4(), limits(0.001, 10)
    grants = await asyncio.gather(*(buckets.take(tenant, slow, 1) for _ in range(25)))
    assert sum(grant.granted for grant in grants) == 10
    refused = await buckets.take(tenant, slow, 3)
    assert not refused.granted
    assert refused.retry_after == pytest.approx(3000, rel=0.01)
    assert buckets.known_empty(tenant, slow) == pytest.approx(1000, rel=0.01)
    assert buckets.known_empty(tenant, limits(1, 20)) == 0  # another plan: what was known no longer holds


async def test_a_request_is_granted_whole_or_not_at_all(made: Buckets) -> None:
    buckets, tenant, slow = made.process(), uuid4(), limits(0.001, 10)
    assert (await buckets.take(tenant, slow, 7)).granted
    assert not (await buckets.take(tenant, slow, 4)).granted
    assert (await buckets.take(tenant, slow, 3)).granted


async def test_two_processes_share_one_bucket(made: Buckets) -> None:
    first, second, tenant, slow = made.process(), made.process(), uuid4(), limits(0.001, 100)
    grants = await asyncio.gather(*(buckets.take(tenant, slow, 1) for _ in range(100) for buckets in (first, second)))
    assert sum(grant.granted for grant in grants) == 100


async def test_tenants_do_not_share(made: Buckets) -> None:
    buckets, slow = made.process(), limits(0.001, 5)
    grants = await asyncio.gather(*(buckets.take(tenant, slow, 5) for tenant in [uuid4() for _ in range(20)]))
    assert all(grant.granted for grant in grants)


async def test_looking_costs_nothing(made: Buckets) -> None:
    buckets, tenant, slow = made.process(), uuid4(), limits(0.001, 5)
    for _ in range(3):
        look = await buckets.take(tenant, slow, 0)
        assert (look.granted, look.remaining) == (True, 5)


async def test_over_time_exactly_burst_plus_rate_times_time_is_admitted(made: Buckets) -> None:
    buckets, tenant, rate, burst = made.process(), uuid4(), 500, 1_000
    admitted, calls = 0, []
    while True:
        began = time.monotonic()
        grants = await asyncio.gather(*(buckets.take(tenant, limits(rate, burst), 1) for _ in range(100)))
        calls.append((began, time.monotonic()))
        admitted += sum(grant.granted for grant in grants)
        # Ends with a refusal: then nothing is left in the bucket, and what was admitted is all that there was.
        if calls[-1][0] > calls[0][0] + 2 and not grants[-1].granted:
            break
    # Redis looked at its clock somewhere within the first call and somewhere within the last.
    assert burst + rate * (calls[-1][0] - calls[0][1]) - 1 <= admitted <= burst + rate * (calls[-1][1] - calls[0][0])


async def test_after_the_wait_that_was_named_and_not_before_a_lone_client_is_admitted(made: Buckets) -> None:
    buckets, tenant, slow = made.process(), uuid4(), limits(4, 4)
    assert (await buckets.take(tenant, slow, 4)).granted
    refused = await buckets.take(tenant, slow, 3)
    told = time.monotonic()
    assert 0 < refused.retry_after <= 0.75
    await until(lambda: buckets.take(tenant, slow, 3), lambda grant: grant.granted, seconds=5)
    # A hundredth of a second for the two clocks' readings, which lie on either side of a round trip.
    assert time.monotonic() - told >= refused.retry_after - 0.01


async def test_without_redis_each_process_grants_its_share_and_nothing_hangs(made: Buckets) -> None:
    (port,) = free_ports(1)
    buckets = made.process(processes=4, url=f"redis://127.0.0.1:{port}/0", timeout=0.3)
    tenant, slow = uuid4(), limits(0.004, 40)
    started = time.monotonic()
    grants = await asyncio.gather(*(buckets.take(tenant, slow, 1) for _ in range(30)))
    assert time.monotonic() - started < 5
    assert sum(grant.granted for grant in grants) == 10


@settings(max_examples=30)
@given(costs=st.lists(st.integers(0, 12), min_size=1, max_size=30), burst=st.integers(1, 40))
def test_grants_are_first_come_and_never_exceed_the_bucket(endpoints: Endpoints, costs: list[int], burst: int) -> None:
    async def play() -> list[bool]:
        made = Buckets(endpoints.redis_url)
        try:
            buckets, tenant = made.process(), uuid4()
            waiting = [buckets.take(tenant, limits(1e-9, burst), cost) for cost in costs]
            return [grant.granted for grant in await asyncio.gather(*waiting)]
        finally:
            await made.close()

    left, expected = burst, []
    for cost in costs:
        fits = cost <= left
        left -= cost if fits else 0
        expected.append(fits)
    assert asyncio.run(play()) == expected
