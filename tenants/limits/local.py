"""Token buckets of one process alone, for as long as Redis does not answer: each process grants its share.

What a process granted by itself Redis never learns, so an outage may grant up to a burst more per tenant.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from tenants.limits.buckets import OwnBucket
    from tenants.plans import ClientLimits, TenantLimits


@dataclass(frozen=True, slots=True)
class Answer:
    """For one tenant: a text of 0 and 1, one for each cost; tokens left to it and to its clients by id.

    `share` of rate and burst is what was granted from: 1, or what this process has of it.
    """

    granted: str
    tokens: float
    owns: Mapping[str, float]
    share: float = 1.0


class LocalBuckets:
    """`processes` of them together grant what one bucket would, if load is spread evenly.

    A request larger than the share is granted when the share is full, and paid off afterwards, so that a burst that
    fits the tenant's bucket is not refused for as long as Redis is away.
    """

    def __init__(self, processes: int) -> None:
        self._share = 1 / processes
        self._held: dict[UUID | str, tuple[float, float]] = {}

    def take(
        self,
        tenant_id: UUID,
        limits: TenantLimits,
        costs: Sequence[int],
        owns: Mapping[str, OwnBucket],
        places: Sequence[str | None],
    ) -> Answer:
        """As the script: first come, first served, whole or not at all, from both buckets or from neither.

        `places`: for each cost the client whose own bucket it is taken from too, or None.
        """
        now = time.monotonic()
        tokens = self._tokens(tenant_id, limits, now)
        left = {client_id: self._tokens(client_id, own.limits, now) for client_id, own in owns.items()}
        granted = []
        for cost, place in zip(costs, places, strict=True):
            fits = self._fits(cost, limits, tokens)
            if place is not None:
                fits = fits and self._fits(cost, owns[place].limits, left[place])
                left[place] -= cost if fits else 0
            tokens -= cost if fits else 0
            granted.append("1" if fits else "0")
        self._held[tenant_id] = (tokens, now)
        self._held.update((client_id, (each, now)) for client_id, each in left.items())
        return Answer("".join(granted), tokens, left, self._share)

    def _tokens(self, key: UUID | str, limits: TenantLimits | ClientLimits, now: float) -> float:
        full = limits.burst * self._share
        tokens, since = self._held.get(key, (full, now))
        return min(full, tokens + (now - since) * limits.events_per_second * self._share)

    def _fits(self, cost: int, limits: TenantLimits | ClientLimits, tokens: float) -> bool:
        return tokens >= min(cost, limits.burst * self._share)
