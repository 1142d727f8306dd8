"""The token bucket of each tenant: exact across processes, in Redis, one script call for all who wait.

Requests that come while a call is in flight share the next one, so the number of calls follows the round
trip, not the load. A client may have a bucket of its own within its tenant's: granted only if both have room.
Redis down: buckets per process (`tenants.limits.local`). What a tenant's limits are is said by
`tenants.directory`; which answer a refusal becomes is the caller's.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis.exceptions

from app.metrics import LIMITER_CALLS, LIMITER_FALLBACK
from tenants.limits.local import Answer, LocalBuckets
from tenants.limits.script import SCRIPT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from redis.asyncio import Redis

    from tenants.plans import ClientLimits, TenantLimits


LONGEST_WAIT = 1e14
"""Seconds: whatever the rate, it is a number that a header can hold, jitter included (RFC 9651: 15 digits)."""


@dataclass(frozen=True, slots=True)
class OwnBucket:
    """A client's bucket within its tenant's."""

    client_id: str
    limits: ClientLimits


@dataclass(frozen=True, slots=True)
class Grant:
    """The verdict on one request. A refused one may fit after `retry_after` seconds.

    `remaining` tokens are left to the tenant, `own_remaining` to the client (None: it has no bucket of its own).
    """

    granted: bool
    remaining: float
    retry_after: float
    own_remaining: float | None = None


@dataclass(slots=True)
class _Waiting:
    """Who waits for one tenant's bucket. `owns` by client, in the order of their keys; `places` says for each cost the
    client whose own bucket it is taken from too, or None, and may end early.
    """

    limits: TenantLimits
    costs: list[int] = field(default_factory=list)
    futures: list[asyncio.Future[Grant]] = field(default_factory=list)
    owns: dict[str, OwnBucket] = field(default_factory=dict)
    places: list[str | None] = field(default_factory=list)

    def place_last(self, own: OwnBucket) -> None:
        """The last cost is taken from this bucket too."""
        self.owns[own.client_id] = own
        self.places += [None] * (len(self.costs) - 1 - len(self.places))
        self.places.append(own.client_id)

    def all_places(self) -> list[str | None]:
        return self.places + [None] * (len(self.costs) - len(self.places))


@dataclass(frozen=True, slots=True)
class _Empty:
    """At `moment` (monotonic) fewer tokens than one were left; the last request asked for `cost`."""

    limits: TenantLimits | ClientLimits
    moment: float
    tokens: float
    share: float
    cost: int


class TokenBuckets:
    """Buckets of all tenants, seen by one process. Create it inside the running loop; `close` ends its task."""

    def __init__(self, client: Redis, *, prefix: str, timeout_seconds: float, processes: int) -> None:
        self._script = client.register_script(SCRIPT)
        self._prefix = prefix
        self._timeout = timeout_seconds
        self._local = LocalBuckets(processes)
        self._waiting: dict[UUID, _Waiting] = {}
        self._call: asyncio.Task[None] | None = None
        self._empty: dict[UUID | str, _Empty] = {}

    def known_empty(self, key: UUID | str, limits: TenantLimits | ClientLimits, *, cost: int | None = None) -> float:
        """0 if the bucket of this tenant, or of the client with this id, may have a token; else the seconds until
        `cost` may fit (None: as many as were asked for last).

        Only ever says what the last answer proved: others can take tokens, nobody adds faster than the rate.
        """
        entry = self._empty.get(key)
        if entry is None:
            return 0.0
        passed = time.monotonic() - entry.moment
        if entry.limits != limits or _wait(1, limits, entry.tokens, entry.share) <= passed:
            del self._empty[key]
            return 0.0
        return _wait(cost or entry.cost or 1, limits, entry.tokens, entry.share) - passed

    def take(
        self, tenant_id: UUID, limits: TenantLimits, cost: int, own: OwnBucket | None = None
    ) -> asyncio.Future[Grant]:
        """Ask for `cost` tokens; the future resolves within two time limits, Redis or not, and never raises."""
        future: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(tenant_id)
        if waiting is None:
            waiting = self._waiting[tenant_id] = _Waiting(limits)
        waiting.limits = limits
        waiting.costs.append(cost)
        waiting.futures.append(future)
        if own is not None:
            waiting.place_last(own)
        if self._call is None:
            self._call = asyncio.create_task(self._call_while_waited_for())
        return future

    async def close(self) -> None:
        """Answer who still waits."""
        if self._call is not None:
            await self._call

    async def _call_while_waited_for(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                for (tenant_id, waiting), answer in zip(batch.items(), await self._answers(batch), strict=True):
                    self._answer(tenant_id, waiting, answer)
        finally:
            self._call = None  # also after a fault of ours: it must not stop all who come later

    async def _answers(self, batch: dict[UUID, _Waiting]) -> list[Answer]:
        """Redis', or this process's own."""
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._ask(batch)
        except (redis.exceptions.RedisError, OSError, TimeoutError):
            LIMITER_FALLBACK.inc(sum(len(waiting.costs) for waiting in batch.values()))
            return [
                self._local.take(tenant_id, each.limits, each.costs, each.owns, each.all_places())
                for tenant_id, each in batch.items()
            ]
        LIMITER_CALLS.inc()
        return answers

    async def _ask(self, batch: dict[UUID, _Waiting]) -> list[Answer]:
        keys: list[str] = []
        arguments: list[str | int | float] = []
        for tenant_id, waiting in batch.items():
            key = f"{self._prefix}:bucket:{{{tenant_id}}}"
            keys.append(key)
            arguments += (waiting.limits.events_per_second, waiting.limits.burst, len(waiting.owns))
            for client_id, own in waiting.owns.items():
                keys.append(f"{key}:client:{client_id}")
                arguments += (own.limits.events_per_second, own.limits.burst)
            arguments += (len(waiting.costs), *waiting.costs)
            if waiting.owns:
                place = {client_id: number for number, client_id in enumerate(waiting.owns, 1)}
                arguments += [0 if client_id is None else place[client_id] for client_id in waiting.all_places()]
        out = iter(await self._script(keys=keys, args=arguments))
        return [
            Answer(next(out).decode(), float(next(out)), {client_id: float(next(out)) for client_id in waiting.owns})
            for waiting in batch.values()
        ]

    def _answer(self, tenant_id: UUID, waiting: _Waiting, answer: Answer) -> None:
        limits, tokens, share = waiting.limits, answer.tokens, answer.share
        self._remember(tenant_id, limits, tokens, share, waiting.costs)
        places = waiting.all_places()
        for client_id, own in waiting.owns.items():
            costs = [cost for cost, place in zip(waiting.costs, places, strict=True) if place == client_id]
            self._remember(client_id, own.limits, answer.owns[client_id], share, costs)
        plain = Grant(True, tokens, 0.0)
        for future, cost, verdict, place in zip(waiting.futures, waiting.costs, answer.granted, places, strict=True):
            if future.done():  # its client may have gone
                continue
            if place is None:
                future.set_result(plain if verdict == "1" else Grant(False, tokens, _wait(cost, limits, tokens, share)))
                continue
            left = answer.owns[place]
            if verdict == "1":
                future.set_result(Grant(True, tokens, 0.0, left))
            else:
                own_wait = _wait(cost, waiting.owns[place].limits, left, share)
                future.set_result(Grant(False, tokens, max(_wait(cost, limits, tokens, share), own_wait), left))

    def _remember(
        self, key: UUID | str, limits: TenantLimits | ClientLimits, tokens: float, share: float, costs: Sequence[int]
    ) -> None:
        if tokens < min(1, limits.burst * share):
            self._empty[key] = _Empty(limits, time.monotonic(), tokens, share, costs[-1])


def _wait(cost: int, limits: TenantLimits | ClientLimits, tokens: float, share: float) -> float:
    """Seconds until a bucket with so many `tokens` can grant `cost`, or is full, if that is less."""
    missing = max(0.0, min(cost, limits.burst * share) - tokens)
    # One after the other: the least rate there is, times a share, would be 0.
    return min(LONGEST_WAIT, missing / share / limits.events_per_second)


def retry_after(seconds: float) -> int:
    """Whole seconds for `Retry-After`: the earliest possible time, rounded up, with jitter of up to a quarter.

    A lone client that waits this long is admitted; the jitter spreads competing ones.
    """
    return math.ceil(seconds + random.uniform(0, seconds / 4))  # noqa: S311  spreading load, not a secret
