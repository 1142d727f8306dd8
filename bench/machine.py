"""Pinning: the measured process on one core, everything else on the other. Says so where the system can't."""

from __future__ import annotations

import psutil

MEASURED, OTHERS = [0], [1]


def can_pin() -> bool:
    """Two cores, and a system that lets us choose (Linux)."""
    return hasattr(psutil.Process, "cpu_affinity") and (psutil.cpu_count() or 1) > 1


def pin(pid: int, cores: list[int]) -> None:
    """Keep `pid`, its threads and its children on `cores`."""
    if not can_pin():
        return
    process = psutil.Process(pid)
    for member in [process, *process.children(recursive=True)]:
        for thread in member.threads():
            psutil.Process(thread.id).cpu_affinity(cores)
        member.cpu_affinity(cores)


def cpu_seconds(pid: int) -> float:
    """Processor time that `pid` has used, user and system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)
