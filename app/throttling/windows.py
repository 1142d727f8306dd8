"""Counters of fixed windows in this process's memory, as a storage of `limits`. Knows nothing of what is counted.

In place of limits' own MemoryStorage, whose expiry runs in a thread: that walks all keys each 10 ms while requests
come, and fails with KeyError when a request drops a key under it. Here a count costs the same however many keys there
are, and the oldest windows make room, so that memory has a bound. For the event loop's thread alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from limits.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEME = "sluice-windows"

CAPACITY = 100_000
"""Windows kept at once, some 30 MB."""


class Windows(Storage):
    """A window begins with its key's first count and ends `expiry` seconds later. Ends are seconds since 1970."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012  as the base class declares it

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = CAPACITY,
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        self._clock = clock
        self._capacity = capacity
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What a storage of this kind can fail with: nothing."""
        return ()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, in a new window if there is none that has not ended. Returns the window's count."""
        now = self._clock()
        count, end = self._windows.get(key, (0, 0.0))
        if end <= now:
            self._windows.pop(key, None)
            self._make_room(now)
            count, end = 0, now + expiry
        self._windows[key] = (count + amount, end)
        return count + amount

    def _make_room(self, now: float) -> None:
        """Drop what has ended at the front, where the windows that began first are, and what is too many."""
        while self._windows:
            _, end = next(iter(self._windows.values()))
            if end > now and len(self._windows) < self._capacity:
                return
            self._windows.popitem(last=False)

    def get(self, key: str) -> int:
        """The count of the key's window; 0 if there is none."""
        count, end = self._windows.get(key, (0, 0.0))
        return count if end > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends; now, if there is none."""
        now = self._clock()
        return max(now, self._windows.get(key, (0, now))[1])

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forget everything; returns how many windows that were."""
        forgotten = len(self._windows)
        self._windows.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Forget the key's window."""
        self._windows.pop(key, None)
