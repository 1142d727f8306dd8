"""What became of the events so far. Counts all; keeps a bounded number of rejections with their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.imports.lines import Line, Where

KEPT_REJECTIONS = 1_000
_KEPT_ERRORS = 10
_KEPT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 6901 pointer into the event (`''` is the whole line) and what is wrong there; both are cut if long."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that was not taken and why."""

    where: Where
    event_id: str | None
    problems: tuple[Problem, ...]

    def fields(self) -> dict[str, Any]:
        """As JSON: `source`, `line` or `commit`, `event_id`, `errors`."""
        at = "line" if isinstance(self.where.at, int) else "commit"
        errors = [{"pointer": problem.pointer, "detail": problem.detail} for problem in self.problems]
        return {"source": self.where.source, at: self.where.at, "event_id": self.event_id, "errors": errors}


@dataclass(slots=True)
class Tally:
    """`accepted` counts what the API has acknowledged, duplicates of what it had before included; `read`, all."""

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, line: Line, event_id: str | None, problems: list[tuple[str, str]]) -> None:
        self.rejected += 1
        if len(self.rejections) < KEPT_REJECTIONS:
            kept = tuple(Problem(_cut(pointer), _cut(detail)) for pointer, detail in problems[:_KEPT_ERRORS])
            self.rejections.append(Rejection(line.where, event_id and _cut(event_id), kept))

    def in_order(self) -> list[Rejection]:
        """The kept rejections by source and line; batches are answered in any order."""
        return sorted(self.rejections, key=_place)


def _place(rejection: Rejection) -> tuple[str, int]:
    where = rejection.where
    return where.source, where.at if isinstance(where.at, int) else 0


def _cut(text: str) -> str:
    return text if len(text) <= _KEPT_CHARACTERS else text[:_KEPT_CHARACTERS] + "…"
