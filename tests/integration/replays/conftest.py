"""Replays over the running system: jobs over its API, pieces sent inside the test, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from app.settings import ReplaySettings
from tests.integration.replays.pieces import Pieces
from tests.integration.replays.receiver import Receiver, receiving
from tests.system import MadeTenant, System
from workers.replay import Replays


@pytest_asyncio.fixture
async def tenant(system: System) -> MadeTenant:
    return await system.tenant()


@pytest_asyncio.fixture
async def http(system: System, tenant: MadeTenant) -> AsyncIterator[httpx.AsyncClient]:
    async with system.client(tenant) as client:
        yield client


@pytest_asyncio.fixture
async def pieces(system: System) -> AsyncIterator[Pieces]:
    # What another test, of whichever file, left running would have its turn in this one.
    await system.fetch("update replays set state = 'cancelled', finished_at = now() where state = 'running'")
    async with Replays(system.settings(ReplaySettings)) as replays:
        yield Pieces(system, replays)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started
