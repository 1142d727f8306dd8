"""Hostile bodies through the decoders: each gets a verdict that names the place of a fault; what is taken is stored."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from aiokafka import ConsumerRecord

from app.events.model import Receipt
from app.events.record import encode_events, join_record
from app.settings import WorkerSettings
from tests.fuzz.bodies import Case, case
from tests.fuzz.decoding import check, verdict_on
from tests.system import MadeTenant, System
from workers.store import StoreStep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SEED = 5
CASES = {False: 5_000, True: 200_000}
AT_ONCE = 500
"""Cases whose events are stored in one transaction."""

SLOWEST_SECONDS = 20.0
"""For one case; what it guards against took minutes."""

GROWTH_BYTES = 400 * 2**20


@pytest.mark.timeout(7200)
async def test_every_body_gets_a_verdict_and_what_is_taken_is_storable(
    attacked: System, long_form: bool, say: Callable[[str], None]
) -> None:
    tenant = await attacked.tenant()
    receipt = Receipt.now()
    statuses: dict[int, int] = {}
    slowest = 0.0
    taken: list[tuple[Case, bytes]] = []
    ids: set[str] = set()
    before = _most_memory()
    async with connected(attacked) as connection:
        for number in range(CASES[long_form]):
            drawn = case(SEED, number)
            begun = time.process_time()
            verdict = await verdict_on(drawn, receipt)
            slowest = max(slowest, time.process_time() - begun)
            check(drawn, verdict)
            statuses[verdict.status] = statuses.get(verdict.status, 0) + 1
            if verdict.accepted:
                ids |= {event.event_id for event in verdict.accepted}
                pieces = [encode_events(list(verdict.accepted))]
                taken.append((drawn, join_record(UUID(tenant.tenant_id), tenant.client_id, receipt.at, pieces)))
            if len(taken) == AT_ONCE or number == CASES[long_form] - 1:
                await stored(connection, taken)
                taken.clear()
    assert slowest < SLOWEST_SECONDS
    assert _most_memory() - before < GROWTH_BYTES
    assert await attacked.counted(tenant) == len(ids)
    assert await letters(attacked, tenant) == 0
    told = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    say(f"{CASES[long_form]} bodies of seed {SEED} judged ({told}), {len(ids)} events taken and all stored")


@asynccontextmanager
async def connected(system: System) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(system.settings(WorkerSettings).postgres_worker_url.get_secret_value())
    try:
        yield connection
    finally:
        await connection.close()


async def stored(connection: asyncpg.Connection, taken: Sequence[tuple[Case, bytes]]) -> None:
    """Each in one transaction with all others, or by itself, to name the one that can't be."""
    try:
        await _store(connection, [value for _, value in taken])
    except Exception:  # whatever it is: the case is named, or it is raised on
        for drawn, value in taken:
            try:
                await _store(connection, [value])
            except Exception as error:
                raise AssertionError(f"taken, but not storable: {drawn}") from error
        raise


async def _store(connection: asyncpg.Connection, values: Sequence[bytes]) -> None:
    step = StoreStep("fuzz")
    records: list[Any] = [
        ConsumerRecord("fuzz", 0, offset, 0, 0, None, value, None, 0, len(value), ())
        for offset, value in enumerate(values)
    ]
    async with connection.transaction():
        await step.apply(connection, step.prepare(records))


async def letters(system: System, tenant: MadeTenant) -> int:
    """Dead letters of the tenant."""
    found = await system.fetch("select count(*) from dead_letters where tenant_id = $1", UUID(tenant.tenant_id))
    return int(found[0][0])


def _most_memory() -> int:
    """The most that this process has held so far, in bytes (getrusage(2): kilobytes, on macOS bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
