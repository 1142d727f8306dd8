"""Tenants whose plan wants another number of shards than is in force: moved there without breaking a user's order.

A duty of the `maintain` worker. A move has three steps: gateways learn that they must hold the tenant's events back,
what they had sent before is stored, the new number is put in force. Owns when each begins and how long it may take;
holding back is the gateways' (`app.ingest.drain`), which stop by themselves should this die.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.events.record import partition_key
from app.partitions import partition_of
from tenants.directory import STALE_SECONDS
from tenants.snapshot import DRAIN_SECONDS
from workers.connections import Role
from workers.offsets import positions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from app.settings import MaintainSettings
    from workers.connections import Connections

log = structlog.get_logger()

AT_ONCE = 50
"""Tenants that move at the same time, of all that a change of a plan concerns."""

GIVE_UP_SECONDS = DRAIN_SECONDS - 10.0
"""A move that takes longer is ended without a change, well before gateways stop heeding it."""

REST_SECONDS = 300.0
"""For so long a tenant whose move was given up is left alone."""

MARGIN_SECONDS = 0.5
BEHIND_SECONDS = 5.0
"""No move begins unless the store has stored what was in the log so long ago: its tenants would wait in vain."""

_MOVES = """
select t.tenant_id, t.shards, p.shards as wanted, t.drain_started_at as began,
       extract(epoch from clock_timestamp() - t.drain_started_at)::float8 as age
from tenants t join plans p using (plan_id)
where t.status in ('active', 'suspended') and (t.shards <> p.shards or t.drain_started_at is not null)
order by t.drain_started_at nulls last, t.tenant_id
limit $1
"""
_BEGIN = """
update tenants set drain_started_at = clock_timestamp()
where tenant_id = any ($1::uuid[]) and drain_started_at is null
"""
_END = """
update tenants t set drain_started_at = null, shards = case when m.moves then p.shards else t.shards end
from unnest($1::uuid[], $2::timestamptz[], $3::boolean[]) as m (tenant_id, began, moves), plans p
where t.tenant_id = m.tenant_id and t.drain_started_at = m.began and p.plan_id = t.plan_id
    and (not m.moves or clock_timestamp() < m.began + make_interval(secs => $4))
"""

Ends = dict[int, int]
"""By partition, the offset after its last record."""


@dataclass(frozen=True)
class Move:
    """One row of `_MOVES`."""

    tenant_id: UUID
    shards: int
    wanted: int
    began: datetime | None
    age: float | None


class Shards:
    """Its moves are in PostgreSQL; what it remembers of them between turns may be lost."""

    def __init__(self, settings: MaintainSettings, connections: Connections) -> None:
        self._settings = settings
        self._connections = connections
        self._settle_seconds = STALE_SECONDS + settings.produce_timeout_seconds + MARGIN_SECONDS
        self._sent: dict[tuple[UUID, datetime], Ends] = {}
        self._looked: tuple[float, Ends] | None = None
        self._resting: dict[UUID, float] = {}

    async def turn(self) -> bool:
        """Take each move as far as it can go now; never is there more to do at once."""
        now = time.monotonic()
        self._resting = {tenant_id: until for tenant_id, until in self._resting.items() if until > now}
        connection = await self._connections.of(Role.AUTH)
        found = await connection.fetch(_MOVES, 2 * AT_ONCE + len(self._resting))
        moves = [Move(*row) for row in found]
        begun = [move for move in moves if move.began is not None]
        open_moves = {(move.tenant_id, move.began) for move in begun}
        self._sent = {key: ends for key, ends in self._sent.items() if key in open_moves}
        if begun:
            await self._go_on(connection, begun)
        waiting = [move.tenant_id for move in moves if move.began is None and move.tenant_id not in self._resting]
        if waiting and len(begun) < AT_ONCE:
            await self._begin(connection, waiting[: AT_ONCE - len(begun)])
        return False

    async def _begin(self, connection: asyncpg.Connection, tenants: Sequence[UUID]) -> None:
        """Begin the moves of `tenants` once the store has been seen to keep up."""
        now = time.monotonic()
        if self._looked is None or now - self._looked[0] > BEHIND_SECONDS:
            if self._looked is not None:
                log.warning("tenants can't move to other shards: the store is behind", tenants=len(tenants))
            self._looked = now, await self._log_ends()
        if await self._stored(self._looked[1]):
            self._looked = None
            await connection.execute(_BEGIN, tenants)
            log.info("tenants move to other shards", tenants=len(tenants))

    async def _go_on(self, connection: asyncpg.Connection, moves: Sequence[Move]) -> None:
        """End those moves that are done, not wanted any more, or have taken too long."""
        ready = [
            move
            for move in moves
            if move.shards != move.wanted and self._settle_seconds <= (move.age or 0.0) < GIVE_UP_SECONDS
        ]
        fresh = [move for move in ready if (move.tenant_id, move.began) not in self._sent]
        if fresh:
            ends = await self._log_ends()
            for move in fresh:
                assert move.began is not None  # noqa: S101  as `turn` chose them
                self._sent[move.tenant_id, move.began] = of_tenant(ends, move.tenant_id, move.shards)
        ended: list[tuple[UUID, datetime | None, bool]] = []
        reached = await self._positions() if ready else {}
        for move in moves:
            if move in ready:
                assert move.began is not None  # noqa: S101  as above
                if passed(reached, self._sent[move.tenant_id, move.began]):
                    ended.append((move.tenant_id, move.began, True))
            elif move.shards == move.wanted or (move.age or 0.0) >= GIVE_UP_SECONDS:
                ended.append((move.tenant_id, move.began, False))
                if (move.tenant_id, move.began) in self._sent:  # else whoever began it has died, and it begins anew
                    self._resting[move.tenant_id] = time.monotonic() + REST_SECONDS
                    log.warning("a move to other shards took too long", tenant_id=str(move.tenant_id))
        if ended:
            await connection.execute(_END, *map(list, zip(*ended, strict=True)), GIVE_UP_SECONDS)
            log.info("moves to other shards ended", tenants=len(ended), moved=sum(moved for *_, moved in ended))

    async def _stored(self, ends: Ends) -> bool:
        return passed(await self._positions(), ends)

    async def _positions(self) -> Ends:
        group = self._settings.group("store")
        return await positions(await self._connections.of(Role.WORKER), group, self._settings.raw_topic)

    async def _log_ends(self) -> Ends:
        consumer = AIOKafkaConsumer(
            self._settings.raw_topic, bootstrap_servers=self._settings.kafka_bootstrap, enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = consumer.partitions_for_topic(self._settings.raw_topic) or ()
            found = await consumer.end_offsets([TopicPartition(self._settings.raw_topic, p) for p in partitions])
            return {tp.partition: end for tp, end in found.items()}
        finally:
            await consumer.stop()


def of_tenant(ends: Ends, tenant_id: UUID, shards: int) -> Ends:
    """Those of `ends` that records of the tenant may lie before, while it has so many shards."""
    keys = [partition_key(tenant_id, shard, shards) for shard in range(shards)]
    return {partition: ends[partition] for partition in {partition_of(key, len(ends)) for key in keys}}


def passed(reached: Ends, ends: Ends) -> bool:
    """Whether all that lies before `ends` was stored."""
    return all(reached.get(partition, 0) >= end for partition, end in ends.items())
