"""An edit of a dead letter is held to the rules of sending: the same events are taken, the same faults are named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidError
from app.events.dead_letters import LetteredEvent, decode_event
from app.events.model import FUTURE, Receipt
from app.events.record import AcceptedEvent, decoder, encoder
from app.ingest.content import decode_single
from app.recovery.letter_edits import edited

RECEIVED = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOW = RECEIVED + timedelta(days=3)
ORIGINAL = LetteredEvent(
    UUID(int=7), "c", RECEIVED, "1", "t", "u", RECEIVED, msgspec.Raw(b'{"note": "a\\u0000b",  "n": 1.50}')
)
PAYLOAD = encoder.encode(ORIGINAL)

TEXTS = st.none() | st.text(max_size=3) | st.sampled_from(["x" * 200, "x" * 201, "a\0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)
# Every member is given, so nothing of the original is left.
WHOLE = st.fixed_dictionaries(
    {
        "event_type": TEXTS,
        "event_id": TEXTS.filter(lambda text: text is not None),  # else each has a new one
        "user_id": TEXTS,
        "timestamp": st.sampled_from(
            [None, "2026-01-02", "2026-01-02T03:04:05.5+01:00", "soon", "2500-01-01T00:00:00Z"]
        ),
        "metadata": VALUES,
    },
    optional={"name": TEXTS, "userId": TEXTS, "unknown": st.just(1)},
)


def outcome(work: Any) -> Any:
    """The event, or where the faults are and which."""
    try:
        event = work()
    except InvalidError as error:
        return {(fault.pointer, fault.detail) for fault in error.faults}
    return event.event_id, event.event_type, event.user_id, event.timestamp, bytes(event.metadata)


@given(WHOLE)
def test_a_whole_event_is_taken_or_refused_as_if_it_were_sent(event: dict[str, Any]) -> None:
    body = json.dumps(event).encode()
    receipt = Receipt(RECEIVED, NOW + FUTURE)
    assert outcome(lambda: decode_event(edited(PAYLOAD, body, NOW))) == outcome(
        lambda: decode_single(body, "application/json", receipt)
    )


def test_what_is_left_out_stays_digit_for_digit_and_whose_it_is_can_not_be_given() -> None:
    mended = decode_event(edited(PAYLOAD, b'{"metadata": {"n": 1.50}}', NOW))
    assert (mended.event_id, mended.event_type, mended.user_id, mended.timestamp) == ("1", "t", "u", RECEIVED)
    assert (mended.tenant_id, mended.client_id, mended.received_at) == (UUID(int=7), "c", RECEIVED)
    assert bytes(mended.metadata) == b'{"n": 1.50}'
    again = decode_event(edited(encoder.encode(mended), b'{"eventType": "new"}', NOW))
    assert (again.event_type, bytes(again.metadata)) == ("new", b'{"n": 1.50}')
    for member in ("tenant_id", "client_id", "received_at"):
        with pytest.raises(InvalidError) as refused:
            edited(PAYLOAD, json.dumps({"metadata": {}, member: str(UUID(int=8))}).encode(), NOW)
        assert [fault.pointer for fault in refused.value.faults] == [f"/{member}"]


def test_null_is_as_if_the_member_had_never_been_sent() -> None:
    changes = b'{"event_id": null, "user_id": null, "timestamp": null, "metadata": null}'
    mended = decode_event(edited(PAYLOAD, changes, NOW))
    assert UUID(mended.event_id).version == 7
    assert (mended.user_id, mended.timestamp, bytes(mended.metadata)) == (None, RECEIVED, b"{}")


def test_a_fault_of_the_original_that_was_not_mended_is_named() -> None:
    with pytest.raises(InvalidError) as refused:
        edited(PAYLOAD, b'{"event_type": "new"}', NOW)
    assert [fault.pointer for fault in refused.value.faults] == ["/metadata/note"]


def test_the_record_of_a_letter_holds_its_event_alone_as_it_was_received() -> None:
    record = decoder.decode(ORIGINAL.record())
    assert (record.tenant_id, record.client_id, record.received_at) == (UUID(int=7), "c", RECEIVED)
    assert record.events == [AcceptedEvent("1", "t", RECEIVED, ORIGINAL.metadata, "u")]
