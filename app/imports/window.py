"""How many requests may be under way at once, and when the next may start, as the API's answers suggest.

Additive increase, multiplicative decrease (Chiu and Jain, 1989): a tenant with a small limit ends up with one request
at a time, for which the API's Retry-After is exact; one without is kept busy.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.imports.failures import StoppedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Window:
    """Shared by all requests of an import. Once `stop` is set nothing starts any more."""

    def __init__(self, most: int, stop: asyncio.Event) -> None:
        self._most = most
        self._limit = float(most)
        self._active = 0
        self._resume_at = 0.0
        self._stop = stop
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place among the requests under way and hold it.

        Raises:
            StoppedError: the import is stopped.
        """
        await self._enter()
        try:
            yield
        finally:
            async with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def grow(self) -> None:
        """A request was served."""
        self._limit = min(float(self._most), self._limit + 1 / self._limit)

    def pause(self, seconds: float) -> None:
        """The tenant's limit is reached: fewer at once, and none for so long."""
        self._limit = max(1.0, self._limit / 2)
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait without holding a place.

        Raises:
            StoppedError: the import is stopped, as soon as it is.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
        raise StoppedError

    async def _enter(self) -> None:
        while True:
            if self._stop.is_set():
                raise StoppedError
            wait = self._resume_at - time.monotonic()
            if wait > 0:
                await self.sleep(wait)
                continue
            async with self._changed:
                if self._active < int(self._limit):
                    self._active += 1
                    return
                await self._changed.wait()
