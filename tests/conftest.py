"""Servers and a running system, started once for the whole run, in a temporary home on free ports."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from deploy.local.ports import Ports
from deploy.local.servers import Endpoints, Given, LocalServers
from tests.system import System


def given_servers() -> Given:
    """Servers that a developer keeps running between runs; see CONTRIBUTING."""
    names = ("postgres_url", "redis_url", "kafka_bootstrap", "elasticsearch_url")
    return Given(**{name: os.environ.get(f"SLUICE_TEST_{name.upper()}") for name in names})


# `make faults` asks for many more examples.
hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None)
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may find the settings or the stack of whoever runs the suite."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLUICE_") and name != "SLUICE_CACHE"]:
            if not name.startswith("SLUICE_TEST_"):
                patch.delenv(name)
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # a make that a test starts is nobody's child
            patch.delenv(name, raising=False)
        patch.setenv("SLUICE_HOME", str(tmp_path_factory.mktemp("home") / "none"))
        yield


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that the servers' unprivileged user can reach, should the suite run as root; pytest's own is closed."""
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest_asyncio.fixture(scope="session")
async def _started(open_folder: Path) -> AsyncIterator[tuple[LocalServers, Endpoints]]:
    local = LocalServers(open_folder / "servers", ports=Ports.free(), given=given_servers(), report=print)
    try:
        yield local, await local.start()
    finally:
        await local.discard()


@pytest.fixture(scope="session")
def servers(_started: tuple[LocalServers, Endpoints]) -> LocalServers:
    """The four real servers. A test that stops one starts it again before it ends."""
    return _started[0]


@pytest.fixture(scope="session")
def endpoints(_started: tuple[LocalServers, Endpoints]) -> Endpoints:
    """Where the servers are."""
    return _started[1]


@pytest_asyncio.fixture(scope="session")
async def system(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """API, store and index worker as real processes, shared by all tests that only use their own tenants."""
    running = await System.create(endpoints, tmp_path_factory.mktemp("system"))
    try:
        await running.start("api", "store", "index")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return Path(__file__).parent.parent
