"""The `replay` worker: sends stored events again, piece by piece, taking turns between the replays of all tenants.

A piece is read under row security of its one tenant, sent, and then written down; so after a crash a piece may be sent
twice, and none is left out. Never writes `events.raw`, nor anything that counts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy import text

from app.database import create_engine
from app.metrics import REPLAYED, WORKER_RETRIES
from app.recovery.selection import PAGE_BYTES, PAGE_EVENTS, page
from app.settings import parsed_networks
from app.webhooks.delivery import Deliveries
from search.client import make_client
from workers.duties import TRANSIENT
from workers.loop import backoff
from workers.replay_claims import Claim, Piece, claim, failed, held, hindered, moved
from workers.replay_targets import FailedError, HinderedError, to_index, to_topic, to_webhook
from workers.sender import Sender
from workers.sessions import one_tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.recovery.replays import Replay
    from app.recovery.selection import Page
    from app.settings import ReplaySettings

log = structlog.get_logger()

LANES: tuple[tuple[str, ...], ...] = (("index", "kafka"), ("webhook",), ("webhook",), ("webhook",), ("webhook",))
"""Pieces under way at once in a process. Webhooks may be slow, so they have lanes of their own; what goes to servers of
ours has only one, for the sake of live traffic.
"""

PAUSE_SECONDS = 0.5
GRACE_SECONDS, CLOSE_SECONDS = 4.0, 2.0
"""In which pieces that are under way may be finished when the worker stops, and the producer."""

WEBHOOK_EVENTS = 100
WEBHOOK_BYTES = 256 * 1024
LONGEST_WAIT_SECONDS = 300.0
LONGEST_PACE_SECONDS = 24 * 3600.0

# The store worker holds the row likewise. So the cut of an erasure or deletion waits for the piece, or the piece knows
# of it; and what retention is about to remove is left out. Nothing comes back into the index that is just leaving it.
_HOLD = text("""
    select t.status, now() - make_interval(days => p.retention_days) + interval '1 hour' as since
    from tenants t join plans p using (plan_id) where t.tenant_id = :tenant_id for key share of t
""")
_BEING_ERASED = text("select user_id from erasures where tenant_id = :tenant_id and finished_at is null")
_SHARDS = text("select shards from tenants where tenant_id = :tenant_id")


class Replays:
    """What one process sends replays with. `turn` does one piece."""

    def __init__(self, settings: ReplaySettings, *, deliveries: Deliveries | None = None) -> None:
        self._settings = settings
        self._key_encryption_key = base64.b64decode(settings.key_encryption_key.get_secret_value())
        self._jobs = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=3)
        self._events = create_engine(settings.postgres_worker_url.get_secret_value(), pool_size=3)
        self._search = make_client(settings.elasticsearch_url.get_secret_value(), connections=2)
        self._sender = Sender(settings.kafka_bootstrap)
        self._deliveries = deliveries or Deliveries(parsed_networks(settings.webhook_networks))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self._sender.close(), CLOSE_SECONDS)
        await self._search.close()
        await self._deliveries.close()
        await self._events.dispose()
        await self._jobs.dispose()

    async def turn(self, targets: Sequence[str]) -> bool:
        """One piece of the replay to any of `targets` that has waited longest; False: none is due.

        Raises:
            TRANSIENT: PostgreSQL does not answer.
        """
        claimed = await claim(self._jobs, targets)
        if claimed is None:
            return False
        replay = claimed.replay
        async with held(self._jobs, claimed):
            try:
                sent = await self._send(claimed)
            except HinderedError as error:
                wait = max(error.wait_seconds, patience(replay.attempts))
                WORKER_RETRIES.labels("replay", replay.order.target).inc()
                await hindered(self._jobs, claimed, str(error), wait)
            except FailedError as error:
                await failed(self._jobs, claimed, str(error))
            except Exception as error:  # noqa: BLE001  whatever is wrong with one replay, the others go on
                log.warning(
                    "a piece of a replay is tried again", replay_id=str(replay.replay_id), error=type(error).__name__,
                    detail=str(error)[:200], attempt=replay.attempts + 1,
                )  # fmt: skip
                WORKER_RETRIES.labels("replay", type(error).__name__).inc()
                away = isinstance(error, TRANSIENT)
                problem = "The database does not answer." if away else "Something went wrong here; it is tried again."
                await hindered(self._jobs, claimed, problem, patience(replay.attempts))
            else:
                pace = replay.order.events_per_second
                done = sent.sent + sent.refused
                await moved(
                    self._jobs,
                    claimed,
                    sent,
                    wait_seconds=min(done / pace, LONGEST_PACE_SECONDS) if pace and not sent.last else 0.0,
                )
                REPLAYED.labels(replay.order.target).inc(sent.sent)
        return True

    async def _send(self, claimed: Claim) -> Piece:
        """The next piece, sent."""
        replay = claimed.replay
        if replay.order.target == "index":
            return await self._send_to_index(replay)
        bounds = (WEBHOOK_EVENTS, WEBHOOK_BYTES) if replay.order.target == "webhook" else (PAGE_EVENTS, PAGE_BYTES)
        async with one_tenant(self._events, replay.tenant_id) as connection:
            found = await page(
                connection, replay.order.selection, replay.after, limit=_limit(replay, bounds[0]), most_bytes=bounds[1]
            )
            shards = await connection.scalar(_SHARDS, {"tenant_id": replay.tenant_id})
        if not found.rows:
            return _piece(found)
        if replay.order.target == "webhook":
            await to_webhook(self._deliveries, self._key_encryption_key, claimed, found.rows)
            return _piece(found)
        return _piece(found, await to_topic(self._sender, self._settings.replay_topic, replay, shards, found.rows))

    async def _send_to_index(self, replay: Replay) -> Piece:
        tenant = {"tenant_id": replay.tenant_id}
        async with one_tenant(self._events, replay.tenant_id) as connection:
            kept = (await connection.execute(_HOLD, tenant)).one()
            if kept.status != "active":
                raise HinderedError("The tenant is not active.")
            users = [user for user in (await connection.scalars(_BEING_ERASED, tenant)).all() if user is not None]
            found = await page(
                connection, replay.order.selection, replay.after, limit=_limit(replay, PAGE_EVENTS),
                received_since=kept.since, without_users=users,
            )  # fmt: skip
            return _piece(found, *await to_index(self._search, self._settings.index_prefix, found.rows))


async def replay(settings: ReplaySettings, stopping: asyncio.Event) -> None:
    """Send replays until `stopping` is set; any number of processes may. A server that is away is waited for."""
    async with Replays(settings) as replays:
        lanes = [asyncio.create_task(_keep(replays, targets, stopping)) for targets in LANES]
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((waiting, *lanes), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(lanes, timeout=GRACE_SECONDS if stopping.is_set() else 0)
        finally:
            for task in (waiting, *lanes):
                task.cancel()
            ended = await asyncio.gather(*lanes, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error


async def _keep(replays: Replays, targets: Sequence[str], stopping: asyncio.Event) -> None:
    attempt = 0
    while not stopping.is_set():
        try:
            pause = 0.0 if await replays.turn(targets) else PAUSE_SECONDS
            attempt = 0
        except TRANSIENT as error:
            attempt += 1
            pause = backoff(attempt)
            WORKER_RETRIES.labels("replay", type(error).__name__).inc()
            log.warning(
                "trying again", worker="replay", error=type(error).__name__, detail=str(error)[:200], attempt=attempt,
                seconds=round(pause, 2),
            )  # fmt: skip
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)


def patience(attempts: int) -> float:
    """Seconds to wait after so many attempts in vain before this one: doubling from 1 to 300, half of it random."""
    ceiling = min(LONGEST_WAIT_SECONDS, 2.0 ** min(attempts, 10))
    return ceiling / 2 + random.uniform(0, ceiling / 2)  # noqa: S311  spreading load, not a secret


def _limit(replay: Replay, most: int) -> int:
    """Events a piece: with a pace about a second's worth, so that there is neither a burst nor a long wait after it."""
    pace = replay.order.events_per_second
    return most if pace is None else max(1, min(most, int(pace)))


def _piece(found: Page, refused: int = 0, problem: str | None = None) -> Piece:
    return Piece(len(found.rows) - refused, refused, found.end, found.last, problem)
