"""How far a download is: a bar on a terminal, plain lines otherwise. Owns no downloading."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LINE_EACH_SECONDS = 10.0


class Meter(Protocol):
    """Told about bytes as they arrive, from any thread."""

    def begin(self, label: str, total: int) -> Callable[[int], None]: ...


class _Lines:
    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._lock = threading.Lock()

    def begin(self, label: str, total: int) -> Callable[[int], None]:
        self._report(f"downloading {label} ({total / 1e6:.0f} MB)")
        done, said = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done, said
            with self._lock:
                done += count
                if time.monotonic() - said > _LINE_EACH_SECONDS:
                    said = time.monotonic()
                    self._report(f"downloading {label}: {100 * done // total} %")

        return advance


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, label: str, total: int) -> Callable[[int], None]:
        task = self._progress.add_task(label, total=total)
        return lambda count: self._progress.advance(task, count)


@contextmanager
def meter(report: Callable[[str], None]) -> Iterator[Meter]:
    """Bars on stderr where that is a terminal, else a line at the start and one each ten seconds."""
    if not sys.stderr.isatty():
        yield _Lines(report)
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bars(progress)
