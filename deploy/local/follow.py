"""The readable log of a running stack: what its components append to their log files, a line at a time.

Owns reading along; the files themselves are written by the components, so that they outlive whoever reads.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_POLL_SECONDS = 0.2
_AT_ONCE_BYTES = 1 << 20
# The servers talk about themselves at length; their files have it all.
_QUIET = ("postgres", "redis", "kafka", "elasticsearch")
_LOUD = ("ERROR", "FATAL", "PANIC")


class Follower:
    def __init__(self, logs: Mapping[str, Path], show: Callable[[str, str], None]) -> None:
        self._logs = logs
        self._show = show
        self._read = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
        self._rest = dict.fromkeys(logs, b"")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for name in self._logs:
                for line in self.fresh(name):
                    if name not in _QUIET or any(word in line for word in _LOUD):
                        with suppress(OSError):  # the terminal may be gone
                            self._show(name, line)
            await asyncio.sleep(_POLL_SECONDS)

    def fresh(self, name: str) -> list[str]:
        """Whole lines that were added since the last look."""
        try:
            with self._logs[name].open("rb") as file:
                if file.seek(0, 2) < self._read[name]:  # a new file has taken its place
                    self._read[name] = 0
                file.seek(self._read[name])
                chunk = file.read(_AT_ONCE_BYTES)
        except FileNotFoundError:
            return []
        self._read[name] += len(chunk)
        *lines, self._rest[name] = (self._rest[name] + chunk).split(b"\n")
        return [line.decode(errors="replace") for line in lines]
