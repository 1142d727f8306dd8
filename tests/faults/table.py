"""The table of the fault suite: on the terminal, in bench/results/faults.json and in docs/reliability.md.

Owns how rows are written and read. Refuses to judge them: the tests do.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "bench" / "results" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"
_MARKED = re.compile(r"(<!-- table: `make faults` -->\n).*?(<!-- end of table -->)", re.DOTALL)
_COLUMNS = ("fault", "sent", "acknowledged", "stored", "lost", "doubled", "seconds to recover", "tried again")


@dataclass(frozen=True)
class Row:
    """What became of the events that were sent around one fault.

    `lost`: acknowledged and not stored. `doubled`: counted more than once by any place. `seconds`: from the end of
    the cause until a new event was acknowledged, stored and found. `retries`: requests that had to be made again.
    """

    fault: str
    sent: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    seconds: float
    retries: int


def text(rows: list[Row]) -> str:
    """The table with aligned columns."""
    lines = [_COLUMNS, *map(_cells, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def report(rows: list[Row]) -> dict[str, Any]:
    """What is written down of a run."""
    machine = {"cores": psutil.cpu_count(), "system": platform.system(), "python": platform.python_version()}
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"measured_at": measured_at, "machine": machine, "rows": [asdict(row) for row in rows]}


def markdown(found: dict[str, Any]) -> str:
    """The table for the page, with where and when it was measured."""
    machine = found["machine"]
    head = f"| {' | '.join(_COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 1)}\n"
    body = "".join(f"| {' | '.join(_cells(Row(**row)))} |\n" for row in found["rows"])
    where = f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    return f"{head}{body}\nMeasured {found['measured_at'][:10]} on {where}.\n"


def write(found: dict[str, Any], results: Path = RESULTS, page: Path = PAGE) -> None:
    """Keep the run's results, and put its table into the page, between its marks."""
    results.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    old = page.read_text(encoding="utf-8")
    page.write_text(_MARKED.sub(lambda marked: marked[1] + markdown(found) + marked[2], old), encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.sent, row.acknowledged, row.stored, row.lost, row.doubled)
    return (row.fault, *(f"{number:,}" for number in numbers), f"{row.seconds:.1f}", f"{row.retries:,}")
