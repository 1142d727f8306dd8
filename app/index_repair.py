"""Making the search index hold exactly what `events` holds, while both go on growing.

Owns what is done about a document that is missing, extra or there twice: only what is wrong when it is looked at again.
What the index worker has yet to read is left to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from app.comparison import EXTRA, MISSING, Index, Kind, compare
from app.recount import HOLD, Progress
from search import execute
from search.bulk import bulk_write
from search.client import IndexUnavailable
from search.documents import Row
from search.scope import scoped
from workers.loop import backoff
from workers.search_rebuilds import hold
from workers.store import bind_tenants

PATIENCE_SECONDS = 120.0
"""How long an index that takes nothing now is waited for."""

_IDS = 1000


@dataclass(frozen=True)
class Reindexed:
    """Documents written and removed. `refused`: Elasticsearch never takes them, so they stay missing."""

    indexed: int = 0
    removed: int = 0
    refused: int = 0

    def __add__(self, more: Reindexed) -> Reindexed:
        return Reindexed(self.indexed + more.indexed, self.removed + more.removed, self.refused + more.refused)


_WANTED = """
select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
       metadata::text as metadata
from events where tenant_id = $1 and event_id = any ($2::text[])
"""


@dataclass(frozen=True)
class Repair:
    """Of one tenant's documents. Both connections are sluice_worker's: `reading` stays in one snapshot while `writing`
    changes things.

    `rebuild_id` is from `workers.search_rebuilds.claimed`: no deletion goes on meanwhile, so nothing is written back
    that one has removed.
    """

    reading: asyncpg.Connection
    writing: asyncpg.Connection
    index: Index
    tenant_id: UUID
    rebuild_id: UUID

    async def run(self, progress: Progress) -> Reindexed:
        """Write documents that are missing, remove those that are extra or there twice.

        Raises:
            IndexUnavailable: for longer than `PATIENCE_SECONDS`.
            SearchRefused: a deletion can't be done.
            RebuildLostError: see `workers.search_rebuilds`.
        """
        done = Reindexed()
        found: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        async with compare(self.reading, self.index, self.tenant_id) as differences:
            async for difference in differences:
                ids = found[difference.kind]
                if not ids or ids[-1] != difference.event_id:
                    ids.append(difference.event_id)
                if len(ids) == _IDS:
                    done += await self._settle(difference.kind, ids)
                    progress(len(ids))
                    ids.clear()
        for kind, ids in found.items():
            if ids:
                done += await self._settle(kind, ids)
                progress(len(ids))
        await execute.refresh(self.index.client, self.index.prefix)
        return done

    async def _settle(self, kind: Kind, ids: list[str]) -> Reindexed:
        await hold(self.writing, self.rebuild_id)
        return await (self._add(ids) if kind is MISSING else self._replace(ids, keep=kind is EXTRA))

    async def _add(self, ids: list[str]) -> Reindexed:
        async with self.writing.transaction(readonly=True):
            await bind_tenants(self.writing, [self.tenant_id])
            rows = await self.writing.fetch(_WANTED, self.tenant_id, ids)
        return await self._write(rows)

    async def _replace(self, ids: list[str], *, keep: bool) -> Reindexed:
        """Remove all documents of `ids`, and write those again that have an event: nothing tells which of two is right.

        `keep`: those that have one by now are left alone. While the tenant's row is held nothing new is stored for it,
        so what has no event now gets no document meanwhile.
        """
        async with self.writing.transaction():
            await bind_tenants(self.writing, [self.tenant_id])
            if not await self.writing.fetchval(HOLD, self.tenant_id):
                return Reindexed()
            rows = await self.writing.fetch(_WANTED, self.tenant_id, ids)
            if keep:
                ids = sorted(set(ids) - {row["event_id"] for row in rows})
            scope = scoped(self.tenant_id, filters=[{"terms": {"event_id": ids}}])
            removed = 0
            # One that was written since the last refresh would not be deleted.
            await execute.refresh(self.index.client, self.index.prefix)
            while count := await execute.delete(self.index.client, self.index.prefix, scope, most=execute.PAGE):
                removed += count
            return Reindexed(removed=removed) + (Reindexed() if keep else await self._write(rows))

    async def _write(self, rows: Sequence[Row]) -> Reindexed:
        written, refused = await write_patiently(self.index, self.index.prefix, rows, PATIENCE_SECONDS)
        return Reindexed(indexed=written, refused=len(refused))


async def write_patiently(
    index: Index, prefix: str, rows: Sequence[Row], patience_seconds: float
) -> tuple[int, list[tuple[Row, str]]]:
    """`search.bulk.bulk_write` under `prefix`, again and again until all is written or refused: how many, and which.

    Raises:
        IndexUnavailable: that took longer than `patience_seconds`.
    """
    clock = asyncio.get_running_loop()
    deadline, attempt, written = clock.time() + patience_seconds, 0, 0
    refused: list[tuple[Row, str]] = []
    while rows:
        problem = "Elasticsearch can't take documents now"
        try:
            outcome = await bulk_write(index.client, prefix, rows)
        except IndexUnavailable as error:
            problem = str(error)
        else:
            written += outcome.written
            refused += outcome.refused
            rows = outcome.retriable
        if rows:
            attempt += 1
            if clock.time() > deadline:
                raise IndexUnavailable(problem)
            await asyncio.sleep(backoff(attempt))
    return written, refused
