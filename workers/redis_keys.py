"""The keys in Redis that are a tenant's: each has its id in its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from redis.asyncio import Redis

_GLOB = re.compile(r"([\[\]*?\\^-])")


async def keys_of(redis: Redis, prefix: str, tenant_id: UUID) -> AsyncIterator[bytes]:
    """All of the tenant's keys below `prefix`, some perhaps twice; looks at every key that there is."""
    escaped = _GLOB.sub(r"\\\1", prefix)
    async for key in redis.scan_iter(f"{escaped}:*{tenant_id}*", count=1000):
        yield key


async def caches_of(redis: Redis, prefix: str, tenant_id: UUID) -> AsyncIterator[bytes]:
    """Those that can be filled again. Not the buckets: an empty one would be full again."""
    buckets = f"{prefix}:bucket:".encode()
    async for key in keys_of(redis, prefix, tenant_id):
        if not key.startswith(buckets):
            yield key
