"""Servers and a running system, started once for the whole run, in a temporary home on free ports."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from deploy.local.servers import Endpoints
from tests import parallel
from tests.system import System

SAID = "said"

hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None)
hypothesis.settings.register_profile("suite", deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long forms, as `make faults` runs them")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "suite")
    if not hasattr(config, "workerinput"):
        parallel.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        parallel.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with parallel.taking_turns(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests had to say, whichever process they ran in: see `say`."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    said = [(report.nodeid, text) for report in reports for name, text in report.user_properties if name == SAID]
    if said:
        terminalreporter.section("what tests say")
    for nodeid, text in sorted(said):
        terminalreporter.line(f"{nodeid.partition('::')[0]}: {text}")


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Shows a text at the end of the run: a figure that was found, or which of two forms ran."""
    return lambda text: record_property(SAID, text)


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


@pytest.fixture(scope="session")
def endpoints() -> Endpoints:
    """Where the four real servers are that all tests share. None may take one away: see `mortal`."""
    return parallel.shared_endpoints()


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
def long_form(pytestconfig: pytest.Config) -> bool:
    """Whether to take minutes and show all (`make faults`), or seconds and show the essence (`make test`)."""
    return bool(pytestconfig.getoption("--long"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return Path(__file__).parent.parent
