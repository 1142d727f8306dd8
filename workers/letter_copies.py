"""The copy of each dead letter on Kafka's dead-letter topic, and the end of letters that were handled long ago: two
duties of the `maintain` worker.

PostgreSQL holds the truth. A copy is sent at least once, the oldest letters first, and never changed; whoever reads
the topic knows a letter by its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from app.events.dead_letters import LARGEST_COPIED_PAYLOAD, DeadLetterRecord
from app.events.record import encoder
from app.metrics import DEAD_LETTERS_OPEN, MAINTAIN_REMOVED
from workers.connections import Role
from workers.dead_letters import WHOLE_RECORD
from workers.sender import Message

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from workers.connections import Connections
    from workers.sender import Sender

log = structlog.get_logger()

MOST = 20
"""Letters at a time, each up to `LARGEST_COPIED_PAYLOAD`."""

KEPT_DAYS = 30
"""How long a letter that was resolved or discarded can still be looked at."""

MOST_REMOVED = 5000

_DUE = f"select tenant_id, dead_letter_id from dead_letters where copied_at is null order by created_at limit {MOST}"  # noqa: S608  a constant of this module
_HOLD = f"""
select tenant_id, dead_letter_id, worker, reason, detail, attempts, topic, source_partition, source_offset,
       record_index, event_id, event_type, user_id, client_id, received_at, created_at,
       octet_length(payload) as payload_bytes,
       case when octet_length(payload) <= {LARGEST_COPIED_PAYLOAD} then payload end as payload
from dead_letters where tenant_id = $1 and dead_letter_id = any ($2::uuid[]) and copied_at is null
order by created_at, dead_letter_id for update skip locked
"""  # noqa: S608  a constant of this project
_COPIED = "update dead_letters set copied_at = now() where tenant_id = $1 and dead_letter_id = any ($2::uuid[])"
_HANDLED = f"""
select tenant_id, dead_letter_id from dead_letters
where status in ('resolved', 'discarded') and changed_at < now() - interval '{KEPT_DAYS} days' limit {MOST_REMOVED}
"""  # noqa: S608  constants of this module
_REMOVE = f"""
delete from dead_letters where tenant_id = $1 and dead_letter_id = any ($2::uuid[])
    and status in ('resolved', 'discarded') and changed_at < now() - interval '{KEPT_DAYS} days'
"""  # noqa: S608  a constant of this module
_OPEN = "select count(*) from dead_letters where status = 'open'"


class Copies:
    """Letters that are not on `topic` yet."""

    def __init__(self, connections: Connections, sender: Sender, topic: str) -> None:
        self.connections = connections
        self._sender = sender
        self._topic = topic

    async def turn(self) -> bool:
        """Copy the oldest; True if there may be more."""
        done = 0
        for tenant_id, ids in (await _found(self.connections, _DUE)).items():
            async with self.connections.bound(Role.WORKER, tenant_id) as connection:
                letters = await connection.fetch(_HOLD, tenant_id, ids)
                taken = await self._sender.send(self._topic, [_message(letter) for letter in letters])
                if not all(taken):  # the bounds above leave room for all else; trying again would help nobody
                    log.error("a copy of a dead letter is larger than Kafka takes", tenant_id=str(tenant_id))
                await connection.execute(_COPIED, tenant_id, [letter["dead_letter_id"] for letter in letters])
                done += len(letters)
        return done > 0


class HandledLetters:
    """Letters that were resolved or discarded `KEPT_DAYS` ago; and how many are open, as a metric."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    async def turn(self) -> bool:
        """Remove some; True if there may be more."""
        done = 0
        for tenant_id, ids in (await _found(self.connections, _HANDLED)).items():
            async with self.connections.bound(Role.WORKER, tenant_id) as connection:
                done += int((await connection.execute(_REMOVE, tenant_id, ids)).removeprefix("DELETE "))
        MAINTAIN_REMOVED.labels("expired", "dead_letters").inc(done)
        DEAD_LETTERS_OPEN.set(await (await self.connections.of(Role.AUTH)).fetchval(_OPEN))
        return done > 0


async def _found(connections: Connections, query: str) -> dict[UUID, list[UUID]]:
    connection = await connections.of(Role.AUTH)
    found: dict[UUID, list[UUID]] = {}
    for tenant_id, dead_letter_id in await connection.fetch(query):
        found.setdefault(tenant_id, []).append(dead_letter_id)
    return found


def _message(letter: asyncpg.Record) -> Message:
    record = DeadLetterRecord(
        tenant_id=letter["tenant_id"],
        dead_letter_id=letter["dead_letter_id"],
        worker=letter["worker"],
        reason=letter["reason"],
        detail=letter["detail"],
        attempts=letter["attempts"],
        topic=letter["topic"],
        partition=letter["source_partition"],
        offset=letter["source_offset"],
        index=None if letter["record_index"] == WHOLE_RECORD else letter["record_index"],
        event_id=letter["event_id"],
        event_type=letter["event_type"],
        user_id=letter["user_id"],
        client_id=letter["client_id"],
        received_at=letter["received_at"],
        created_at=letter["created_at"],
        payload_bytes=letter["payload_bytes"],
        payload=letter["payload"],
    )
    return Message(str(record.tenant_id).encode(), encoder.encode(record))
