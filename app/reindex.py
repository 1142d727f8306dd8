"""`sluice reindex`: each slice of the search index built again from PostgreSQL while both are used.

Filled in key order through row security, tenant by tenant, then from the log for what was stored meanwhile. For the
last of that the index worker stands still: its positions are locked, with which each of its transactions begins. Then
the new index takes the old one's place in one step, so a search finds everything in one or in the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from app.comparison import Index
from app.index_repair import PATIENCE_SECONDS, write_patiently
from app.verification import RECOUNT_SECONDS
from search import rebuild
from search.documents import Row
from workers.history import read
from workers.index import IndexStep, stored_rows
from workers.offsets import positions
from workers.search_rebuilds import hold
from workers.store import bind_tenants

PAGE = 3000
PAGE_BYTES = 4 * 2**20
FEW = 1000
"""Records that the index worker may have to wait for while they are read."""

STANDSTILL_SECONDS = 20.0
"""How long it may stand still because Elasticsearch takes nothing; after that the slice stays as it was."""

_ROUNDS = 20
_NAMED = 20


class ReindexError(Exception):
    """It can't be done as things are; the text says why."""


@dataclass(frozen=True)
class Source:
    """Where the rows come from: `connection` is sluice_worker's."""

    connection: asyncpg.Connection
    bootstrap: str
    store_group: str
    tenants: Callable[[], Awaitable[Sequence[UUID]]]
    """Those there are now: asked for each slice anew, as new ones come while the one before is built."""


@dataclass
class Slice:
    """A slice that was built again. `refused`: events that Elasticsearch never takes; some of them are named."""

    slice: int
    documents: int = 0
    refused: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)


_PAGE = """
select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice, text as metadata
from (
    select *, sum(octet_length(text)) over (order by event_id) - octet_length(text) as before from (
        select *, metadata::text as text from events
        where tenant_id = $1 and event_id > $2 and index_slice = $3 order by event_id limit $4
    ) as page
) as sized
where before <= $5 order by event_id
"""

_LOCK = """
select partition from stream_offsets where consumer_group = $1 and topic = $2 order by partition for update
"""


async def stored_slices(source: Source) -> dict[int, int]:
    """How many events each slice has in PostgreSQL, by its number (yyyymm)."""
    totals: dict[int, int] = {}
    for tenant_id in await source.tenants():
        async with source.connection.transaction(readonly=True):
            await bind_tenants(source.connection, [tenant_id])
            query = "select index_slice, count(*) from events where tenant_id = $1 group by 1"
            for index_slice, count in await source.connection.fetch(query, tenant_id, timeout=RECOUNT_SECONDS):
                totals[index_slice] = totals.get(index_slice, 0) + count
    return totals


class Rebuild:
    """One slice's; `rebuild_id` is from `workers.search_rebuilds.claimed`. `progress` is told of events as they go."""

    def __init__(
        self, source: Source, index: Index, rebuild_id: UUID, index_slice: int, progress: Callable[[int], None]
    ) -> None:
        self._source = source
        self._index = index
        self._rebuild_id = rebuild_id
        self._progress = progress
        self._building = ""
        self._offered = False
        self._step = IndexStep(index.client, index.prefix, index.topic)
        self.found = Slice(index_slice)

    async def run(self, *, shards: int, replicas: int) -> Slice:
        """Build it, and put it in the place of the old one. If anything goes wrong before that, the old one stays.

        Raises:
            ReindexError: the index worker has never run.
            IndexUnavailable, SearchRefused, HistoryError, KafkaError, asyncpg.PostgresError, OSError: a server.
            RebuildLostError: see `workers.search_rebuilds`.
        """
        started = time.monotonic()
        # First: what is stored from now on is found in the log, and what was stored before by the pages.
        done = await positions(self._source.connection, self._source.store_group, self._index.topic)
        client, index_slice = self._index.client, self.found.slice
        self._building = await rebuild.begin(client, self._index.prefix, index_slice, shards=shards)
        try:
            await self._fill()
            done = await self._catch_up(done)
            await rebuild.complete(client, self._building, index_slice, replicas=replicas)
            await self._take_over(done)
        except BaseException:  # Ctrl-C too: what was built half must not stay; raised on
            if not self._offered:
                await rebuild.discard(client, self._building, index_slice)
            raise
        self.found.seconds = time.monotonic() - started
        return self.found

    async def _fill(self) -> None:
        for tenant_id in await self._source.tenants():
            pages = self._pages(tenant_id)
            page = await anext(pages, None)
            while page is not None:
                following = asyncio.ensure_future(anext(pages, None))
                try:
                    await self._write(page, PATIENCE_SECONDS)
                finally:
                    page = await following

    async def _pages(self, tenant_id: UUID) -> AsyncIterator[list[asyncpg.Record]]:
        connection, after = self._source.connection, ""
        while True:
            async with connection.transaction(readonly=True):
                await bind_tenants(connection, [tenant_id])
                page = await connection.fetch(
                    _PAGE, tenant_id, after, self.found.slice, PAGE, PAGE_BYTES, timeout=RECOUNT_SECONDS
                )
            if not page:
                return
            yield page
            after = page[-1]["event_id"]

    async def _catch_up(self, done: dict[int, int]) -> dict[int, int]:
        """Read on, until few records are left for the time in which the index worker stands still."""
        connection = self._source.connection
        for _ in range(_ROUNDS):
            stored = await positions(connection, self._source.store_group, self._index.topic)
            if sum(stored.values()) - sum(done.values()) <= FEW:
                break
            await self._read(done, stored, PATIENCE_SECONDS)
            done = stored
        return done

    async def _take_over(self, done: dict[int, int]) -> None:
        """The last records, and the exchange, while the index worker stands still."""
        connection, topic = self._source.connection, self._index.topic
        async with connection.transaction():
            locked = await connection.fetch(_LOCK, self._index.group, topic)
            stored = await positions(connection, self._source.store_group, topic)
            if not {row["partition"] for row in locked} >= stored.keys():
                raise ReindexError("The index worker has never run on all partitions; start it once.")
            await self._read(done, stored, STANDSTILL_SECONDS)
            await hold(connection, self._rebuild_id)
            # Where this fails it can't be known for certain that it was not done.
            self._offered = True
            await rebuild.exchange(self._index.client, self._index.prefix, self._building, self.found.slice)

    async def _read(self, since: dict[int, int], to: dict[int, int], patience_seconds: float) -> None:
        """Index what was stored from these records."""
        connection = self._source.connection
        async for records in read(self._source.bootstrap, self._index.topic, since=since, to=to):
            keys = (await asyncio.to_thread(self._step.prepare, records)).keys
            async with connection.transaction():
                rows = [row for row in await stored_rows(connection, keys) if row["index_slice"] == self.found.slice]
            await self._write(rows, patience_seconds)

    async def _write(self, rows: Sequence[Row], patience_seconds: float) -> None:
        written, refused = await write_patiently(self._index, self._building, rows, patience_seconds)
        self.found.documents += written
        self.found.refused += len(refused)
        for row, reason in refused[: _NAMED - len(self.found.examples)]:
            self.found.examples.append(f"{row['tenant_id']}: {row['event_id']}: {reason}")
        self._progress(len(rows))
