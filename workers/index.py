"""The index step: what the store has committed, into Elasticsearch.

It reads Kafka only up to the store's position, looks each event up by its key and takes those whose row came
from this very record: deduplicated exactly as stored, without a second decision. Writing a document again
replaces it with itself, so a batch may be repeated whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import msgspec
import structlog
from aiokafka import ConsumerRecord
from elasticsearch import AsyncElasticsearch

from app.metrics import WORKER_EVENTS
from search.bulk import bulk_write
from search.client import IndexUnavailable
from tenants.platform import PLATFORM_TENANT_ID
from workers import store
from workers.dead_letters import DeadLetter, write_dead_letters
from workers.loop import Horizon, RetryLaterError
from workers.offsets import positions
from workers.rows import Row, letter_of

log = structlog.get_logger()

NOT_INDEXABLE = "not indexable"
"""The reason of a dead letter whose event is stored, and is only not found by search."""


class _Key(msgspec.Struct, gc=False):
    event_id: str


class _Keys(msgspec.Struct, gc=False):
    tenant_id: UUID
    events: list[_Key]


_decode = msgspec.json.Decoder(_Keys).decode

_LOOK_UP = """
select e.tenant_id, e.event_id, e.event_type, e.user_id, e.client_id, e."timestamp", e.received_at, e.index_slice,
       e.metadata::text as metadata, e.source_partition, e.source_offset, k.index
from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::int[])
    as k (tenant_id, event_id, partition, "offset", index)
join events e on e.tenant_id = k.tenant_id and e.event_id = k.event_id
    and e.source_partition = k.partition and e.source_offset = k."offset"
"""


def stored_positions(store_group: str, topic: str) -> Horizon:
    """How far each partition is stored: nothing beyond is looked at."""

    async def horizon(connection: asyncpg.Connection) -> dict[int, int]:
        return await positions(connection, store_group, topic)

    return horizon


Key = tuple[UUID, str, int, int, int]
"""Tenant, event id, partition, offset, and place in the record."""


@dataclass(frozen=True)
class Keys:
    """A batch of records, decoded as far as is needed to find their rows."""

    records: int
    keys: list[Key]


class IndexStep:
    """The step for `workers.loop`."""

    def __init__(self, client: AsyncElasticsearch, index_prefix: str, topic: str) -> None:
        self._client = client
        self._prefix = index_prefix
        self._topic = topic

    def prepare(self, records: Sequence[ConsumerRecord]) -> Keys:
        """What to look up."""
        return Keys(len(records), sorted(_keys(records)))

    async def apply(self, connection: asyncpg.Connection, work: Keys) -> None:
        """Index what was stored of it."""
        rows = await stored_rows(connection, work.keys)
        try:
            outcome = await bulk_write(self._client, self._prefix, rows)
        except IndexUnavailable as error:
            raise RetryLaterError(str(error)) from error
        if outcome.retriable:
            raise RetryLaterError(f"Elasticsearch can't take {len(outcome.retriable)} documents now")
        letters = [_letter_of(row, reason) for row, reason in outcome.refused]
        await write_dead_letters(connection, "index", self._topic, letters)
        WORKER_EVENTS.labels("index", "indexed").inc(outcome.written)
        WORKER_EVENTS.labels("index", "dead letter").inc(len(letters))
        log.info("indexed", records=work.records, events=outcome.written, dead_letters=len(letters))


def _letter_of(row: asyncpg.Record, detail: str) -> DeadLetter:
    stored = Row(
        row["event_id"],
        row["source_partition"],
        row["source_offset"],
        row["index"],
        row["tenant_id"],
        row["event_type"],
        row["user_id"],
        row["client_id"],
        row["timestamp"],
        row["received_at"],
        row["index_slice"],
        row["metadata"],
    )
    return letter_of(stored, NOT_INDEXABLE, detail, stored.tenant_id)


async def stored_rows(connection: asyncpg.Connection, keys: Sequence[Key]) -> list[asyncpg.Record]:
    """The rows of `events` that came from the records of `keys`; binds row security to their tenants."""
    tenants = sorted({key[0] for key in keys} | {PLATFORM_TENANT_ID})
    await store.bind_tenants(connection, tenants)
    rows: list[asyncpg.Record] = await connection.fetch(
        _LOOK_UP,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
        [key[3] for key in keys],
        [key[4] for key in keys],
    )
    return rows


def _keys(records: Sequence[ConsumerRecord]) -> list[Key]:
    """Of each event, an id once a record."""
    found: dict[tuple[UUID, str, int, int], int] = {}
    for record in records:
        try:
            decoded = _decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # the store has dead-lettered it
        for index, event in enumerate(decoded.events):
            # A key with these can't be in the database: the store has dead-lettered it.
            if "\0" not in event.event_id:
                found.setdefault((decoded.tenant_id, event.event_id, record.partition, record.offset), index)
    return [(*key, index) for key, index in found.items()]
