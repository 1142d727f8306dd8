"""A duty of the `maintain` worker: a piece of work that is done again and again, for as long as the process runs.

Owns when a duty has its turn and what a fault means for it: a pause, for it alone. Knows none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.metrics import WORKER_RETRIES
from search.client import IndexUnavailable
from search.execute import SearchRefused
from workers import loop
from workers.topic import TopicError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workers.connections import Connections

log = structlog.get_logger()

TRANSIENT = (*loop.TRANSIENT, SQLAlchemyError, RedisError, TopicError, IndexUnavailable, SearchRefused)
"""A server is away or says no; what a duty does in its turn may be done again."""


@dataclass(frozen=True)
class Duty:
    """`turn` does one piece and returns whether more can be done at once; else it is called after `pause_seconds`.

    `connections` are its own: after a fault nothing is known of their state, and they are dropped.
    """

    name: str
    turn: Callable[[], Awaitable[bool]]
    connections: Connections
    pause_seconds: float = 1.0


async def keep(duty: Duty, stopping: asyncio.Event) -> None:
    """Do the duty until `stopping` is set; a turn that has begun is finished. A server that is away is waited for."""
    attempt = 0
    try:
        while not stopping.is_set():
            try:
                pause = 0.0 if await duty.turn() else duty.pause_seconds
                attempt = 0
            except TRANSIENT as error:
                duty.connections.drop()
                attempt += 1
                pause = loop.backoff(attempt)
                WORKER_RETRIES.labels("maintain", type(error).__name__).inc()
                log.warning(
                    "trying again", worker="maintain", duty=duty.name, error=type(error).__name__,
                    detail=str(error)[:200], attempt=attempt, seconds=round(pause, 2),
                )  # fmt: skip
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)
    finally:
        await duty.connections.close()
