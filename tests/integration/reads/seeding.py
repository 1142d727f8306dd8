"""Events put into the database as the store worker would: under its role, aggregates in step, one transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg


@dataclass(frozen=True)
class Seeded:
    """An event to store and to count again."""

    timestamp: datetime
    event_type: str = "click"
    user_id: str | None = "u1"
    client_id: str = "c1"
    metadata: dict[str, Any] = field(default_factory=dict)
    event_id: str = field(default_factory=lambda: uuid4().hex)


async def store(connection: asyncpg.Connection, tenant_id: UUID, events: Sequence[Seeded]) -> None:
    """Insert `events` and what they add to the aggregates; `connection` logs in as sluice_worker."""
    async with connection.transaction():
        await connection.execute("select set_config('app.tenant_ids', $1, true)", f"{{{tenant_id}}}")
        await connection.executemany(
            """
            insert into events (tenant_id, event_id, event_type, user_id, client_id, "timestamp",
                received_at, index_slice, source_partition, source_offset, metadata)
            values ($1, $2, $3, $4, $5, $6, now(), 202601, 0, 0, $7::jsonb)
            """,
            [
                (tenant_id, e.event_id, e.event_type, e.user_id, e.client_id, e.timestamp, json.dumps(e.metadata))
                for e in events
            ],
        )
        await connection.executemany(
            """
            insert into aggregated_events as kept (tenant_id, bucket, event_type, client_id, count)
            values ($1, date_bin('15 minutes', $2::timestamptz, 'epoch'), $3, $4, 1)
            on conflict (tenant_id, bucket, event_type, client_id) do update set count = kept.count + 1
            """,
            [(tenant_id, e.timestamp, e.event_type, e.client_id) for e in events],
        )


def seeded(seed: int) -> Random:
    """Chance that is the same in every run."""
    return Random(seed)


def scattered(random: Random, around: datetime, count: int, *, days: float) -> list[Seeded]:
    """Events near `around`, many of them exactly on or a microsecond beside an edge of a quarter of an hour."""
    events = []
    for _ in range(count):
        timestamp = around + timedelta(seconds=random.uniform(-days, days) * 86400)
        if random.random() < 0.4:
            timestamp = datetime.fromtimestamp(timestamp.timestamp() // 900 * 900, UTC)
            timestamp += timedelta(microseconds=random.choice([-1, 0, 0, 1]))
        events.append(
            Seeded(
                timestamp,
                event_type=random.choices(["click", "view", "注册", "all"], [6, 3, 2, 1])[0],
                user_id=random.choice(["u1", "u2", "u3", "ü/4", None]),
                client_id=random.choice(["c1", "c2"]),
            )
        )
    return events
