"""Events that gateways refused, by tenant, client and hour: counted in memory, added to `usage` every few seconds.

Best effort: what a process that is killed had not written is lost, and what comes while too much waits is left out and
counted in a metric. Refuses to own the other half of usage, which is exact (`workers.usage`).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.metrics import USAGE_UNWRITTEN

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

FLUSH_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 3.0
MOST_KEYS = 50_000
HOUR = 3600

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# A tenant that is being deleted gets no more rows: its row is locked against the request to delete it, and its
# absence here is final. In the order of the key, as the store worker adds to the same rows.
_ADD = text("""
    with kept as materialized (
        select tenant_id from tenants
        where tenant_id = any(cast(:tenants as uuid[])) and status in ('active', 'suspended')
        order by tenant_id for key share
    )
    insert into usage (tenant_id, hour, client_id, rejected, throttled)
    select tenant_id, hour, client_id, rejected, throttled
    from unnest(cast(:tenants as uuid[]), cast(:hours as timestamptz[]), cast(:clients as text[]),
                cast(:rejected as bigint[]), cast(:throttled as bigint[]))
        as refused (tenant_id, hour, client_id, rejected, throttled)
    join kept using (tenant_id)
    order by tenant_id, hour, client_id collate "C"
    on conflict (tenant_id, hour, client_id) do update set
        rejected = usage.rejected + excluded.rejected, throttled = usage.throttled + excluded.throttled
""")


class Refusals:
    """One process's counts. `run` adds them every five seconds, `flush` at once; `engine` logs in as sluice_auth."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: dict[tuple[UUID, int, str], list[int]] = {}

    def rejected(self, tenant_id: UUID, client_id: str, events: int) -> None:
        """Count events that were not valid; a request of which none could be read is one."""
        self._count(tenant_id, client_id, 0, events)

    def throttled(self, tenant_id: UUID, client_id: str, events: int) -> None:
        """Count events over a limit or quota; a request that was refused before its body was read is one."""
        self._count(tenant_id, client_id, 1, events)

    def _count(self, tenant_id: UUID, client_id: str, column: int, events: int) -> None:
        key = (tenant_id, int(time.time()) // HOUR, client_id)
        counts = self._waiting.get(key)
        if counts is None:
            if len(self._waiting) >= MOST_KEYS:
                USAGE_UNWRITTEN.inc(events)
                return
            counts = self._waiting[key] = [0, 0]
        counts[column] += events

    async def run(self) -> None:
        """Add what was counted every five seconds, until cancelled. While PostgreSQL is away it is kept."""
        failing = False
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            failing = await self._flushed(failing)

    async def flush(self) -> None:
        """Add what was counted so far; what can't be written now is kept."""
        await self._flushed(failing=False)

    async def _flushed(self, failing: bool) -> bool:
        taken, self._waiting = self._waiting, {}
        if not taken:
            return failing
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                await self._write(taken)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            # Whether it was committed is not known if the answer was lost; then it is counted twice rather than never.
            if not failing:
                log.warning("refused events wait to be counted: PostgreSQL does not answer", error=str(error))
            self._put_back(taken)
            return True
        except asyncio.CancelledError:
            self._put_back(taken)
            raise
        return False

    async def _write(self, taken: dict[tuple[UUID, int, str], list[int]]) -> None:
        columns = {
            "tenants": [tenant_id for tenant_id, _, _ in taken],
            "hours": [datetime.fromtimestamp(hour * HOUR, UTC) for _, hour, _ in taken],
            "clients": [client_id for _, _, client_id in taken],
            "rejected": [rejected for rejected, _ in taken.values()],
            "throttled": [throttled for _, throttled in taken.values()],
        }
        async with self._engine.begin() as connection:
            await connection.execute(_ADD, columns)

    def _put_back(self, taken: dict[tuple[UUID, int, str], list[int]]) -> None:
        for key, (rejected, throttled) in taken.items():
            counts = self._waiting.setdefault(key, [0, 0])
            counts[0] += rejected
            counts[1] += throttled
