"""The model that the stored state is held against: what is kept of one tenant's events, in a few lines.

Of events with one id the first in the log is stored; what can't be stored is a dead letter; of an erased user nothing
is left that was sent before. Crashes, broken connections, changes of ownership and replays are nothing to it. Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from app.events.record import AcceptedEvent

UNSTORABLE = msgspec.Raw(b'{"text":"\\u0000"}')
USERS = 3


class Sent(msgspec.Struct, frozen=True):
    """An event as it is sent. Its user follows from its id."""

    number: int
    event_type: str
    timestamp: datetime
    storable: bool

    @property
    def event_id(self) -> str:
        return f"e{self.number}"

    @property
    def user_id(self) -> str:
        return f"u{self.number % USERS}"

    def accepted(self) -> AcceptedEvent:
        metadata = msgspec.Raw(b"{}") if self.storable else UNSTORABLE
        return AcceptedEvent(self.event_id, self.event_type, self.timestamp, metadata, self.user_id)


Place = tuple[int, int, int]
"""Partition, offset, and the event's place in its record."""


class Letter(NamedTuple):
    """A dead letter's event, and what became of it."""

    event: Sent
    status: str = "open"
    attempts: int = 1


@dataclass
class Model:
    """What all places should hold. After an erasure nobody can say how many duplicates were seen before it."""

    rows: dict[str, Sent] = field(default_factory=dict)
    letters: dict[Place, Letter] = field(default_factory=dict)
    duplicates: int | None = 0

    def send(self, event: Sent, place: Place) -> None:
        """The next event in the log."""
        if event.storable:
            self._store(event)
        else:
            self.letters[place] = Letter(event)

    def retry(self, place: Place, *, mended: bool) -> None:
        """The letter's event is the next in the log."""
        letter = self.letters[place]
        if mended:
            self.letters[place] = letter._replace(status="resolved")
            self._store(letter.event)
        else:
            self.letters[place] = letter._replace(attempts=letter.attempts + 1)

    def erase(self, user_id: str) -> None:
        """All of the user that is in the log so far, handled or not."""
        self.rows = {event_id: row for event_id, row in self.rows.items() if row.user_id != user_id}
        self.letters = {place: each for place, each in self.letters.items() if each.event.user_id != user_id}
        self.duplicates = None

    def buckets(self) -> Counter[tuple[datetime, str]]:
        """Events by quarter of an hour and type."""
        return Counter(
            (row.timestamp.replace(minute=row.timestamp.minute // 15 * 15, second=0), row.event_type)
            for row in self.rows.values()
        )

    def _store(self, event: Sent) -> None:
        if event.event_id not in self.rows:
            self.rows[event.event_id] = event
        elif self.duplicates is not None:
            self.duplicates += 1
