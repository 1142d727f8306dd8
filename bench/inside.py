"""Row 11: processor time of what each ingest request pays for being multi-tenant, measured inside one process.

The token check and the token bucket through their public interfaces, over real PostgreSQL and Redis. It has no
reference: its aim is a number of microseconds, and so holds for the machine that the report names.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from contextlib import AsyncExitStack
from uuid import UUID

from redis.asyncio import Redis

from app.database import create_engine
from app.settings import GatewaySettings
from auth.keys import KeyRing
from auth.tokens import CACHED_TOKENS, TokenVerifier, issue_token
from bench import machine
from bench.rows import Row
from tenants.directory import Directory
from tenants.limits.buckets import TokenBuckets
from tests.system import MadeTenant, System

AT_ONCE = 64
CHECKS = 50_000
ANEW = 1_000
TAKES = 20_000


async def checks(system: System, rounds: int) -> Row:
    """Row 11: the check of a token that was seen before and one take from the bucket, added up; the parts beside it."""
    row = Row(11, f"token check (seen before) and bucket ({AT_ONCE} at once)", "µs/request")
    tenant = await system.tenant()
    machine.pin(os.getpid(), machine.MEASURED)
    try:
        for _ in range(rounds):
            async with AsyncExitStack() as stack:
                cached, anew = await _token_checks(system, tenant, stack)
                bucket = await _takes(system, tenant, stack)
            row.subject.append(cached + bucket)
            row.notes |= {"seen before µs": cached, "never seen µs": anew, "bucket µs": bucket}
    finally:
        machine.pin(os.getpid(), machine.OTHERS)
    return row


async def _token_checks(system: System, tenant: MadeTenant, stack: AsyncExitStack) -> tuple[float, float]:
    """Microseconds a token that was seen before, and one that was not; with the polling that keeps it right."""
    settings = system.settings(GatewaySettings)
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=2)
    stack.push_async_callback(engine.dispose)
    keys, directory = await KeyRing.load(engine, settings), await Directory.load(engine)
    verifier = TokenVerifier(keys, directory, issuer=settings.issuer, audience=settings.issuer)
    now = time.time()
    sent = [
        b"Bearer %b"
        % issue_token(
            keys.signing_key(now),
            issuer=settings.issuer,
            audience=settings.issuer,
            tenant_id=UUID(tenant.tenant_id),
            client_id=tenant.client_id,
            scopes=["events:write", "events:read", "tenant:admin"],
            lifetime_seconds=settings.token_lifetime_seconds,
            now=now,
        ).encode()
        for _ in range(min(ANEW, CACHED_TOKENS))
    ]
    polling = asyncio.create_task(directory.run())
    try:
        started = time.process_time()
        for authorization in sent:
            await verifier.authenticate(authorization)
        anew = time.process_time() - started
        started = time.process_time()
        for number, authorization in enumerate(itertools.islice(itertools.cycle(sent), CHECKS)):
            await verifier.authenticate(authorization)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # lets the polling run, as requests would
        cached = time.process_time() - started
    finally:
        polling.cancel()
        await asyncio.wait({polling})
    return cached / CHECKS * 1e6, anew / len(sent) * 1e6


async def _takes(system: System, tenant: MadeTenant, stack: AsyncExitStack) -> float:
    """Microseconds a take, with so many requests waiting at any time; Redis' own time is not this process's."""
    settings = system.settings(GatewaySettings)
    timeout = settings.limiter_timeout_seconds
    client = Redis.from_url(
        settings.redis_url.get_secret_value(), socket_timeout=timeout, socket_connect_timeout=timeout
    )
    stack.push_async_callback(client.aclose)
    buckets = TokenBuckets(client, prefix=settings.redis_prefix, timeout_seconds=timeout, processes=1)
    stack.push_async_callback(buckets.close)
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
    stack.push_async_callback(engine.dispose)
    tenant_id = UUID(tenant.tenant_id)
    limits = (await Directory.load(engine)).limits(tenant_id)
    if limits is None:
        raise RuntimeError("the tenant that was just made is not known")
    await buckets.take(tenant_id, limits, 1)

    async def request() -> None:
        for _ in range(TAKES // AT_ONCE):
            await buckets.take(tenant_id, limits, 1)

    started = time.process_time()
    await asyncio.gather(*(request() for _ in range(AT_ONCE)))
    return (time.process_time() - started) / (TAKES // AT_ONCE * AT_ONCE) * 1e6
