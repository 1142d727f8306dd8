"""Servers that a test may take away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from deploy.local.ports import Ports
from deploy.local.servers import LocalServers


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mortal(open_folder: Path) -> AsyncIterator[LocalServers]:
    """Servers of our own: the run's are not ours to stop."""
    own = LocalServers(open_folder / "mortal", ports=Ports.free(), report=print)
    await own.start()
    try:
        yield own
    finally:
        await own.discard()
