"""An edit of a dead letter's event: what the caller wrote in place of some members, and the event that results, held to
the same rules as one that is sent. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from app.errors import Fault, InvalidError, MalformedError
from app.events.dead_letters import decode_event
from app.events.model import ALIASES, FUTURE, MAX_EVENT_BYTES, IncomingEvent, Receipt, accept, fault_from
from app.events.record import encoder

_MEMBERS = ("event_id", "event_type", "user_id", "timestamp", "metadata")
_members_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(IncomingEvent).decode
_CANONICAL = {alias: names[0] for names in ALIASES for alias in names}


def edited(payload: bytes, changes: bytes, now: datetime) -> bytes:
    """`payload`, a letter's event, with the members in `changes`, a JSON object; as a payload again.

    Members and their bounds are those of an event that is sent at `now`. What is left out stays as it is; null is as if
    it had never been sent: a new `event_id`, no `user_id`, the time of receipt as `timestamp`, no `metadata`.

    Raises:
        MalformedError: `changes` is not JSON.
        InvalidError: the result is no event; each fault with the pointer of its member.
    """
    original = decode_event(payload)
    try:
        changes.decode()
        given = _members_of(changes)
    except msgspec.ValidationError:
        raise _invalid(Fault("", "must be an object")) from None
    except RecursionError:
        raise MalformedError("The body is not JSON.", (Fault("", "is nested too deeply"),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError("The body is not JSON.", (Fault("", str(error)),)) from None
    if not given:
        raise _invalid(Fault("", "must have at least one member that is to change"))
    replaced = {_CANONICAL.get(name, name) for name in given}
    kept = {name: value for name, value in _members_of(payload).items() if name in _MEMBERS and name not in replaced}
    # In the order in which the caller wrote them, so that of two spellings the same one is named as when sending.
    merged = encoder.encode(given | kept)
    if len(merged) > MAX_EVENT_BYTES:
        raise _invalid(Fault("", f"the event is larger than {MAX_EVENT_BYTES} bytes"))
    try:
        verdict = accept(_decode(merged), Receipt(original.received_at.astimezone(UTC), now + FUTURE))
    except msgspec.ValidationError as error:
        raise _invalid(fault_from(error)) from None
    if isinstance(verdict, list):
        raise _invalid(*verdict)
    return encoder.encode(original.with_event(verdict))


def _invalid(*faults: Fault) -> InvalidError:
    return InvalidError("The event is not valid.", faults)
