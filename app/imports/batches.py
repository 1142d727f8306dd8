"""Cutting a stream of lines into batches. Pure: what the bounds are is learnt by whoever sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from app.imports.lines import Line

DEFAULT_MAX_BYTES = 4 * 2**20
"""Below the API's 10 MiB, and little enough to hold one for each request in flight."""


@dataclass(slots=True)
class Bounds:
    """What one batch may hold. Only ever lowered, when the API says that it takes less."""

    events: int
    bytes: int = DEFAULT_MAX_BYTES

    def lower(self, *, events: int | None = None, size: int | None = None) -> None:
        self.events = max(1, min(self.events, events or self.events))
        self.bytes = max(1, min(self.bytes, size or self.bytes))


def batches(lines: Iterable[Line], bounds: Bounds) -> Generator[list[Line]]:
    """All `lines` in order, in non-empty batches within `bounds` as they are at that moment.

    Bytes are those of the NDJSON body, line ends included. A line that is alone too large is a batch of its own. If
    reading `lines` fails, what was read before comes out before the error does.
    """
    batch: list[Line] = []
    size = 0
    try:
        for line in lines:
            length = len(line.body) + 1
            if batch and (len(batch) >= bounds.events or size + length > bounds.bytes):
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += length
    except Exception:  # whatever ends the input, what was read before it is sent; then it is raised on
        if batch:
            yield batch
        raise
    if batch:
        yield batch
