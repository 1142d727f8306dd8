"""Dead letters that are to be tried again: two duties of the `maintain` worker.

What the store refused goes onto events.raw once more, alone in a record that names the letter; the store says what
became of it. What the index refused is looked up and written to Elasticsearch here. A letter's row is locked until
that is done, so that nobody discards or erases it meanwhile. Refuses to decide which letters are tried again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from app.events.dead_letters import decode_event
from app.events.record import partition_key, shard_of
from app.metrics import DEAD_LETTER_RETRIES
from search.bulk import bulk_write
from tenants.plans import EFFECTIVE_LIMITS
from workers.connections import Connections, Role
from workers.dead_letters import WHOLE_RECORD, Retry, header_of, refuse_again, resolve
from workers.duties import Duty
from workers.letter_copies import Copies, HandledLetters
from workers.loop import RetryLaterError
from workers.sender import Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg
    from elasticsearch import AsyncElasticsearch

    from app.settings import MaintainSettings
    from workers.sender import Sender

log = structlog.get_logger()

MOST = 200
MOST_BYTES = 8 * 2**20
"""Of a tenant's letters at a time."""

HANDLED_SECONDS = 60.0

OVERDUE_MINUTES = 10
"""After which a letter that was sent and of which nothing was heard is sent again; its event id counts once."""

GONE = "The event is not stored any more."
_PENDING = f"(status = 'queued' or status = 'sent' and changed_at < now() - interval '{OVERDUE_MINUTES} minutes')"
_DUE = f"""
select tenant_id, dead_letter_id from dead_letters where worker = $1 and {_PENDING} order by changed_at limit {MOST}
"""  # noqa: S608  constants of this module
_HOLD = f"""
select dead_letter_id, octet_length(payload) as size from dead_letters
where tenant_id = $1 and dead_letter_id = any ($2::uuid[]) and {_PENDING}
order by changed_at, dead_letter_id for update skip locked
"""  # noqa: S608  constants of this module
_READ = """
select dead_letter_id, reason, record_index, event_id, payload, retry_payload from dead_letters
where tenant_id = $1 and dead_letter_id = any ($2::uuid[])
"""
_SENT = """
update dead_letters set status = 'sent', changed_at = now()
where tenant_id = $1 and dead_letter_id = any ($2::uuid[])
"""
_SHARDS = f"""
select shards from (
    select {EFFECTIVE_LIMITS} from tenants t join plans p using (plan_id) where t.tenant_id = $1
) as limits
"""  # noqa: S608  a constant of this project
_STORED = """
select tenant_id, event_id, event_type, user_id, client_id, "timestamp", received_at, index_slice,
       metadata::text as metadata
from events where tenant_id = $1 and event_id = any ($2::text[])
"""


async def due(connections: Connections, worker: str) -> dict[UUID, list[UUID]]:
    """The letters of this worker that have waited longest, by tenant."""
    connection = await connections.of(Role.AUTH)
    found: dict[UUID, list[UUID]] = {}
    for tenant_id, dead_letter_id in await connection.fetch(_DUE, worker):
        found.setdefault(tenant_id, []).append(dead_letter_id)
    return found


async def hold(connection: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """Lock those of these letters that are still due and that no other process is at, and read some of them."""
    taken: list[UUID] = []
    size = 0
    for row in await connection.fetch(_HOLD, tenant_id, ids):
        size += row["size"]
        if taken and size > MOST_BYTES:
            break
        taken.append(row["dead_letter_id"])
    letters: list[asyncpg.Record] = await connection.fetch(_READ, tenant_id, taken)
    return letters


class StoreRetries:
    """Letters of the store worker, sent to `topic` again."""

    def __init__(self, connections: Connections, sender: Sender, topic: str) -> None:
        self.connections = connections
        self._sender = sender
        self._topic = topic

    async def turn(self) -> bool:
        """Send what is due; True if there may be more."""
        done = 0
        for tenant_id, ids in (await due(self.connections, "store")).items():
            async with self.connections.bound(Role.WORKER, tenant_id) as connection:
                letters = await hold(connection, tenant_id, ids)
                await self._send(connection, tenant_id, letters)
                done += len(letters)
        return done > 0

    async def _send(self, connection: asyncpg.Connection, tenant_id: UUID, letters: Sequence[asyncpg.Record]) -> None:
        messages: dict[UUID, Message] = {}
        shards: dict[UUID, int] = {}
        refused: dict[Retry, tuple[str, str]] = {}
        for letter in letters:
            retry = Retry(tenant_id, letter["dead_letter_id"])
            try:
                messages[retry.dead_letter_id] = await self._message(retry, letter, shards)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                refused[retry] = (letter["reason"], f"It can't be sent again: {type(error).__name__}: {error}")
        taken = await self._sender.send(self._topic, list(messages.values())) if messages else []
        sent = [dead_letter_id for dead_letter_id, took in zip(messages, taken, strict=True) if took]
        await connection.execute(_SENT, tenant_id, sent)
        reasons = {letter["dead_letter_id"]: letter["reason"] for letter in letters}
        for dead_letter_id in messages.keys() - set(sent):
            detail = "It can't be sent again: it is larger than Kafka takes."
            refused[Retry(tenant_id, dead_letter_id)] = (reasons[dead_letter_id], detail)
        await refuse_again(connection, refused)
        DEAD_LETTER_RETRIES.labels("sent").inc(len(sent))
        log.info("dead letters sent again", tenant_id=str(tenant_id), sent=len(sent), refused=len(refused))

    async def _message(self, retry: Retry, letter: asyncpg.Record, shards: dict[UUID, int]) -> Message:
        headers = (header_of(retry),)
        if letter["record_index"] == WHOLE_RECORD:
            return Message(str(retry.tenant_id).encode(), letter["payload"], headers)
        event = decode_event(letter["retry_payload"] or letter["payload"])
        # As the gateway would place it. No order is kept with what the user sent since; a drain is not waited for.
        if event.tenant_id not in shards:
            connection = await self.connections.of(Role.AUTH)
            shards[event.tenant_id] = await connection.fetchval(_SHARDS, event.tenant_id) or 1
        spread = shards[event.tenant_id]
        key = partition_key(event.tenant_id, shard_of(event.user_id, spread), spread)
        return Message(key, event.record(), headers)


class IndexRetries:
    """Letters of the index worker, whose events are stored: written to Elasticsearch again."""

    def __init__(self, connections: Connections, search: AsyncElasticsearch, index_prefix: str) -> None:
        self.connections = connections
        self._search = search
        self._prefix = index_prefix

    async def turn(self) -> bool:
        """Write what is due; True if there may be more.

        Raises:
            IndexUnavailable, RetryLaterError: Elasticsearch can't take it now.
        """
        done = 0
        for tenant_id, ids in (await due(self.connections, "index")).items():
            async with self.connections.bound(Role.WORKER, tenant_id) as connection:
                letters = await hold(connection, tenant_id, ids)
                await self._write(connection, tenant_id, letters)
                done += len(letters)
        return done > 0

    async def _write(self, connection: asyncpg.Connection, tenant_id: UUID, letters: Sequence[asyncpg.Record]) -> None:
        rows = await connection.fetch(_STORED, tenant_id, [letter["event_id"] for letter in letters])
        # Whoever erases an event removes its dead letter, and so waits for this lock, before its document.
        outcome = await bulk_write(self._search, self._prefix, rows)
        if outcome.retriable:
            raise RetryLaterError(f"Elasticsearch can't take {len(outcome.retriable)} documents now")
        stored = {row["event_id"] for row in rows}
        why = {row["event_id"]: detail for row, detail in outcome.refused}
        written, gone, refused = [], [], {}
        for letter in letters:
            retry = Retry(tenant_id, letter["dead_letter_id"])
            if letter["event_id"] not in stored:
                gone.append(retry)
            elif letter["event_id"] in why:
                refused[retry] = (letter["reason"], why[letter["event_id"]])
            else:
                written.append(retry)
        await resolve(connection, written)
        await resolve(connection, gone, GONE)
        await refuse_again(connection, refused)


def letter_duties(settings: MaintainSettings, search: AsyncElasticsearch, sender: Sender) -> tuple[Duty, ...]:
    """All that the `maintain` worker does with dead letters. Apart from each other: a server that is away stops only
    what needs it.
    """
    again = StoreRetries(Connections(settings), sender, settings.raw_topic)
    indexed = IndexRetries(Connections(settings), search, settings.index_prefix)
    copies = Copies(Connections(settings), sender, settings.dead_letter_topic)
    handled = HandledLetters(Connections(settings))
    return (
        Duty("dead letters for the store", again.turn, again.connections),
        Duty("dead letters for the index", indexed.turn, indexed.connections),
        Duty("copies of dead letters", copies.turn, copies.connections),
        Duty("dead letters handled long ago", handled.turn, handled.connections, HANDLED_SECONDS),
    )
