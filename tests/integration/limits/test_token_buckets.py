"""The token bucket on the real Redis: exact, shared, all or nothing, and never a hang without Redis."""

from __future__ import annotations

import asyncio
import math
import time
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from deploy.local.ports import free_ports
from deploy.local.servers import Endpoints
from tenants.limits.buckets import retry_after
from tests.integration.limits.conftest import Buckets, limits
from tests.integration.reads.proxy import Relay
from tests.system import until


async def test_a_burst_is_granted_at_once_and_then_no_more(made: Buckets) -> None:
    buckets, tenant, slow = made.process(), uuid4(), limits(0.001, 10)
    grants = await asyncio.gather(*(buckets.take(tenant, slow, 1) for _ in range(25)))
    assert sum(grant.granted for grant in grants) == 10
    refused = await buckets.take(tenant, slow, 3)
    assert not refused.granted
    assert refused.retry_after == pytest.approx(3000, rel=0.01)
    assert buckets.known_empty(tenant, slow, cost=1) == pytest.approx(1000, rel=0.01)
    assert buckets.known_empty(tenant, slow) == pytest.approx(3000, rel=0.01)  # as many as were asked for last
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


async def test_a_process_alone_lets_a_request_larger_than_its_share_through_and_makes_up_for_it(made: Buckets) -> None:
    (port,) = free_ports(1)
    buckets = made.process(processes=4, url=f"redis://127.0.0.1:{port}/0", timeout=0.3)
    tenant, slow = uuid4(), limits(40, 40)
    assert (await buckets.take(tenant, slow, 30)).granted  # a share is 10, at 10 a second
    refused = await buckets.take(tenant, slow, 1)
    assert not refused.granted
    assert refused.retry_after == pytest.approx(2.1, abs=0.1)
    tiny = limits(0.001, 1)  # a share of a quarter of an event
    assert (await buckets.take(uuid4(), tiny, 1)).granted


async def test_a_redis_that_never_answers_holds_nobody_up_and_is_used_again_when_it_does(
    made: Buckets, endpoints: Endpoints
) -> None:
    relay = Relay(endpoints.redis_url)
    await relay.mend()
    try:
        buckets = made.process(url=relay.url, timeout=0.3)
        tenant, slow = uuid4(), limits(0.001, 5)
        assert (await buckets.take(tenant, slow, 1)).remaining == pytest.approx(4, abs=0.1)
        relay.freeze()
        started = time.monotonic()
        # Who comes while a call hangs waits for that one and for the next, and no longer.
        first = asyncio.gather(*(buckets.take(tenant, slow, 1) for _ in range(3)))
        await asyncio.sleep(0.1)
        late = buckets.take(tenant, slow, 1)
        assert all(grant.granted for grant in await first)
        assert (await late).granted
        assert time.monotonic() - started < 0.9
        await relay.cut()
        await relay.mend()
        # Redis never heard of what was granted meanwhile.
        again = await until(lambda: buckets.take(tenant, slow, 0), lambda grant: grant.remaining > 3.9, seconds=5)
        assert again.remaining == pytest.approx(4, abs=0.1)
    finally:
        await relay.cut()


async def test_a_bucket_outlives_the_process_that_filled_it(made: Buckets) -> None:
    tenant, slow = uuid4(), limits(0.001, 10)
    assert (await made.process().take(tenant, slow, 8)).granted
    assert not (await made.process().take(tenant, slow, 3)).granted


async def test_extreme_rates_are_held_by_redis_and_not_by_the_fallback(made: Buckets) -> None:
    buckets = made.process()
    for rate in (1e-300, 1e-9, 1e9):
        tenant, other = uuid4(), made.process()
        assert (await buckets.take(tenant, limits(rate, 2**31 - 1), 2_000)).granted
        left = (await other.take(tenant, limits(rate, 2**31 - 1), 0)).remaining  # another process knows of it
        assert left == (2**31 - 1 if rate == 1e9 else pytest.approx(2**31 - 2001))


async def test_the_wait_for_a_rate_next_to_nothing_is_still_a_number(made: Buckets) -> None:
    buckets, tenant, hardly = made.process(), uuid4(), limits(1e-308, 5)
    assert (await buckets.take(tenant, hardly, 5)).granted
    refused = await buckets.take(tenant, hardly, 5)
    assert not refused.granted
    assert 1e13 < retry_after(refused.retry_after) < 1e15


async def test_the_least_rate_there_is_stops_nobody_while_redis_is_away(made: Buckets) -> None:
    (port,) = free_ports(1)
    buckets, tenant = made.process(processes=4, url=f"redis://127.0.0.1:{port}/0", timeout=0.3), uuid4()
    least = limits(math.ulp(0.0), 5)
    async with asyncio.timeout(5):
        assert (await buckets.take(tenant, least, 5)).granted
        assert not (await buckets.take(tenant, least, 5)).granted
        assert (await buckets.take(uuid4(), limits(1, 5), 1)).granted


async def test_a_clock_of_redis_that_was_set_back_stops_no_bucket_from_filling(
    made: Buckets, endpoints: Endpoints
) -> None:
    buckets, tenant, rate = made.process(), uuid4(), limits(20, 10)
    await buckets.take(tenant, rate, 0)
    redis = Redis.from_url(endpoints.redis_url)
    try:
        (key,) = [key async for key in redis.scan_iter(f"*:bucket:{{{tenant}}}")]
        await redis.set(key, f"0 {time.time() + 3600:.17g}")
    finally:
        await redis.aclose()
    refused = await buckets.take(tenant, rate, 5)
    assert not refused.granted  # and what the clock says has passed gave nothing
    assert refused.remaining < 1
    await until(lambda: buckets.take(tenant, rate, 5), lambda grant: grant.granted, seconds=5)


async def test_a_fault_of_ours_does_not_stop_those_who_come_later(
    made: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets, tenant, slow = made.process(), uuid4(), limits(0.001, 5)

    async def broken(_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(buckets, "_ask", broken)
        lost = buckets.take(tenant, slow, 1)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await buckets.take(tenant, slow, 1)).granted
    assert not lost.done()
