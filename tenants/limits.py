"""The token bucket of each tenant: exact across processes, in Redis, one script call for all who wait.

Requests that come while a call is in flight share the next one, so the number of calls follows the round
trip, not the load. Redis down: a bucket per process with its share of the rate. What a tenant's limits are
is said by `tenants.directory`; which answer a refusal becomes is the caller's.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass
from uuid import UUID

import redis.exceptions
from redis.asyncio import Redis

from app.metrics import LIMITER_CALLS, LIMITER_FALLBACK
from tenants.directory import TenantLimits

# KEYS: one bucket a tenant. ARGV: for each key rate, burst, n, then n costs.
# Costs are granted first come, first served, each whole or not at all; a cost of 0 only looks.
# Redis' own clock, so that processes with different clocks agree; elapsed time is clamped at 0, as that
# clock may be set back. A bucket that is full again may be forgotten: the time to live is the time to full.
_SCRIPT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local out = {}
local at = 1
for i, key in ipairs(KEYS) do
  local rate, burst, n = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local tokens, since = burst, now
  local state = redis.call('GET', key)
  if state then
    local t, s = string.match(state, '^(%S+) (%S+)$')
    tokens, since = tonumber(t), tonumber(s)
  end
  tokens = math.min(burst, tokens + math.max(0, now - since) * rate)
  local granted = {}
  for j = 1, n do
    local cost = tonumber(ARGV[at])
    at = at + 1
    if cost <= tokens then
      tokens = tokens - cost
      granted[j] = '1'
    else
      granted[j] = '0'
    end
  end
  redis.call('SET', key, string.format('%.17g %.17g', tokens, math.max(now, since)),
             'PX', math.ceil((burst - tokens) / rate * 1000) + 1000)
  out[i * 2 - 1] = table.concat(granted)
  out[i * 2] = string.format('%.17g', tokens)
end
return out
"""


@dataclass(frozen=True, slots=True)
class Grant:
    """The verdict on one request. `remaining` tokens are left; a refused one may fit after `retry_after` seconds."""

    granted: bool
    remaining: float
    retry_after: float


@dataclass(slots=True)
class _Waiting:
    limits: TenantLimits
    costs: list[int]
    futures: list[asyncio.Future[Grant]]


class TokenBuckets:
    """Buckets of all tenants, seen by one process. Create it inside the running loop; `close` ends its task."""

    def __init__(self, client: Redis, *, prefix: str, timeout_seconds: float, processes: int) -> None:
        self._script = client.register_script(_SCRIPT)
        self._prefix = prefix
        self._timeout = timeout_seconds
        self._processes = processes
        self._waiting: dict[UUID, _Waiting] = {}
        self._call: asyncio.Task[None] | None = None
        self._empty: dict[UUID, tuple[TenantLimits, float]] = {}
        self._local: dict[UUID, tuple[float, float]] = {}

    def known_empty(self, tenant_id: UUID, limits: TenantLimits) -> float:
        """Seconds until the tenant's bucket can hold one token again, 0 if it may now.

        Only ever says what the last answer proved: others can take tokens, nobody adds faster than the rate.
        """
        entry = self._empty.get(tenant_id)
        if entry is None:
            return 0.0
        known_limits, until = entry
        wait = until - time.monotonic()
        if wait <= 0 or known_limits != limits:
            del self._empty[tenant_id]
            return 0.0
        return wait

    def take(self, tenant_id: UUID, limits: TenantLimits, cost: int) -> asyncio.Future[Grant]:
        """Ask for `cost` tokens; the future resolves within the time limit, Redis or not, and never raises."""
        future: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(tenant_id)
        if waiting is None:
            self._waiting[tenant_id] = _Waiting(limits, [cost], [future])
        else:
            waiting.limits = limits
            waiting.costs.append(cost)
            waiting.futures.append(future)
        if self._call is None:
            self._call = asyncio.create_task(self._call_while_waited_for())
        return future

    async def close(self) -> None:
        """Answer who still waits."""
        if self._call is not None:
            await self._call

    async def _call_while_waited_for(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            try:
                async with asyncio.timeout(self._timeout):
                    answers = await self._ask(batch)
                LIMITER_CALLS.inc()
            except (redis.exceptions.RedisError, OSError, TimeoutError):
                LIMITER_FALLBACK.inc(sum(len(waiting.costs) for waiting in batch.values()))
                answers = self._ask_locally(batch)
            for (tenant_id, waiting), (granted, tokens) in zip(batch.items(), answers, strict=True):
                self._answer(tenant_id, waiting, granted, tokens)
        self._call = None

    async def _ask(self, batch: dict[UUID, _Waiting]) -> list[tuple[str, float]]:
        keys: list[str] = []
        arguments: list[str | int | float] = []
        for tenant_id, waiting in batch.items():
            keys.append(f"{self._prefix}:bucket:{{{tenant_id}}}")
            limits = waiting.limits
            arguments += (limits.events_per_second, limits.burst, len(waiting.costs), *waiting.costs)
        out = await self._script(keys=keys, args=arguments)
        return [(out[i].decode(), float(out[i + 1])) for i in range(0, len(out), 2)]

    def _ask_locally(self, batch: dict[UUID, _Waiting]) -> list[tuple[str, float]]:
        now = time.monotonic()
        answers = []
        for tenant_id, waiting in batch.items():
            burst = waiting.limits.burst / self._processes
            rate = waiting.limits.events_per_second / self._processes
            tokens, since = self._local.get(tenant_id, (burst, now))
            tokens = min(burst, tokens + (now - since) * rate)
            granted = []
            for cost in waiting.costs:
                fits = cost <= tokens
                tokens -= cost if fits else 0
                granted.append("1" if fits else "0")
            self._local[tenant_id] = (tokens, now)
            answers.append(("".join(granted), tokens))
        return answers

    def _answer(self, tenant_id: UUID, waiting: _Waiting, granted: str, tokens: float) -> None:
        rate = waiting.limits.events_per_second
        if tokens < 1:
            self._empty[tenant_id] = (waiting.limits, time.monotonic() + (1 - tokens) / rate)
        for future, cost, verdict in zip(waiting.futures, waiting.costs, granted, strict=True):
            if not future.done():  # its client may have gone
                yes = verdict == "1"
                future.set_result(Grant(yes, tokens, 0.0 if yes else (cost - tokens) / rate))


def retry_after(seconds: float) -> int:
    """Whole seconds for `Retry-After`: the earliest possible time, rounded up, with jitter of up to a quarter.

    A lone client that waits this long is admitted; the jitter spreads competing ones.
    """
    return math.ceil(seconds + random.uniform(0, seconds / 4))  # noqa: S311  spreading load, not a secret
