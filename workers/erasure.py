"""Removing a user's events everywhere, piece by piece, after the erasure was asked for (`app.recovery.erasures`).

`erasures.step` says what comes next. Each piece is one short transaction that holds that row and moves the receipt with
what it removed, so a worker that is killed loses nothing, and two do not meet. What was received after the cut stays.
The last step looks everywhere again and begins anew if anything is left. Refuses to own when to run.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from app.metrics import ERASURES_OPEN, MAINTAIN_REMOVED
from search import execute
from search.scope import scoped
from workers.connections import Role
from workers.erasure_receipt import Job, add_removed, finish, hold, move, note, open_jobs
from workers.letter_removal import any_letters_of_user, remove_letters_of_user
from workers.offsets import positions
from workers.receipts import WaitingError, a_piece_of_each
from workers.redis_keys import caches_of
from workers.removal import OfUser, hold_tenant, remove_of_user
from workers.search_rebuilds import active
from workers.tenant_deletion import CACHE, SEARCH
from workers.topic import longest_kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import asyncpg
    from elasticsearch import AsyncElasticsearch
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import MaintainSettings
    from search.scope import Scoped
    from workers.connections import Connections

log = structlog.get_logger()

BATCH = 5000
_BEGINNING = datetime.min.replace(tzinfo=UTC)

_ANY_EVENTS = "select exists (select from events where tenant_id = $1 and user_id = $2 and received_at <= $3)"


@dataclass
class _Progress:
    """What this process remembers of an erasure, and another would find out again: how far the store was after it was
    asked for, and the timestamp up to which the user's events are removed.
    """

    cut: dict[int, int]
    since: datetime = _BEGINNING


@dataclass(frozen=True)
class _Held:
    """A transaction that holds the receipt, and whom it is about."""

    connection: asyncpg.Connection
    user_id: str


class Erasures:
    """All open erasures, as one worker sees them. `engine` logs in as sluice_auth."""

    def __init__(
        self,
        settings: MaintainSettings,
        connections: Connections,
        engine: AsyncEngine,
        search: AsyncElasticsearch,
        redis: Redis,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._engine = engine
        self._search = search
        self._redis = redis
        self._progress: dict[UUID, _Progress] = {}
        self._steps = {
            "requested": self._begin,
            "rows": self._remove_rows,
            "letters": self._remove_letters,
            "index": self._remove_documents,
            "cache": self._remove_keys,
            "verify": self._verify,
        }

    async def turn(self) -> bool:
        """One piece of each open erasure; True if one can go on at once.

        Raises:
            TRANSIENT: PostgreSQL does not answer. What else is away is noted in the receipt.
        """
        jobs = await open_jobs(await self._connections.of(Role.AUTH))
        ERASURES_OPEN.set(len(jobs))
        return await a_piece_of_each(jobs, self._advance, failed=self._failed, note=self._note)

    def _failed(self, job: Job) -> None:
        self._connections.drop()
        self._progress.pop(job.erasure_id, None)

    async def _note(self, job: Job, problem: str | None) -> None:
        log.info("erasure of a user", erasure_id=str(job.erasure_id), step=job.step, problem=problem)
        await note(await self._connections.of(Role.AUTH), job, problem)

    async def _advance(self, job: Job) -> bool:
        if job.erasure_id not in self._progress:
            self._progress[job.erasure_id] = _Progress(await self._positions("store"))
        return await self._steps[job.step](job)

    @asynccontextmanager
    async def _holding(self, job: Job) -> AsyncIterator[_Held | None]:
        """A transaction that sees the tenant and holds the receipt; None if another process is at it."""
        async with self._connections.bound(Role.WORKER, job.tenant_id) as connection:
            user_id = await hold(connection, job)
            yield None if user_id is None else _Held(connection, user_id)

    async def _begin(self, job: Job) -> bool:
        async with self._holding(job) as held:
            if held is not None:
                await move(held.connection, job, "rows")
        return True

    async def _remove_rows(self, job: Job) -> bool:
        progress = self._progress[job.erasure_id]
        async with self._holding(job) as held:
            if held is None:
                return False
            await hold_tenant(held.connection, job.tenant_id)
            chosen = OfUser(held.user_id, job.cut_at, progress.since)
            removed = await remove_of_user(held.connection, job.tenant_id, chosen, BATCH)
            await add_removed(held.connection, job, "events", removed.events)
            if removed.events < BATCH:
                await move(held.connection, job, "letters")
        MAINTAIN_REMOVED.labels("erasure", "events").inc(removed.events)
        progress.since = removed.last or progress.since
        return True

    async def _remove_letters(self, job: Job) -> bool:
        async with self._holding(job) as held:
            if held is None:
                return False
            count = await remove_letters_of_user(held.connection, job.tenant_id, held.user_id, job.cut_at)
            await add_removed(held.connection, job, "dead_letters", count)
            await move(held.connection, job, "index")
        MAINTAIN_REMOVED.labels("erasure", "dead_letters").inc(count)
        return True

    async def _remove_documents(self, job: Job) -> bool:
        """Not before the index worker has passed the cut: until then it may still write what it read before."""
        reached = await self._positions("index")
        cut = self._progress[job.erasure_id].cut
        if any(reached.get(partition, 0) < offset for partition, offset in cut.items()):
            raise WaitingError("The index worker has yet to pass what was stored before the erasure.")
        async with self._holding(job) as held:
            if held is None:
                return False
            if await active(held.connection):
                raise WaitingError("The search index is being rebuilt; its documents are removed after that.")
            scope = _documents(job, held.user_id)
            count = await execute.delete(self._search, self._settings.index_prefix, scope, most=BATCH)
            await add_removed(held.connection, job, SEARCH, count)
            if count == 0 and await self._found(scope) == 0:
                await move(held.connection, job, "cache")
        MAINTAIN_REMOVED.labels("erasure", SEARCH).inc(count)
        return True

    async def _remove_keys(self, job: Job) -> bool:
        async with self._holding(job) as held:
            if held is None:
                return False
            count = 0
            async for key in caches_of(self._redis, self._settings.redis_prefix, job.tenant_id):
                count += await self._redis.unlink(key)
            await add_removed(held.connection, job, CACHE, count)
            await move(held.connection, job, "verify")
        MAINTAIN_REMOVED.labels("erasure", CACHE).inc(count)
        return True

    async def _verify(self, job: Job) -> bool:
        left = []
        async with self._holding(job) as held:
            if held is None:
                return False
            if await held.connection.fetchval(_ANY_EVENTS, job.tenant_id, held.user_id, job.cut_at):
                left.append("events")
            if await any_letters_of_user(held.connection, job.tenant_id, held.user_id, job.cut_at):
                left.append("dead_letters")
            if await self._found(_documents(job, held.user_id)):
                left.append(SEARCH)
            if left:
                await move(held.connection, job, "rows")
        if left:
            del self._progress[job.erasure_id]
            raise WaitingError(f"Something was left in {', '.join(left)}; it is removed again.")
        if await finish(self._engine, job, await self._kept()):
            del self._progress[job.erasure_id]
            log.info("user erased", tenant_id=str(job.tenant_id), erasure_id=str(job.erasure_id))
        return False

    async def _kept(self) -> timedelta | None:
        """How long Kafka holds the user's records and their copies; None: for ever."""
        settings = self._settings
        topics = (settings.raw_topic, settings.dead_letter_topic, settings.replay_topic)
        kept = [await longest_kept(settings.kafka_bootstrap, topic) for topic in topics]
        known = [each for each in kept if each is not None]
        return max(known) if len(known) == len(kept) else None

    async def _positions(self, worker: str) -> dict[int, int]:
        connection = await self._connections.of(Role.WORKER)
        return await positions(connection, self._settings.group(worker), self._settings.raw_topic)

    async def _found(self, scope: Scoped) -> int:
        await execute.refresh(self._search, self._settings.index_prefix)
        return (await execute.search(self._search, self._settings.index_prefix, scope)).hits.total.value


def _documents(job: Job, user_id: str) -> Scoped:
    """The user's documents of before the cut."""
    received = {"range": {"received_at": {"lte": job.cut_at.isoformat()}}}
    return scoped(job.tenant_id, filters=[{"term": {"user_id": user_id}}, received])
