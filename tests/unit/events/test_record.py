"""Records join and split without changing an event, and keys keep each user in order."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.events.record import AcceptedEvent, decoder, encode_events, join_record, partition_key, shard_of

MOMENT = datetime(2026, 5, 4, tzinfo=UTC)
EVENTS = st.builds(
    AcceptedEvent,
    event_id=st.text(min_size=1),
    event_type=st.text(min_size=1),
    timestamp=st.datetimes(timezones=st.just(UTC)),
    metadata=st.dictionaries(st.text(), st.text()).map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
    user_id=st.none() | st.text(min_size=1),
)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_joined_pieces_decode_to_the_same_events_in_order(pieces: list[list[AcceptedEvent]]) -> None:
    tenant = uuid4()
    record = decoder.decode(join_record(tenant, "c[]1", MOMENT, [encode_events(piece) for piece in pieces]))
    assert (record.tenant_id, record.client_id, record.received_at) == (tenant, "c[]1", MOMENT)
    assert [(e.event_id, e.event_type, e.timestamp, bytes(e.metadata), e.user_id) for e in record.events] == [
        (e.event_id, e.event_type, e.timestamp, bytes(e.metadata), e.user_id) for piece in pieces for e in piece
    ]


@given(st.text(min_size=1), st.integers(2, 64))
def test_a_user_s_shard_is_stable_and_in_range(user: str, shards: int) -> None:
    assert shard_of(user, shards) == shard_of(user, shards)
    assert 0 <= shard_of(user, shards) < shards


def test_one_shard_means_the_tenant_is_the_key() -> None:
    tenant = UUID(int=5)
    assert partition_key(tenant, 0, 1) == str(tenant).encode()
    assert partition_key(tenant, 3, 4) == f"{tenant}:3".encode()
    assert shard_of("anyone", 1) == 0
    assert shard_of(None, 8) == 0
