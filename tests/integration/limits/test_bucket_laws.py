"""Laws of the buckets, against a model: tenants, clients with a bucket of their own, several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.ports import free_ports
from deploy.local.servers import Endpoints
from tenants.limits.buckets import Grant
from tests.integration.limits.conftest import Buckets, limits, own

STILL = 1e-9
"""Events per second: no test lasts long enough for one."""

TENANT_BURST = 20
CLIENT_BURSTS = {"a": 5, "b": 12, "c": 30}


@dataclass(frozen=True)
class Ask:
    """A request: of which process, which tenant (by number), which client (None: without a bucket of its own)."""

    process: int
    tenant: int
    client: str | None
    cost: int


asks = st.builds(Ask, st.integers(0, 2), st.integers(0, 1), st.sampled_from([None, *CLIENT_BURSTS]), st.integers(0, 9))


class Model:
    """What must be granted, asked one after another."""

    def __init__(self) -> None:
        self.tenants = [TENANT_BURST, TENANT_BURST]
        self.clients = [dict(CLIENT_BURSTS), dict(CLIENT_BURSTS)]

    def take(self, ask: Ask) -> tuple[bool, int, int | None]:
        """Granted; left to the tenant; left to the client."""
        tokens, own_tokens = self.tenants[ask.tenant], self.clients[ask.tenant]
        fits = ask.cost <= tokens and (ask.client is None or ask.cost <= own_tokens[ask.client])
        if fits:
            self.tenants[ask.tenant] -= ask.cost
            if ask.client is not None:
                own_tokens[ask.client] -= ask.cost
        return fits, self.tenants[ask.tenant], None if ask.client is None else own_tokens[ask.client]


def seen(grant: Grant) -> tuple[bool, int, int | None]:
    return grant.granted, round(grant.remaining), None if grant.own_remaining is None else round(grant.own_remaining)


async def play(url: str, rounds: Sequence[Sequence[Ask]]) -> list[list[Grant]]:
    """Each round's requests at once, a round after another."""
    made = Buckets(url)
    try:
        processes = [made.process() for _ in range(3)]
        tenants = [uuid4(), uuid4()]

        def take(ask: Ask) -> asyncio.Future[Grant]:
            mine = None if ask.client is None else own(f"{tenants[ask.tenant]}{ask.client}", STILL, _burst(ask))
            return processes[ask.process].take(tenants[ask.tenant], limits(STILL, TENANT_BURST), ask.cost, mine)

        return [list(await asyncio.gather(*map(take, each))) for each in rounds]
    finally:
        await made.close()


def _burst(ask: Ask) -> int:
    return CLIENT_BURSTS[ask.client or ""]


@settings(max_examples=40)
@given(asked=st.lists(asks, min_size=1, max_size=25))
def test_one_after_another_from_any_process_grants_what_the_model_grants(
    endpoints: Endpoints, asked: list[Ask]
) -> None:
    grants = asyncio.run(play(endpoints.redis_url, [[ask] for ask in asked]))
    model = Model()
    assert [seen(grant) for (grant,) in grants] == [model.take(ask) for ask in asked]


@settings(max_examples=40)
@given(asked=st.lists(asks, min_size=1, max_size=40))
def test_at_once_in_one_process_is_first_come_first_served(endpoints: Endpoints, asked: list[Ask]) -> None:
    asked = [Ask(0, ask.tenant, ask.client, ask.cost) for ask in asked]
    (grants,) = asyncio.run(play(endpoints.redis_url, [asked]))
    model = Model()
    assert [grant.granted for grant in grants] == [model.take(ask)[0] for ask in asked]


@settings(max_examples=30)
@given(asked=st.lists(asks, min_size=1, max_size=60))
def test_at_once_in_all_processes_neither_bucket_gives_more_than_it_holds(
    endpoints: Endpoints, asked: list[Ask]
) -> None:
    (grants,) = asyncio.run(play(endpoints.redis_url, [asked]))
    for number in range(2):
        given = [
            (ask, ask.cost * grant.granted) for ask, grant in zip(asked, grants, strict=True) if ask.tenant == number
        ]
        assert sum(cost for _, cost in given) <= TENANT_BURST
        for client, burst in CLIENT_BURSTS.items():
            assert sum(cost for ask, cost in given if ask.client == client) <= burst
        # The last that was refused for lack of room really had none: nothing is held back either.
        left = TENANT_BURST - sum(cost for _, cost in given)
        refused = [ask for ask, cost in given if ask.cost and not cost and ask.client is None]
        assert all(ask.cost > left for ask in refused)


@settings(max_examples=20)
@given(asked=st.lists(asks, min_size=1, max_size=30))
def test_a_process_alone_grants_by_the_same_rules(asked: list[Ask]) -> None:
    (port,) = free_ports(1)
    asked = [
        Ask(0, ask.tenant, ask.client, ask.cost)
        for ask in asked
        if ask.client is None or ask.cost <= CLIENT_BURSTS[ask.client]  # others are answered 413 before
    ]
    (grants,) = asyncio.run(play(f"redis://127.0.0.1:{port}/0", [asked]))
    model = Model()
    assert [grant.granted for grant in grants] == [model.take(ask)[0] for ask in asked]


async def test_a_refusal_names_the_wait_for_both_buckets(endpoints: Endpoints) -> None:
    made = Buckets(endpoints.redis_url)
    try:
        buckets, tenant, wide = made.process(), uuid4(), limits(10, 100)
        mine = own(f"{tenant}", 2, 4)
        assert (await buckets.take(tenant, wide, 4, mine)).granted
        refused = await buckets.take(tenant, wide, 3, mine)
        assert 1.4 < refused.retry_after <= 1.5
        assert buckets.known_empty(tenant, wide) == 0
        assert buckets.known_empty(mine.client_id, mine.limits, cost=1) > 0
        assert (await buckets.take(tenant, wide, 90)).granted  # another client of the tenant is not held up
    finally:
        await made.close()
