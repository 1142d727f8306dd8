"""An import from its first line to its last: reads ahead by as much as is in flight, and can be stopped at any point.

Owns concurrency and signals. What it holds in memory depends on batch size and requests in flight, not on the sources.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from app.imports.api import Api
from app.imports.batches import Bounds, batches
from app.imports.delivery import PATIENCE_SECONDS, Delivery
from app.imports.failures import DeliveryError, SourceError, StoppedError
from app.imports.tally import Tally
from app.imports.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from app.imports.lines import Line
    from app.imports.target import Target


class Source(Protocol):
    """A file or a git history. `position` says how much of `size` has been read, in a unit close to bytes."""

    name: str
    size: int
    position: int

    def lines(self, stopped: Callable[[], bool]) -> Iterator[Line]:
        """Its events in order. Raises SourceError; StoppedError if `stopped` says so while it prepares."""


@dataclass(slots=True)
class Outcome:
    """How an import ended, or how it stands. `done` of `size` says how far the sources are worked off.

    `failure` says why it ended early; `interrupted`, that it was asked to.
    """

    size: int
    tally: Tally = field(default_factory=Tally)
    done: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    failure: str | None = None


class Import:
    """One import, to be run once. `report` is called after each batch, in the event loop."""

    def __init__(
        self,
        sources: Sequence[Source],
        target: Target,
        *,
        batch: int,
        in_flight: int,
        report: Callable[[Outcome], None],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._sources = sources
        self._target = target
        self._bounds = Bounds(batch)
        self._in_flight = in_flight
        self._report = report
        self._patience = patience
        self._outcome = Outcome(sum(source.size for source in sources))
        self._stop = asyncio.Event()
        self._places = asyncio.Semaphore(in_flight)
        self._started = time.monotonic()
        self._signalled = False
        self._left = False

    async def run(self) -> Outcome:
        """Send everything, or as much as can be.

        The first SIGINT or SIGTERM lets the requests under way finish; a second one does not wait for them.
        """
        async with Api(self._target) as api:
            window = Window(self._in_flight, self._stop)
            delivery = Delivery(api, window, self._bounds, self._outcome.tally, patience=self._patience)
            work = asyncio.create_task(self._feed(delivery))
            with self._stopped_by_signals(work):
                await asyncio.wait((work,))
        if work.cancelled():
            self._left = True
        else:
            work.result()
        self._outcome.interrupted = self._signalled and self._left
        self._outcome.seconds = time.monotonic() - self._started
        return self._outcome

    async def _feed(self, delivery: Delivery) -> None:
        reading = batches(self._lines(), self._bounds)
        try:
            async with asyncio.TaskGroup() as group:
                while await self._places.acquire():
                    if self._stop.is_set():
                        self._left = True
                        break
                    batch = await self._next(reading)
                    if batch is None:
                        break
                    self._outcome.tally.read += len(batch)
                    group.create_task(self._send(delivery, batch, sum(source.position for source in self._sources)))
        finally:
            # A cancelled import may leave the thread in the middle of a read; then the collector closes.
            with contextlib.suppress(ValueError):
                reading.close()

    async def _next(self, reading: Generator[list[Line]]) -> list[Line] | None:
        """Reading, decompressing and hashing block, so they have a thread, one at a time."""
        try:
            return await asyncio.to_thread(next, reading, None)
        except SourceError as error:
            self._outcome.failure = str(error)
        except StoppedError:
            self._left = True
        return None

    def _lines(self) -> Iterator[Line]:
        for source in self._sources:
            yield from source.lines(self._stop.is_set)

    async def _send(self, delivery: Delivery, batch: list[Line], position: int) -> None:
        try:
            await delivery.deliver(batch)
        except StoppedError:
            self._left = True
        except DeliveryError as error:
            self._outcome.failure = str(error)
            self._stop.set()
        else:
            self._outcome.done = max(self._outcome.done, position)
        finally:
            self._places.release()
            self._outcome.seconds = time.monotonic() - self._started
            self._report(self._outcome)

    @contextlib.contextmanager
    def _stopped_by_signals(self, work: asyncio.Task[None]) -> Iterator[None]:
        def stop() -> None:
            if self._signalled:
                work.cancel()
            self._signalled = True
            self._stop.set()

        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
