"""What is answered about dead letters, as JSON; their original bytes are shown as they are."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from tenants.answers import Moment

if TYPE_CHECKING:
    from app.recovery.letters import Letter, WholeLetter

DEAD_LETTER_ID = "1c7f3d52-9d0e-4f3b-8b1a-0e6f3f0c9a11"
_LETTER: dict[str, Any] = {
    "dead_letter_id": DEAD_LETTER_ID,
    "status": "open",
    "worker": "store",
    "reason": "unstorable",
    "detail": "UntranslatableCharacterError: unsupported Unicode escape sequence",
    "attempts": 1,
    "event_id": "order-4711",
    "event_type": "order",
    "user_id": "u1",
    "client_id": "slc_9f86d081884c7d659a2feaa0c55ad015",
    "received_at": "2026-01-02T03:04:05.678Z",
    "edited": False,
    "created_at": "2026-01-02T03:04:06.789Z",
    "changed_at": "2026-01-02T03:04:06.789Z",
}
_PAYLOAD = {
    "tenant_id": "6f1c1d2e-55aa-4b43-9a1e-0d3c5c1f7a10",
    "client_id": _LETTER["client_id"],
    "received_at": "2026-01-02T03:04:05.678000Z",
    "event_id": "order-4711",
    "event_type": "order",
    "user_id": "u1",
    "timestamp": "2026-01-02T03:04:05Z",
    "metadata": {"note": "\0"},
}

Status = Literal["open", "queued", "sent", "resolved", "discarded"]
Worker = Literal["store", "index"]
Reason = Literal["not a record", "unstorable", "unknown tenant", "not indexable"]


class LetterAnswer(BaseModel):
    """`worker` `store`: the event is not stored and not counted; `index`: it is, and only search does not find it.
    `detail` names the fault. `attempts` counts those that failed. The event's members are those that a retry would send
    now; null: not known. `edited`: they differ from the original.
    """

    dead_letter_id: UUID
    status: Status
    worker: Worker
    reason: Reason
    detail: str
    attempts: int
    event_id: str | None
    event_type: str | None
    user_id: str | None
    client_id: str | None
    received_at: Moment | None
    edited: bool
    created_at: Moment
    changed_at: Moment

    model_config = ConfigDict(json_schema_extra={"example": _LETTER})

    @classmethod
    def of(cls, letter: Letter) -> LetterAnswer:
        return cls(**{name: getattr(letter, name) for name in cls.model_fields})


class WholeLetterAnswer(LetterAnswer):
    """`payload` is the original, byte for byte, if it is JSON, else null and `payload_base64` is; `edit` the event that
    a retry sends in its place.
    """

    payload: Any = Field(description="Any JSON value.")
    payload_base64: str | None
    edit: dict[str, Any] | None

    model_config = ConfigDict(
        json_schema_extra={"example": {**_LETTER, "payload": _PAYLOAD, "payload_base64": None, "edit": None}}
    )


class LettersAnswer(BaseModel):
    """`next_cursor` asks for the following page with the same parameters; null on the last one."""

    dead_letters: list[LetterAnswer]
    next_cursor: str | None

    model_config = ConfigDict(json_schema_extra={"example": {"dead_letters": [_LETTER], "next_cursor": None}})


class ChangedAnswer(BaseModel):
    """`remaining`: how many more there are that the same request would change."""

    changed: int
    remaining: int

    model_config = ConfigDict(json_schema_extra={"example": {"changed": 1000, "remaining": 234}})


def whole_letter(whole: WholeLetter, **further: Any) -> bytes:
    """A `WholeLetterAnswer` as JSON, in which the payload is not written anew: no digit and no escape of it changes."""
    payload = _as_json(whole.payload)
    told = LetterAnswer.of(whole.letter).model_dump(mode="json") | further
    told["payload"] = payload
    told["payload_base64"] = None if payload is not None else b64encode(whole.payload).decode()
    told["edit"] = None if whole.retry_payload is None else msgspec.Raw(whole.retry_payload)
    return msgspec.json.encode(told)


def _as_json(payload: bytes) -> msgspec.Raw | None:
    """`payload` if every reader takes it: a depth or a lone surrogate that some refuse is better sent as base64."""
    try:
        document = json.loads(payload.decode(), parse_int=str, parse_float=str, parse_constant=_no_json)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return msgspec.Raw(payload)


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is Python's, and not JSON")


def origin(letter: Letter) -> dict[str, Any]:
    """Where in the log a letter is from: for operators, as offsets tell how much other tenants send."""
    index = letter.record_index if letter.record_index >= 0 else None
    return {"topic": letter.topic, "partition": letter.source_partition, "offset": letter.source_offset, "index": index}
