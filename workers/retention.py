"""Removing what is older than a tenant's plan keeps: events, their documents, dead letters. Aggregates and usage stay.

By whole hours of receipt: an event goes within an hour after its time. Each piece is one short transaction; doing one
again removes nothing more, so any number of processes may be killed at it. Time is an argument; refuses to own when.
"""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog

from app.metrics import MAINTAIN_REMOVED
from search import execute
from search.scope import scoped
from workers.connections import Role
from workers.duties import TRANSIENT
from workers.letter_removal import remove_letters_before
from workers.removal import remove_of_time, try_to_hold_tenant
from workers.search_rebuilds import active
from workers.usage import hour_of

if TYPE_CHECKING:
    from uuid import UUID

    from elasticsearch import AsyncElasticsearch

    from app.settings import MaintainSettings
    from workers.connections import Connections

log = structlog.get_logger()

BATCH = 10_000
PIECES = 20
"""Of one tenant, before the next one has its turn."""
HOURS = 500
"""To make pieces of, at a time."""
_HOUR = timedelta(hours=1)

_LIMITED = """
select t.tenant_id, p.retention_days from tenants t join plans p using (plan_id)
where p.retention_days is not null and t.status in ('active', 'suspended') order by 1
"""
# Usage tells which hours events are left of: an index on received_at within a tenant would cost the store worker much.
_HOURS = """
select hour, sum(stored - removed)::bigint as events from usage
where tenant_id = $1 and hour < $2 and stored > removed group by 1 order by 1 limit $3
"""


class _Piece(NamedTuple):
    """Events that were received in [begin, end): at most about a batch of them, if they came evenly."""

    begin: datetime
    end: datetime


class Retention:
    """All tenants whose plan keeps events for some days, as one worker sees them."""

    def __init__(self, settings: MaintainSettings, connections: Connections, search: AsyncElasticsearch) -> None:
        self._prefix = settings.index_prefix
        self._connections = connections
        self._search = search
        self._done: dict[UUID, datetime] = {}

    async def turn(self) -> bool:
        """What is too old now."""
        return await self.remove(datetime.now(UTC))

    async def remove(self, now: datetime) -> bool:
        """Some pieces of each tenant's; True if more can be removed at once.

        Raises:
            TRANSIENT: a server does not answer.
        """
        going_on = False
        fault: Exception | None = None
        for tenant_id, days in await (await self._connections.of(Role.AUTH)).fetch(_LIMITED):
            try:
                going_on |= await self.remove_of(tenant_id, hour_of(now - timedelta(days=days)))
            except TRANSIENT as error:  # of the index, it may be: the rows of the others go nevertheless
                self._connections.drop()
                fault = error
        if fault is not None:
            raise fault
        return going_on

    async def remove_of(self, tenant_id: UUID, before: datetime) -> bool:
        """Some pieces of what the tenant's was received before the start of an hour; True as `remove`."""
        if count := await self._remove_rows(tenant_id, before):
            # What comes late, with an old time of receipt, may be in the index too.
            self._done.pop(tenant_id, None)
            log.info("retention", tenant_id=str(tenant_id), before=before.isoformat(), events=count)
            return True
        if self._done.get(tenant_id) == before:
            return False
        async with self._connections.bound(Role.WORKER, tenant_id) as connection:
            if await active(connection):
                return False
            # One that was written since the last refresh would not be deleted, as another version of it is known.
            await execute.refresh(self._search, self._prefix)
            received = {"range": {"received_at": {"lt": before.isoformat()}}}
            documents = await execute.delete(
                self._search, self._prefix, scoped(tenant_id, filters=[received]), most=BATCH
            )
            letters = await remove_letters_before(connection, tenant_id, before, BATCH)
        MAINTAIN_REMOVED.labels("retention", "search").inc(documents)
        MAINTAIN_REMOVED.labels("retention", "dead_letters").inc(letters)
        if documents or letters:
            return True
        self._done[tenant_id] = before
        return False

    async def _remove_rows(self, tenant_id: UUID, before: datetime) -> int:
        """How many were removed; 0 if all are gone, or another process is at them."""
        count = 0
        for piece in await self._pieces(tenant_id, before):
            last = BATCH
            while last == BATCH:
                async with self._connections.bound(Role.WORKER, tenant_id) as connection:
                    if not await try_to_hold_tenant(connection, tenant_id):
                        return count
                    last = (await remove_of_time(connection, tenant_id, piece.begin, piece.end, BATCH)).events
                MAINTAIN_REMOVED.labels("retention", "events").inc(last)
                count += last
        return count

    async def _pieces(self, tenant_id: UUID, before: datetime) -> list[_Piece]:
        """The oldest hours that hold events, cut or joined to about a batch each, so that a piece looks at little more
        than it removes.
        """
        async with self._connections.bound(Role.WORKER, tenant_id) as connection:
            hours = await connection.fetch(_HOURS, tenant_id, before, HOURS)
        pieces: list[_Piece] = []
        room = 0
        for hour, events in hours:
            if events <= room:
                pieces[-1] = _Piece(pieces[-1].begin, hour + _HOUR)
                room -= events
                continue
            number = math.ceil(events / BATCH)
            cuts = [hour + _HOUR * place / number for place in range(number + 1)]
            pieces += [_Piece(begin, end) for begin, end in itertools.pairwise(cuts)]
            room = BATCH - events if number == 1 else 0
        return pieces[:PIECES]
