"""The record on Kafka `events.raw`: one or more events of one tenant, client and shard, as JSON.

Gateway and workers share it; a contract test holds its JSON Schema (app/events/schemas) equal to it.
Refuses to own the topic: who produces and who consumes is said elsewhere.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID
from zlib import crc32

import msgspec

RECORD_LIMIT_BYTES = 256 * 1024
"""A larger batch is split, so that one record is never long to store or to retry."""


class AcceptedEvent(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An event as accepted: validated, complete, `metadata` still as the client's own JSON bytes."""

    event_id: str
    event_type: str
    timestamp: datetime
    metadata: msgspec.Raw
    user_id: str | None = None


class EventRecord(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The value of one Kafka record. `received_at` is the moment the gateway closed the record."""

    tenant_id: UUID
    client_id: str
    received_at: datetime
    events: list[AcceptedEvent]
    version: int = 1


_NO_EVENTS = b'"events":[]'
"""Found once in a record without events: within a string the quotes would be escaped."""

encoder = msgspec.json.Encoder()
decoder = msgspec.json.Decoder(EventRecord)


def encode_events(events: list[AcceptedEvent]) -> bytes:
    """The events as the inside of a JSON array, so that pieces can be joined by commas into one record."""
    return encoder.encode(events)[1:-1]


def join_record(tenant_id: UUID, client_id: str, received_at: datetime, pieces: list[bytes]) -> bytes:
    """One record's value from pieces made by `encode_events`, without encoding any event twice."""
    head = encoder.encode(EventRecord(tenant_id, client_id, received_at, []))
    before, after = head.split(_NO_EVENTS, 1)
    return b"".join((before, b'"events":[', b",".join(pieces), b"]", after))


def partition_key(tenant_id: UUID, shard: int, shards: int) -> bytes:
    """The Kafka key: the tenant, and for a tenant spread over several shards the shard too."""
    return f"{tenant_id}:{shard}".encode() if shards > 1 else str(tenant_id).encode()


def shard_of(user_id: str | None, shards: int) -> int:
    """Each user's events share a shard and so stay in order; events without a user go to shard 0."""
    return crc32(user_id.encode()) % shards if user_id is not None and shards > 1 else 0
