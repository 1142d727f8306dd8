"""How many requests start: the laws that the API's limits rely on."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.imports.failures import StoppedError
from app.imports.window import Window


async def under_way(window: Window, wanted: int) -> int:
    """How many of `wanted` requests are let in at once."""
    inside = 0
    leave = asyncio.Event()

    async def request() -> None:
        nonlocal inside
        async with window.place():
            inside += 1
            await leave.wait()

    tasks = [asyncio.create_task(request()) for _ in range(wanted)]
    for _ in range(10):
        await asyncio.sleep(0)
    seen = inside
    leave.set()
    await asyncio.gather(*tasks)
    assert inside == wanted
    return seen


async def test_at_most_as_many_as_said_are_under_way_and_all_get_their_turn() -> None:
    assert await under_way(Window(3, asyncio.Event()), 10) == 3


async def test_the_limit_halves_down_to_one_and_grows_back() -> None:
    window = Window(8, asyncio.Event())
    window.pause(0)
    assert await under_way(window, 8) == 4
    for _ in range(5):
        window.pause(0)
    assert await under_way(window, 8) == 1
    for _ in range(100):
        window.grow()
    assert await under_way(window, 20) == 8


async def test_nothing_starts_before_the_pause_is_over() -> None:
    window = Window(8, asyncio.Event())
    window.pause(0.2)
    window.pause(0.01)
    started = time.monotonic()
    async with window.place():
        assert time.monotonic() - started >= 0.2


async def test_who_waits_is_told_at_once_that_it_is_over() -> None:
    stop = asyncio.Event()
    window = Window(1, stop)
    window.pause(3600)

    async def request() -> None:
        async with window.place():
            raise AssertionError

    tasks = [asyncio.create_task(request()), asyncio.create_task(window.sleep(3600))]
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(5):
        for task in tasks:
            with pytest.raises(StoppedError):
                await task
