"""Token buckets as several processes would have them, over the real Redis."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from deploy.local.servers import Endpoints
from tenants.limits.buckets import OwnBucket, TokenBuckets
from tenants.plans import ClientLimits, TenantLimits


def limits(rate: float, burst: int) -> TenantLimits:
    return TenantLimits(rate, burst, 65_536, 1)


def own(client_id: str, rate: float, burst: int) -> OwnBucket:
    return OwnBucket(client_id, ClientLimits(rate, burst))


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
