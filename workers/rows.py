"""Events as rows: what is in a Kafka record, in the shape and the order in which it is written, or as a dead letter.

Pure. Refuses to know a server: `workers.store` writes them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import NamedTuple
from uuid import UUID

import msgspec
from aiokafka import ConsumerRecord

from app.events.dead_letters import LetteredEvent
from app.events.model import MAX_TEXT_LENGTH
from app.events.record import decoder, encoder
from tenants.platform import PLATFORM_TENANT_ID
from workers.dead_letters import WHOLE_RECORD, DeadLetter
from workers.usage import Key, hour_of


class Row(NamedTuple):
    """One event with its place in the log, as the columns of `incoming`: a tuple, which COPY takes as it is.

    `place` is that in its record, from 0. `slice` is the month of receipt as yyyymm: the search index that this event
    belongs to, fixed here for good.
    """

    event_id: str
    partition: int
    offset: int
    place: int
    tenant_id: UUID
    event_type: str
    user_id: str | None
    client_id: str
    timestamp: datetime
    received_at: datetime
    slice: int
    metadata: str


def decode(record: ConsumerRecord) -> list[Row] | DeadLetter:
    """The rows of one Kafka record, or the dead letter that it is."""
    value = record.value or b""
    partition, offset = record.partition, record.offset
    try:
        found = decoder.decode(value)
        tenant_id, client_id = found.tenant_id, found.client_id
        if len(client_id) > MAX_TEXT_LENGTH:
            # No index holds it, not that of usage either, so that also a duplicate would stop its partition.
            raise OverflowError(f"client_id has more than {MAX_TEXT_LENGTH} characters")  # noqa: TRY301
        received_at = found.received_at.astimezone(UTC)
        month = received_at.year * 100 + received_at.month
        return [
            Row(
                event.event_id,
                partition,
                offset,
                place,
                tenant_id,
                event.event_type,
                event.user_id,
                client_id,
                event.timestamp,
                received_at,
                month,
                str(memoryview(event.metadata), "utf-8"),
            )
            for place, event in enumerate(found.events)
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        detail = f"{type(error).__name__}: {error}"
        return DeadLetter(PLATFORM_TENANT_ID, "not a record", detail, partition, offset, WHOLE_RECORD, value)


_PLACE = itemgetter(0, 1, 2, 3)
_BYTES = attrgetter("bytes")


def in_order(by_tenant: dict[UUID, list[Row]]) -> dict[UUID, list[Row]]:
    """Rows in the order of the key that is locked, as two workers in different orders would deadlock.

    Within a key in the order of the log, so that of two events with one id the first wins.
    """
    return {tenant_id: sorted(by_tenant[tenant_id], key=_PLACE) for tenant_id in sorted(by_tenant, key=_BYTES)}


def key_of(row: Row) -> Key:
    return Key(row.tenant_id, hour_of(row.received_at), row.client_id)


def letter_of(row: Row, reason: str, detail: str, owner: UUID) -> DeadLetter:
    """One event as a dead letter: its payload is the event, with whose it is and when it was received."""
    lettered = LetteredEvent(
        row.tenant_id,
        row.client_id,
        row.received_at,
        row.event_id,
        row.event_type,
        row.user_id,
        row.timestamp,
        msgspec.Raw(row.metadata.encode()),
    )
    return DeadLetter(
        owner,
        reason,
        detail,
        row.partition,
        row.offset,
        row.place,
        encoder.encode(lettered),
        row.event_id,
        row.event_type,
        row.user_id,
        row.client_id,
        row.received_at,
    )
