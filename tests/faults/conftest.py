"""Servers that a test may take away, and a system on them with short time limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from deploy.local.ports import Ports
from deploy.local.servers import LocalServers
from tests.system import System


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mortal(open_folder: Path) -> AsyncIterator[LocalServers]:
    """Servers of our own: the run's are not ours to stop."""
    own = LocalServers(open_folder / "mortal", ports=Ports.free(), report=print)
    await own.start()
    try:
        yield own
    finally:
        await own.discard()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fragile(mortal: LocalServers, tmp_path_factory: object) -> AsyncIterator[System]:
    """A running system that gives up on Kafka after one second."""
    folder: Path = tmp_path_factory.mktemp("fragile")  # type: ignore[attr-defined]
    running = await System.create(mortal.endpoints, folder, PRODUCE_TIMEOUT_SECONDS="1")
    try:
        await running.start("api", "store", "index")
        yield running
    finally:
        running.stop()
