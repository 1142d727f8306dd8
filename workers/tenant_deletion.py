"""Removing a tenant everywhere, piece by piece, after its deletion was asked for (`tenants.deletion`).

`tenant_deletions.step` says what comes next. Each piece is one short transaction that holds that row and moves the
receipt with what it removed, so a worker that is killed loses nothing, and two do not meet. The last step looks
everywhere again and begins anew if anything is left. Refuses to own when to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from app.metrics import DELETIONS_OPEN, MAINTAIN_REMOVED
from search import execute
from search.scope import scoped
from search.verify import tenant_total
from workers.connections import Connections, Role
from workers.deletion_receipt import Job, add_removed, finish, lately_finished, move, note, open_jobs
from workers.offsets import positions
from workers.receipts import WaitingError, a_piece_of_each
from workers.redis_keys import keys_of
from workers.search_rebuilds import active
from workers.tables import Key, Table, delete_some, holds_rows, tenant_tables
from workers.topic import longest_kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from elasticsearch import AsyncElasticsearch
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import MaintainSettings

log = structlog.get_logger()

BATCH = 5000
SETTLE_SECONDS = 2.0
"""Every gateway learns of it within one second, and then starts nothing for the tenant any more."""

SEARCH = "search"
CACHE = "cache"


@dataclass
class _Progress:
    """What this process remembers of a deletion, and another would find out again: how far the store was after it was
    asked for, which tables are left, and the key in the first of them to go on behind.
    """

    cut: dict[int, int]
    left: list[tuple[Role, Table]] | None = None
    after: Key | None = None


class Deletions:
    """All open deletions, as one worker sees them. `engine` logs in as sluice_auth."""

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
            "index": self._remove_documents,
            "cache": self._remove_keys,
            "verify": self._verify,
        }

    async def turn(self) -> bool:
        """One piece of each open deletion; True if one can go on at once.

        Raises:
            TRANSIENT: PostgreSQL does not answer. What else is away is noted in the receipt.
        """
        jobs = await open_jobs(await self._connections.of(Role.AUTH))
        DELETIONS_OPEN.set(len(jobs))
        return await a_piece_of_each(jobs, self._advance, failed=self._failed, note=self._note)

    def _failed(self, job: Job) -> None:
        self._connections.drop()
        # From the first table again: a row that came late may refer to one that was next.
        self._progress.pop(job.tenant_id, None)

    async def _note(self, job: Job, problem: str | None) -> None:
        log.info("deletion of a tenant", tenant_id=str(job.tenant_id), step=job.step, problem=problem)
        await note(await self._connections.of(Role.AUTH), job.tenant_id, problem)

    async def sweep(self) -> bool:
        """Remove what a request that was already under way has written for a tenant after all, within a day. False:
        that was all.
        """
        for tenant_id in await lately_finished(await self._connections.of(Role.AUTH)):
            for role, table in await self._tables():
                if table.deletable:
                    async with self._connections.bound(role, tenant_id) as connection:
                        # Deleting nothing from a table of clients would still make every gateway read all of them.
                        if await holds_rows(connection, table, tenant_id):
                            await delete_some(connection, table, tenant_id, None, BATCH)
        return False

    async def _advance(self, job: Job) -> bool:
        if job.tenant_id not in self._progress:
            self._progress[job.tenant_id] = _Progress(await self._positions("store"))
        return await self._steps[job.step](job)

    async def _begin(self, job: Job) -> bool:
        if job.age < SETTLE_SECONDS:
            return False
        total = await self._documents(job.tenant_id)
        for role, table in await self._tables():
            # Aggregates count the events of 15 minutes each: the quick way to the number of a large tenant's.
            what, where = ("sum(count)", "aggregated_events") if table.name == "events" else ("count(*)", table.name)
            query = f'select coalesce({what}, 0)::bigint from "{where}" where tenant_id = $1'  # noqa: S608  from the catalog
            if table.deletable:
                async with self._connections.bound(role, job.tenant_id) as connection:
                    total += await connection.fetchval(query, job.tenant_id)
        return await self._move(job, "rows", total=total)

    async def _remove_rows(self, job: Job) -> bool:
        progress = self._progress[job.tenant_id]
        if progress.left is None:
            progress.left = [(role, table) for role, table in await self._tables() if table.deletable]
        if not progress.left:
            return await self._move(job, "index")
        role, table = progress.left[0]
        async with self._connections.holding(role, job.tenant_id) as connection:
            if connection is None:
                return False
            count, after = await delete_some(connection, table, job.tenant_id, progress.after, BATCH)
            await add_removed(connection, job.tenant_id, table.name, count)
        MAINTAIN_REMOVED.labels("deletion", table.name).inc(count)
        progress.after = after
        if after is None:
            progress.left.pop(0)
        return True

    async def _remove_documents(self, job: Job) -> bool:
        """Not before the index worker has passed the cut: until then it may still write what it read before."""
        reached = await self._positions("index")
        cut = self._progress[job.tenant_id].cut
        if any(reached.get(partition, 0) < offset for partition, offset in cut.items()):
            raise WaitingError("The index worker has yet to pass what was stored before the deletion.")
        async with self._connections.holding(Role.AUTH, job.tenant_id) as connection:
            if connection is None:
                return False
            if await active(connection):
                raise WaitingError("The search index is being rebuilt; its documents are removed after that.")
            scope = scoped(job.tenant_id)
            count = await execute.delete(self._search, self._settings.index_prefix, scope, most=BATCH)
            await add_removed(connection, job.tenant_id, SEARCH, count)
        MAINTAIN_REMOVED.labels("deletion", SEARCH).inc(count)
        if count == 0 and await self._documents(job.tenant_id) == 0:
            return await self._move(job, "cache")
        return count > 0

    async def _remove_keys(self, job: Job) -> bool:
        async with self._connections.holding(Role.AUTH, job.tenant_id) as connection:
            if connection is None:
                return False
            count = 0
            async for key in self._keys(job.tenant_id):
                count += await self._redis.unlink(key)
            await add_removed(connection, job.tenant_id, CACHE, count)
        MAINTAIN_REMOVED.labels("deletion", CACHE).inc(count)
        return await self._move(job, "verify")

    async def _verify(self, job: Job) -> bool:
        left = []
        for role, table in await self._tables():
            async with self._connections.bound(role, job.tenant_id) as connection:
                if await holds_rows(connection, table, job.tenant_id):
                    left.append(table.name)
        if await self._documents(job.tenant_id):
            left.append(SEARCH)
        left += [CACHE async for _ in self._keys(job.tenant_id)][:1]
        if left:
            self._progress[job.tenant_id].left = None
            await self._move(job, "rows")
            raise WaitingError(f"Something was left in {', '.join(sorted(set(left)))}; it is removed again.")
        kept = await longest_kept(self._settings.kafka_bootstrap, self._settings.raw_topic)
        if await finish(self._engine, job.tenant_id, kept):
            del self._progress[job.tenant_id]
            log.info("tenant deleted", tenant_id=str(job.tenant_id))
        return False

    async def _move(self, job: Job, following: str, *, total: int | None = None) -> bool:
        connection = await self._connections.of(Role.AUTH)
        await move(connection, job.tenant_id, job.step, following, total=total)
        return True

    async def _tables(self) -> list[tuple[Role, Table]]:
        return [(role, table) for role in Role for table in await tenant_tables(await self._connections.of(role))]

    async def _positions(self, worker: str) -> dict[int, int]:
        connection = await self._connections.of(Role.WORKER)
        return await positions(connection, self._settings.group(worker), self._settings.raw_topic)

    async def _documents(self, tenant_id: UUID) -> int:
        await execute.refresh(self._search, self._settings.index_prefix)
        return await tenant_total(self._search, self._settings.index_prefix, tenant_id)

    async def _keys(self, tenant_id: UUID) -> AsyncIterator[bytes]:
        async for key in keys_of(self._redis, self._settings.redis_prefix, tenant_id):
            yield key
