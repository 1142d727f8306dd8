"""When a component that died is started again. Owns the rule alone, as a value with the time as an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class RestartPolicy:
    """At most `limit` restarts within `window` seconds."""

    limit: int = 5
    window: float = 60.0
    first_delay: float = 0.2
    longest_delay: float = 5.0

    def delay(self, deaths: Sequence[float], now: float) -> float | None:
        """Seconds to wait before the next start; None where the limit is reached. `deaths` include the last one."""
        recent = sum(1 for death in deaths if now - death <= self.window)
        if recent > self.limit:
            return None
        return min(self.first_delay * 2.0 ** max(0, recent - 1), self.longest_delay)
