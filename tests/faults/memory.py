"""Resident memory of processes while events pass through: samples, how much it grew, and a plot. Measures only."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psutil
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent.parent.parent / "bench" / "results"
MIB = 2**20
_ABOUT = 0.05
"""Share of all events around a point that counts as being there."""


@dataclass(frozen=True)
class Sample:
    """At one moment: how many events all had handled, and the MiB of each process by name."""

    seconds: float
    events: int
    mib: dict[str, float]


def sample(seconds: float, events: int, pids: Mapping[str, int]) -> Sample:
    """Of now."""
    mib = {name: round(psutil.Process(pid).memory_info().rss / MIB, 1) for name, pid in pids.items()}
    return Sample(round(seconds, 1), events, mib)


def growth(samples: Sequence[Sample], process: str) -> float:
    """MiB that the process grew by from half of the events to the end; medians of what was seen about there."""
    events = samples[-1].events

    def about(share: float) -> float:
        return statistics.median(
            each.mib[process] for each in samples if abs(each.events - share * events) <= _ABOUT * events
        )

    return round(about(1.0) - about(0.5), 1)


def write(samples: Sequence[Sample], bound: float, folder: Path = RESULTS) -> None:
    """memory.json and memory.svg."""
    processes = list(samples[0].mib)
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": psutil.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "events": samples[-1].events,
        "bound_mib": bound,
        "growth_mib": {process: growth(samples, process) for process in processes},
        "samples": [asdict(each) for each in samples],
    }
    (folder / "memory.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with mpl.rc_context({"svg.hashsalt": "sluice", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        for process in processes:
            axes.plot([each.events for each in samples], [each.mib[process] for each in samples], label=process)
        axes.set_title(f"Resident memory while {samples[-1].events:,} events pass through")
        axes.set_xlabel("events stored and indexed")
        axes.set_ylabel("resident memory (MiB)")
        axes.set_xlim(0, samples[-1].events)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(title="process")
        figure.savefig(folder / "memory.svg", format="svg", metadata={"Date": None})
