"""Dead letters as JSON: an event that could not be handled, and the copy of a letter on the topic events.dead-letter.

A contract test holds the copy's JSON Schema (app/events/schemas) equal to it. Refuses to know where letters are kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

import msgspec

from app.events.record import AcceptedEvent, EventRecord, encoder

LARGEST_COPIED_PAYLOAD = 2**20
"""In base64 and with all around it, it still fits a record of 2 MiB."""


class LetteredEvent(msgspec.Struct, frozen=True, gc=False):
    """The payload of a letter that is one event: the event, whose it is, who sent it and when it was received."""

    tenant_id: UUID
    client_id: str
    received_at: datetime
    event_id: str
    event_type: str
    user_id: str | None
    timestamp: datetime
    metadata: msgspec.Raw

    def with_event(self, event: AcceptedEvent) -> Self:
        """The same with another content."""
        return msgspec.structs.replace(
            self,
            event_id=event.event_id,
            event_type=event.event_type,
            user_id=event.user_id,
            timestamp=event.timestamp,
            metadata=event.metadata,
        )

    def record(self) -> bytes:
        """The value of a record of events.raw with this event alone: received when it first was, by whom it was."""
        event = AcceptedEvent(self.event_id, self.event_type, self.timestamp, self.metadata, self.user_id)
        return encoder.encode(EventRecord(self.tenant_id, self.client_id, self.received_at, [event]))


decode_event = msgspec.json.Decoder(LetteredEvent).decode
"""The event in a letter's payload; raises msgspec.MsgspecError or RecursionError if it is no such thing."""


class DeadLetterRecord(msgspec.Struct, frozen=True, gc=False):
    """The value of a record of events.dead-letter; its key is the tenant's id.

    `topic`, `partition`, `offset` say which record it was, `index` which of its events; None: the whole record. What is
    None further on is not known. `payload` is None where it is larger than `LARGEST_COPIED_PAYLOAD`.
    """

    tenant_id: UUID
    dead_letter_id: UUID
    worker: Literal["store", "index"]
    reason: str
    detail: str
    attempts: int
    topic: str
    partition: int
    offset: int
    index: int | None
    event_id: str | None
    event_type: str | None
    user_id: str | None
    client_id: str | None
    received_at: datetime | None
    created_at: datetime
    payload_bytes: int
    payload: bytes | None
    version: int = 1
