"""An import that is cut short, by its user or by the API's death, loses nothing and counts nothing twice."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest

from app.imports.files import FileSource
from app.imports.run import Import, Outcome
from app.imports.target import Target
from deploy.local.servers import Endpoints
from tests.integration.imports.command import Importer, finished, written
from tests.system import MadeTenant, System, until

EVENTS = 20_000


@pytest.fixture(scope="module")
async def _killable(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    running = await System.create(endpoints, tmp_path_factory.mktemp("killable"), TOKEN_LIFETIME_SECONDS="10")
    try:
        await running.start("store")
        yield running
    finally:
        running.stop()


@pytest.fixture
async def own_system(_killable: System) -> System:
    """A running system whose API a test may kill, with tokens that end soon."""
    if "api" not in _killable.processes:
        await _killable.start("api")
    return _killable


async def _some_but_not_all(system: System, tenant: MadeTenant) -> None:
    await until(lambda: system.counted(tenant), lambda count: count > 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_import_says_how_far_it_came_and_is_completed_by_running_it_again(
    system: System, tmp_path: Path, number: signal.Signals
) -> None:
    # Slow enough to be caught in the middle: the first 2,000 at once, the others at 2,000 a second.
    tenant = await system.tenant(rate=2_000, burst=2_000)
    importer = Importer(system, tenant)
    path = written(tmp_path / "a", 12_000)
    process = importer.start(path)
    await _some_but_not_all(system, tenant)
    process.send_signal(number)
    asked = time.monotonic()
    done = await asyncio.to_thread(finished, process)
    assert time.monotonic() - asked < 10
    assert done.status == 1
    assert done.err.startswith("Interrupted: ")
    assert "nothing counts twice" in done.err
    accepted = int(done.err.split()[1].replace(",", ""))
    assert 0 < accepted < 12_000
    # What it says it has sent is there, no more and no less: requests under way were waited for.
    await until(lambda: system.counted(tenant), lambda count: count == accepted)

    assert (await asyncio.to_thread(importer.run, path)).status == 0
    await until(lambda: system.counted(tenant), lambda count: count == 12_000)


async def test_the_import_goes_on_by_itself_after_the_api_is_killed_and_started_again(
    own_system: System, tmp_path: Path
) -> None:
    tenant = await own_system.tenant(rate=4_000, burst=4_000)
    process = Importer(own_system, tenant).start(written(tmp_path / "a", EVENTS), "--json")
    await _some_but_not_all(own_system, tenant)
    own_system.kill("api")
    await own_system.start("api")
    done = await asyncio.to_thread(finished, process)
    assert done.status == 0, done.err
    assert (done.result["accepted"], done.result["rejected"]) == (EVENTS, 0)
    await until(lambda: own_system.counted(tenant), lambda count: count == EVENTS)


async def test_an_import_outlives_its_token(own_system: System, tmp_path: Path) -> None:
    tenant = await own_system.tenant(rate=100, burst=100)
    claims = jwt.decode(await own_system.token(tenant), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 10
    done = await asyncio.to_thread(Importer(own_system, tenant).run, written(tmp_path / "a", 1_300), "--json")
    assert (done.status, done.result["accepted"]) == (0, 1_300)
    assert done.result["seconds"] > 10


async def test_an_api_that_stays_away_is_given_up_with_one_line_that_says_how_to_go_on(
    own_system: System, tmp_path: Path
) -> None:
    tenant = await own_system.tenant(rate=2_000, burst=2_000)
    target = Target(own_system.url, tenant.client_id, tenant.client_secret)
    source = FileSource.open(written(tmp_path / "a", 8_000))
    killed = False

    def report(outcome: Outcome) -> None:
        nonlocal killed
        if outcome.tally.accepted and not killed:
            killed = True
            own_system.kill("api")

    outcome = await Import([source], target, batch=500, in_flight=4, report=report, patience=2).run()
    assert not outcome.interrupted
    assert outcome.failure is not None
    assert outcome.failure.startswith(f"{own_system.url} has given no usable answer for 2 s (")
    assert 0 < outcome.tally.accepted < 8_000


async def test_an_api_that_is_not_there_is_given_up_early(own_system: System, tmp_path: Path) -> None:
    tenant = await own_system.tenant()
    own_system.kill("api")
    done = await asyncio.to_thread(Importer(own_system, tenant).run, written(tmp_path / "a", 10))
    assert done.status == 1
    assert "gives no usable answer for 10 s (" in done.err
    assert len(done.err.splitlines()) == 1
