"""Results as people read them: a table on the terminal, and the same in docs/performance.md. Computes nothing."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "ingest-and-store.json"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_MARKED = re.compile(r"(<!-- table: `make bench` -->\n).*?(<!-- end of table -->)", re.DOTALL)
_COLUMNS = ("row", "work", "measured", "reference", "ratio", "aim", "beside")


def cells(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One tuple of texts a row, in the order of `_COLUMNS`; medians of the rounds."""
    return [
        (
            str(row["number"]),
            row["name"],
            *_measured(row),
            ", ".join(f"{name} {value:.1f}" for name, value in row["notes"].items()),
        )
        for row in report["rows"]
    ]


def _measured(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """What was measured, the reference, their ratio and its aim. A row without a reference aims at a time at most."""
    subject = statistics.median(row["subject"])
    if row["ratio"] is None:
        return f"{subject:.1f} {row['unit']}", "", "", f"≤ {row['aim']:.0f} {row['unit'].partition('/')[0]}"
    reference = statistics.median(row["reference"])
    return f"{subject:,.0f} {row['unit']}", f"{reference:,.0f}", f"{row['ratio']:.2f}", f"≥ {row['aim']:.2f}"


def show(report: dict[str, Any]) -> None:
    table = Table(*_COLUMNS)
    for row in cells(report):
        table.add_row(*row)
    Console(width=180).print(table)


def markdown(report: dict[str, Any]) -> str:
    """The table for the page, with where and when it was measured."""
    machine = report["machine"]
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n"
    body = "".join(f"| {' | '.join(row)} |\n" for row in cells(report))
    pinned = "pinned" if report["pinned"] else "not pinned"
    where = f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}, {pinned}"
    return f"{head}{body}\nMeasured {report['measured_at'][:10]} on {where}.\n"


def document(report: dict[str, Any], page: Path = PAGE) -> None:
    """Put the table into the page, between its marks."""
    text = page.read_text(encoding="utf-8")
    page.write_text(_MARKED.sub(lambda found: found[1] + markdown(report) + found[2], text), encoding="utf-8")
