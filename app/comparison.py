"""A tenant's events in PostgreSQL and its documents in the search index, side by side, in constant memory.

Owns the order in which the two are looked at, on which it rests what a difference means, and what is left out because
it is just being removed. Refuses to count, to show and to mend.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from search import execute
from search.verify import event_ids_at
from workers.offsets import positions
from workers.store import bind_tenants

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg
    from elasticsearch import AsyncElasticsearch


class Kind(Enum):
    """What is wrong with a document."""

    MISSING = "missing"
    EXTRA = "extra"
    TWICE = "doubled"


MISSING, EXTRA, TWICE = Kind.MISSING, Kind.EXTRA, Kind.TWICE


@dataclass(frozen=True, slots=True)
class Difference:
    """`received_at` is the event's; None: it is of a document that has none."""

    kind: Kind
    event_id: str
    received_at: datetime | None


@dataclass(frozen=True)
class Index:
    """The search index, and the position of the worker that writes it: its group's on `topic`."""

    client: AsyncElasticsearch
    prefix: str
    group: str
    topic: str


_LEFT_OUT = """
select now() - make_interval(days => p.retention_days) + interval '1 hour' as since,
       array(select e.user_id from erasures e where e.tenant_id = $1 and e.finished_at is null) as users
from tenants t join plans p using (plan_id) where t.tenant_id = $1
"""
"""PostgreSQL and Elasticsearch are emptied one after the other: what retention will have removed within the hour and
the users who are being erased are not compared.
"""

_EVENTS = """
select event_id, source_partition, source_offset, received_at from events
where tenant_id = $1 and ($2::timestamptz is null or received_at >= $2)
  and (user_id is null or user_id <> all ($3::text[]))
order by event_id
"""


class Comparison:
    """The differences, in the order of the event ids' bytes; iterate over them once. Then the numbers are known."""

    def __init__(
        self, rows: AsyncIterator[asyncpg.Record], documents: AsyncIterator[str], reached: dict[int, int]
    ) -> None:
        self.indexed = 0
        self.waiting = 0
        self._rows = rows
        self._documents = documents
        self._reached = reached

    async def __aiter__(self) -> AsyncIterator[Difference]:
        row, found = await anext(self._rows, None), await anext(self._documents, None)
        previous: str | None = None
        received_at: datetime | None = None
        while row is not None or found is not None:
            if found is not None and found == previous:
                yield Difference(EXTRA if received_at is None else TWICE, found, received_at)
                found = await anext(self._documents, None)
            elif row is not None and (found is None or row["event_id"].encode() < found.encode()):
                if row["source_offset"] >= self._reached.get(row["source_partition"], 0):
                    self.waiting += 1
                else:
                    yield Difference(MISSING, row["event_id"], row["received_at"])
                row = await anext(self._rows, None)
            else:
                assert found is not None  # noqa: S101  follows from the two cases above
                self.indexed += 1
                previous, received_at = found, None
                if row is not None and row["event_id"] == found:
                    received_at = row["received_at"]
                    row = await anext(self._rows, None)
                else:
                    yield Difference(EXTRA, found, None)
                found = await anext(self._documents, None)


@contextlib.asynccontextmanager
async def compare(connection: asyncpg.Connection, index: Index, tenant_id: UUID) -> AsyncIterator[Comparison]:
    """Compare within a snapshot of PostgreSQL in which `connection` (sluice_worker's) stays while the body runs.

    The index is as it was a moment before. So what it held then and `events` does not hold now has no event, and an
    event behind which the worker's position was by then has no document. Raises as `search.execute.walk`.
    """
    reached = await positions(connection, index.group, index.topic)
    # All that the index had been given by then can be seen from here on.
    await execute.refresh(index.client, index.prefix)
    point = await execute.point(index.client, index.prefix, tenant_id)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await bind_tenants(connection, [tenant_id])
        since, users = await connection.fetchrow(_LEFT_OUT, tenant_id) or (None, [])
        rows = aiter(connection.cursor(_EVENTS, tenant_id, since, users, prefetch=5000))
        documents = event_ids_at(index.client, point, tenant_id, since=since, but_of=users)
        async with contextlib.aclosing(documents):
            yield Comparison(rows, documents, reached)
