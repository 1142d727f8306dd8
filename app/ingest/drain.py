"""What a request does while its tenant moves to other shards: it waits for the end of that, or is not taken.

Owns the wait. When a move begins and ends is the `maintain` worker's to say (`workers.shards`); the directory tells.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from app.errors import UnavailableError
from app.events.record import AcceptedEvent, encode_events
from tenants.limits.buckets import retry_after

if TYPE_CHECKING:
    from app.state import State
    from tenants.snapshot import TenantRecord


async def shards_in_force(state: State, known: TenantRecord, events: list[AcceptedEvent]) -> int:
    """Over how many shards to spread `events` now, without an await between the answer and its use. `known`: the tenant
    as the request met it, which holds if the tenant was suspended since.

    Raises:
        UnavailableError: the tenant still moves after as long as a request waits for Kafka, or too many bytes wait.
    """
    if state.directory.is_stale():
        await state.directory.catch_up()
    tenant = state.directory.tenant(known.tenant_id) or known
    now = time.monotonic()
    if tenant.moves_until <= now:
        return tenant.limits.shards
    deadline = now + state.settings.produce_timeout_seconds
    with state.publisher.holding(known.tenant_id, len(encode_events(events))) as there_is_room:
        while there_is_room and now < deadline:
            await state.directory.next_change(min(deadline, tenant.moves_until) - now)
            tenant = state.directory.tenant(known.tenant_id) or known
            now = time.monotonic()
            if tenant.moves_until <= now:
                return tenant.limits.shards
    raise UnavailableError(
        "The tenant is being moved to other shards; none of these events was taken. Send them again.",
        headers={"Retry-After": str(retry_after(1.0))},
        extra={"event_ids": [event.event_id for event in events]},
    )
