"""What the gateway makes of a case, decided in this process by the very functions that it decides with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import AppError
from app.events.model import MAX_EVENT_BYTES, Receipt
from app.events.record import AcceptedEvent
from app.ingest.content import MAX_BATCH_BYTES, decode_batch, decode_single, media_type, read_body
from tests.fuzz.bodies import Case


@dataclass(frozen=True)
class Verdict:
    """The status, the accepted events, and the pointers of all faults by the event's place."""

    status: int
    accepted: Sequence[AcceptedEvent] = ()
    pointers: dict[int, set[str]] | None = None


async def verdict_on(case: Case, receipt: Receipt) -> Verdict:
    """As `app.ingest.endpoint` goes about it; whatever is raised but an `AppError` would be a 500."""
    headers = {name.lower().encode(): value.encode() for name, value in case.headers.items()}
    try:
        if not case.is_batch:
            body = await read_body(_whole(case.content), headers, MAX_EVENT_BYTES)
            return Verdict(202, [decode_single(body, media_type(headers), receipt)])
        kind = media_type(headers)
        batch = decode_batch(await read_body(_whole(case.content), headers, MAX_BATCH_BYTES), kind, receipt)
    except AppError as error:
        return Verdict(error.status, pointers={0: {fault.pointer for fault in error.faults}})
    pointers = {rejected.index: {fault.pointer for fault in rejected.faults} for rejected in batch.rejected}
    return Verdict(202 if batch.accepted else 422, batch.accepted, pointers)


def _whole(content: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


def check(case: Case, verdict: Verdict) -> None:
    """The verdict is one of those that the case allows, and says each fault's place where that is known."""
    assert verdict.status in case.statuses, f"{verdict.status}, not {set(case.statuses)}: {case}"
    if case.taken is not None:
        assert len(verdict.accepted) == case.taken, f"{len(verdict.accepted)} taken, not {case.taken}: {case}"
    if case.pointers is not None:
        found = verdict.pointers or {}
        expected = {index: {pointer} for index, pointer in case.pointers.items()}
        assert found == expected, f"faults at {found}, not at {expected}: {case}"
