"""Usage as the store writes it: exact whatever comes twice or can't be stored, and quotas noticed once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from app.events.record import AcceptedEvent, encode_events, join_record
from tests.integration.conftest import Database
from tests.integration.workers.conftest import Bench, event, record
from tests.system import until
from workers.loop import RetryLaterError
from workers.store import StoreStep
from workers.usage import BYTES

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MAY = NOON.date().replace(day=1)
_offsets = itertools.count()


@dataclass
class Sent:
    """A Kafka record as one client sent it at one moment: ids and, for each, whether PostgreSQL can hold it."""

    client_id: str
    received_at: datetime
    events: list[tuple[str, bool]]


@dataclass
class Store:
    """A store worker's step on a connection of its own, without a log."""

    connection: asyncpg.Connection
    step: StoreStep = field(default_factory=lambda: StoreStep("t"))

    async def take(self, tenant_id: UUID, batch: Iterable[Sent], partition: int = 0) -> None:
        """One batch, tried again as the loop does."""
        work = self.step.prepare([_record(tenant_id, sent, partition) for sent in batch])
        while True:
            try:
                async with self.connection.transaction():
                    await self.step.apply(self.connection, work)
            except RetryLaterError:
                continue
            return


def _record(tenant_id: UUID, sent: Sent, partition: int) -> ConsumerRecord:
    events = [
        AcceptedEvent(event_id, "t", NOON, msgspec.Raw(b'{"n":  1, "t":"\xc3\xa9"}' if good else b'{"n":"\\u0000"}'))
        for event_id, good in sent.events
    ]
    value = join_record(tenant_id, sent.client_id, sent.received_at, [encode_events(events)])
    return ConsumerRecord("t", partition, next(_offsets), 0, 0, None, value, None, 0, len(value), ())


@asynccontextmanager
async def stores(database: Database, count: int = 1) -> AsyncIterator[list[Store]]:
    connections = [
        await asyncpg.connect(database.worker_url, server_settings={"timezone": "UTC"}) for _ in range(count)
    ]
    try:
        yield [Store(connection) for connection in connections]
    finally:
        for connection in connections:
            await connection.close()


async def fetch(database: Database, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database.admin_url, server_settings={"timezone": "UTC"})
    try:
        return [tuple(row) for row in await connection.fetch(sql, *arguments)]
    finally:
        await connection.close()


async def tenant(database: Database, quota: int | None = None, status: str = "active") -> UUID:
    """A fresh tenant on a plan of its own."""
    tenant_id = uuid4()
    await fetch(
        database,
        "insert into plans (plan_id, events_per_second, burst, monthly_quota) values ($1, 1, 1, $2)",
        str(tenant_id), quota,
    )  # fmt: skip
    await fetch(
        database,
        "insert into tenants (tenant_id, name, plan_id, status) values ($1, 't', $2, $3)",
        tenant_id, str(tenant_id), status,
    )  # fmt: skip
    return tenant_id


async def notices(database: Database, tenant_id: UUID) -> list[tuple[Any, ...]]:
    return await fetch(
        database, "select month, percent, quota from quota_notices where tenant_id = $1 order by 3, 2", tenant_id
    )


def many(prefix: str, count: int, client_id: str = "c", at: datetime = NOON) -> Sent:
    return Sent(client_id, at, [(f"{prefix}{number}", True) for number in range(count)])


RECOUNT = f"""
select date_trunc('hour', received_at), client_id, count(*), sum({BYTES})::bigint
from events where tenant_id = $1 group by 1, 2 order by 1, 2
"""  # noqa: S608  a constant

moments = st.sampled_from([NOON, NOON + timedelta(minutes=59), NOON + timedelta(hours=1), NOON + timedelta(days=40)])
records = st.builds(
    Sent,
    st.sampled_from(["first", "second"]),
    moments,
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([True] * 9 + [False])), min_size=1, max_size=6),
)


@settings(max_examples=25)
@given(batches=st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=5))
def test_usage_is_a_recount_of_the_events_and_all_that_was_sent_is_stored_a_duplicate_or_dead(
    database: Database, batches: Sequence[Sequence[Sent]]
) -> None:
    async def play() -> None:
        tenant_id = await tenant(database)
        async with stores(database) as (store,):
            for batch in batches:
                await store.take(tenant_id, batch)
        kept = await fetch(
            database,
            "select hour, client_id, stored, bytes, duplicates from usage where tenant_id = $1 order by 1, 2",
            tenant_id,
        )
        assert [row[:4] for row in kept if row[2]] == await fetch(database, RECOUNT, tenant_id)
        sent: Counter[tuple[datetime, str]] = Counter()
        for each in itertools.chain(*batches):
            hour = each.received_at.replace(minute=0)
            sent[hour, each.client_id] += sum(good for _, good in each.events)
        assert {row[:2]: row[2] + row[4] for row in kept} == {key: count for key, count in sent.items() if count}
        dead = await fetch(database, "select count(*) from dead_letters where tenant_id = $1", tenant_id)
        assert dead == [(sum(not good for each in itertools.chain(*batches) for _, good in each.events),)]
        months = await fetch(database, "select month, stored from monthly_usage where tenant_id = $1", tenant_id)
        recount = await fetch(
            database,
            "select date_trunc('month', received_at)::date, count(*) from events where tenant_id = $1 group by 1",
            tenant_id,
        )
        assert {row for row in months if row[1]} == set(recount)

    asyncio.run(play())


async def test_80_and_100_percent_of_the_quota_are_noticed_once_each(database: Database) -> None:
    tenant_id = await tenant(database, quota=10)
    async with stores(database) as (store,):
        await store.take(tenant_id, [many("a", 7)])
        assert await notices(database, tenant_id) == []
        await store.take(tenant_id, [many("b", 1), many("a", 7)])
        assert await notices(database, tenant_id) == [(MAY, 80, 10)]
        before = await fetch(database, "select version from control_version")
        await store.take(tenant_id, [many("c", 1)])
        assert await fetch(database, "select version from control_version") == before  # nobody is made to read again
        await store.take(tenant_id, [many("d", 5)])
        await store.take(tenant_id, [many("e", 5)])
    assert await notices(database, tenant_id) == [(MAY, 80, 10), (MAY, 100, 10)]
    assert await fetch(database, "select version from control_version") != before


async def test_a_quota_belongs_to_its_month_of_receipt(database: Database) -> None:
    tenant_id = await tenant(database, quota=10)
    june = datetime(2026, 6, 1, tzinfo=UTC)
    async with stores(database) as (store,):
        await store.take(tenant_id, [many("a", 7), many("b", 7, at=june)])
        assert await notices(database, tenant_id) == []
        await store.take(tenant_id, [many("c", 3, at=june - timedelta(microseconds=1))])
    assert await notices(database, tenant_id) == [(MAY, 80, 10), (MAY, 100, 10)]
    months = await fetch(database, "select month, stored from monthly_usage where tenant_id = $1 order by 1", tenant_id)
    assert months == [(MAY, 10), (june.date(), 7)]


async def test_another_quota_is_noticed_anew_and_a_lower_one_with_the_next_batch(database: Database) -> None:
    tenant_id = await tenant(database, quota=100)
    async with stores(database) as (store,):
        await store.take(tenant_id, [many("a", 50)])
        assert await notices(database, tenant_id) == []
        await fetch(database, "update plans set monthly_quota = 20 where plan_id = $1", str(tenant_id))
        await store.take(tenant_id, [many("a", 1)])  # not even a new event
        assert await notices(database, tenant_id) == [(MAY, 80, 20), (MAY, 100, 20)]
        await fetch(database, "update plans set monthly_quota = 60 where plan_id = $1", str(tenant_id))
        await store.take(tenant_id, [many("b", 1)])
    assert (await notices(database, tenant_id))[2:] == [(MAY, 80, 60)]


async def test_workers_that_share_a_tenant_neither_deadlock_nor_miss_a_crossing(database: Database) -> None:
    tenants = [await tenant(database, quota=400) for _ in range(3)]

    async def work(store: Store, number: int) -> None:
        order = tenants if number % 2 else tenants[::-1]
        for turn in range(20):
            records = [
                _record(tenant_id, many(f"{turn}-{number}-", 10, client_id), number)
                for tenant_id in order
                for client_id in ("x", "y", "z")[:: 1 if turn % 2 else -1]
            ]
            prepared = store.step.prepare(records)
            async with store.connection.transaction():  # a deadlock would raise here
                await store.step.apply(store.connection, prepared)

    async with stores(database, 3) as workers:
        await asyncio.gather(*(work(store, number) for number, store in enumerate(workers)))
    for tenant_id in tenants:
        assert await notices(database, tenant_id) == [(MAY, 80, 400), (MAY, 100, 400)]
        # The same ids under three clients: each counts once, and is a duplicate twice.
        sums = await fetch(database, "select sum(stored), sum(duplicates) from usage where tenant_id = $1", tenant_id)
        assert sums == [(600, 1200)]
        assert await fetch(database, "select stored from monthly_usage where tenant_id = $1", tenant_id) == [(600,)]


@pytest.mark.parametrize("status", ["deleting", "deleted"])
async def test_events_of_a_tenant_that_is_being_deleted_are_dropped_and_not_dead_lettered(
    database: Database, status: str
) -> None:
    leaving, staying = await tenant(database, status=status), await tenant(database, status="suspended")
    async with stores(database) as (store,):
        work = store.step.prepare([_record(leaving, many("a", 3), 0), _record(staying, many("a", 2), 0)])
        async with store.connection.transaction():
            await store.step.apply(store.connection, work)
    for table in ("events", "usage", "monthly_usage", "dead_letters"):
        rows = await fetch(database, f"select count(*) from {table} where tenant_id = $1", leaving)  # noqa: S608
        assert rows == [(0,)], table
    platform = "select count(*) from dead_letters where encode(payload, 'escape') like '%' || $1 || '%'"
    assert await fetch(database, platform, str(leaving)) == [(0,)]
    assert await fetch(database, "select sum(stored) from usage where tenant_id = $1", staying) == [(2,)]


async def test_two_workers_that_read_the_log_count_each_event_into_usage_once(bench: Bench) -> None:
    made = await bench.system.tenant()
    for partition in range(4):
        await bench.put(partition, *(record(made, event(f"{partition}-{n}"), event(f"{n}")) for n in range(30)))
    async with bench.running("store"), bench.running("store"):
        await until(lambda: bench.system.counted(made), lambda found: found == 150)

        async def handled() -> int:
            return int((await bench.system.fetch("select sum(next_offset) from stream_offsets"))[0][0])

        await until(handled, lambda found: found == 120)
    rows = await bench.system.fetch("select client_id, sum(stored), sum(duplicates) from usage group by 1")
    assert [tuple(row) for row in rows] == [(made.client_id, 150, 90)]
