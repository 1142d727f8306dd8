"""What waits for one key, and which of it forms the next record. Knows neither Kafka nor who waits."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from app.events.record import RECORD_LIMIT_BYTES, AcceptedEvent, encode_events

MAX_FLYING = 4
"""Records of one chain under way at once."""


class Outcome(Enum):
    """What is known of published events."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    """Not acknowledged in time: they may be stored or not. The same ids may be sent again."""
    NOT_TAKEN = "not taken"
    """Too many bytes wait for Kafka, or they have waited for too long: nothing of them was sent."""


@dataclass(slots=True)
class Piece:
    """Events of one request and chain, encoded once. `done` is the request's; `deadline` is by `time.monotonic`."""

    data: bytes
    deadline: float
    done: asyncio.Future[Outcome]

    def settle(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)


@dataclass(slots=True)
class Chain:
    """What waits for one key. Only full records are sent while another is under way, so small ones keep gathering."""

    name: tuple[UUID, str, int]
    partition: int
    key: bytes
    waiting: deque[Piece] = field(default_factory=deque)
    waiting_bytes: int = 0
    flying: int = 0
    starting: bool = False
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def tenant_id(self) -> UUID:
        return self.name[0]

    @property
    def client_id(self) -> str:
        return self.name[1]

    def add(self, piece: Piece) -> None:
        self.waiting.append(piece)
        self.waiting_bytes += len(piece.data)

    def due(self) -> bool:
        """Whether a record should be sent now."""
        if not self.waiting:
            return False
        return not self.flying or (self.flying < MAX_FLYING and self.waiting_bytes >= RECORD_LIMIT_BYTES)

    def take(self) -> list[Piece]:
        """The next record's pieces: at least one, and more as long as they fit."""
        taken = [self.waiting.popleft()]
        size = len(taken[0].data)
        while self.waiting and size + len(self.waiting[0].data) <= RECORD_LIMIT_BYTES:
            piece = self.waiting.popleft()
            size += len(piece.data)
            taken.append(piece)
        self.waiting_bytes -= size
        return taken

    def drop_first(self, piece: Piece) -> bool:
        """Remove `piece` if it is the next one, and say whether it was."""
        if not self.waiting or self.waiting[0] is not piece:
            return False
        self.waiting_bytes -= len(self.waiting.popleft().data)
        return True


def pieces_of(events: list[AcceptedEvent]) -> list[bytes]:
    """The events encoded, in pieces that each fit a record; a single event always does."""
    data = encode_events(events)
    if len(data) <= RECORD_LIMIT_BYTES or len(events) == 1:
        return [data]
    middle = len(events) // 2
    return pieces_of(events[:middle]) + pieces_of(events[middle:])
