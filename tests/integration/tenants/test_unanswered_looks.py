"""Looks at a PostgreSQL that does not answer, or from a process that was itself not running."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from app.database import create_engine
from tenants.directory import ANSWER_TIMEOUT_SECONDS, OUTAGE_SECONDS, STALE_SECONDS, WAIT_SECONDS, Directory
from tenants.lifecycle import create_tenant
from tests.integration.reads.proxy import Relay
from tests.integration.tenants.test_directory import polling, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.conftest import Database


@pytest.fixture
async def relay(empty: Database) -> AsyncIterator[Relay]:
    """The network between the directory and PostgreSQL."""
    made = Relay(empty.auth_url)
    await made.mend()
    yield made
    await made.cut()


@pytest.fixture
async def engine(relay: Relay) -> AsyncIterator[AsyncEngine]:
    made = create_engine(relay.url, pool_size=2)
    yield made
    await relay.mend()
    await made.dispose()


async def grow_stale(directory: Directory) -> None:
    await until(directory.is_stale, STALE_SECONDS + 1)


async def took(directory: Directory) -> float:
    """Seconds that a request waits before it is judged."""
    began = time.monotonic()
    if directory.is_stale():
        await directory.catch_up()
    return time.monotonic() - began


async def test_nobody_waits_as_long_as_somebody_looked_within_a_second(engine: AsyncEngine, relay: Relay) -> None:
    directory = await Directory.load(engine)
    relay.freeze()
    assert await took(directory) < 0.1


async def test_a_server_that_accepts_and_never_answers_is_waited_for_a_second_and_then_not_again(
    engine: AsyncEngine, relay: Relay, empty: Database
) -> None:
    created = await create_tenant(engine, empty.settings(), "acme", "free")
    directory = await Directory.load(engine)
    await grow_stale(directory)
    relay.freeze()
    waited = await asyncio.gather(*(took(directory) for _ in range(20)))
    assert ANSWER_TIMEOUT_SECONDS - 0.1 < max(waited) < WAIT_SECONDS + 0.2
    assert await took(directory) < 0.1
    assert directory.access(created.client_id) is not None


async def test_in_an_outage_that_lasts_requests_do_not_wait_and_after_it_the_first_look_knows_all(
    engine: AsyncEngine, relay: Relay, empty: Database
) -> None:
    created = await create_tenant(engine, empty.settings(), "acme", "free")
    directory = await Directory.load(engine)
    owner = await asyncpg.connect(empty.admin_url)
    async with polling(directory):
        relay.freeze()
        await until(lambda: time.monotonic() < directory._excused_until, 4)
        end = time.monotonic() + 2 * OUTAGE_SECONDS
        longest = 0.0
        while time.monotonic() < end:
            longest = max(longest, await took(directory))
            await asyncio.sleep(0.02)
        assert longest < 0.1
        assert directory.access(created.client_id) is not None
        await owner.execute("update tenants set status = 'suspended'")
        await relay.mend()
        await until(lambda: directory.access(created.client_id) is None, 3)
    await owner.close()


async def test_a_server_that_refuses_is_known_to_be_away_at_once(engine: AsyncEngine, relay: Relay) -> None:
    directory = await Directory.load(engine)
    await grow_stale(directory)
    await relay.cut()
    assert await took(directory) < 0.5
    assert await took(directory) < 0.1


async def test_a_process_that_stood_still_during_a_look_does_not_take_that_for_an_outage(
    engine: AsyncEngine, relay: Relay, empty: Database
) -> None:
    created = await create_tenant(engine, empty.settings(), "acme", "free")
    directory = await Directory.load(engine)
    owner = await asyncpg.connect(empty.admin_url)
    relay.freeze()
    look = asyncio.create_task(directory.refresh())
    await owner.execute("update tenants set status = 'suspended'")
    await owner.close()
    await relay.mend()
    time.sleep(STALE_SECONDS + 0.2)  # noqa: ASYNC251  nothing of this process runs meanwhile, as when it is frozen
    assert directory.is_stale()
    assert not look.done()
    await directory.catch_up()
    assert directory.access(created.client_id) is None
    await look


async def test_a_request_whose_process_stands_still_while_it_waits_for_a_look_hears_the_answer(
    engine: AsyncEngine, relay: Relay, empty: Database
) -> None:
    created = await create_tenant(engine, empty.settings(), "acme", "free")
    directory = await Directory.load(engine)
    owner = await asyncpg.connect(empty.admin_url)
    await grow_stale(directory)
    relay.freeze()
    waiting = asyncio.create_task(directory.catch_up())
    await owner.execute("update tenants set status = 'suspended'")
    await owner.close()
    await relay.mend()
    assert not waiting.done()
    time.sleep(WAIT_SECONDS + 0.2)  # noqa: ASYNC251  as when it is frozen once more
    await waiting
    assert directory.access(created.client_id) is None


async def test_an_answered_look_ends_the_excuse_that_a_failed_one_gave(engine: AsyncEngine, relay: Relay) -> None:
    directory = await Directory.load(engine)
    await relay.cut()
    with pytest.raises((OSError, SQLAlchemyError)):
        await directory.refresh()
    assert time.monotonic() < directory._excused_until
    await relay.mend()
    await directory.refresh()
    await until(lambda: time.monotonic() - directory.last_refreshed > STALE_SECONDS, STALE_SECONDS + 1)
    assert directory.is_stale()


async def test_who_gives_up_waiting_leaves_the_look_to_the_others(engine: AsyncEngine, relay: Relay) -> None:
    directory = await Directory.load(engine)
    relay.freeze()
    first, second = (asyncio.create_task(directory.refresh()) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    await relay.mend()
    await asyncio.wait_for(second, 1)
    assert first.cancelled()
