"""A month's quota as each process knows it: from when on and until when a tenant's events are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.database import create_engine
from tenants.directory import Directory
from tenants.lifecycle import create_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.integration.conftest import Database

THIS_MONTH = "date_trunc('month', now() at time zone 'UTC')::date"
LAST_MONTH = f"({THIS_MONTH} - interval '1 month')::date"


class Metered:
    """A tenant of the plan `free` (a million events a month, then refused), and what a process knows of it."""

    def __init__(self, database: Database, directory: Directory, tenant_id: UUID) -> None:
        self.engine = directory._engine
        self.owner = create_engine(database.admin_url, pool_size=1)
        self.directory = directory
        self.tenant_id = tenant_id

    async def execute(self, sql: str, **values: Any) -> None:
        async with self.owner.begin() as connection:
            await connection.execute(text(sql), {"tenant_id": self.tenant_id} | values)

    async def stored(self, count: int, month: str = THIS_MONTH) -> None:
        """Let so many events be stored in that month, and say so as the store worker does."""
        await self.execute(
            f"insert into monthly_usage (tenant_id, month, stored) values (:tenant_id, {month}, :count) "  # noqa: S608
            "on conflict (tenant_id, month) do update set stored = excluded.stored",
            count=count,
        )
        await self.execute(
            "insert into quota_notices (tenant_id, month, percent, quota) "  # noqa: S608
            f"values (:tenant_id, {month}, 100, :quota) on conflict do nothing",
            quota=1_000_000,
        )

    async def refused_until(self) -> float:
        await self.directory.refresh()
        found = self.directory.tenant(self.tenant_id)
        assert found is not None
        return found.refused_until


@pytest.fixture
async def metered(empty: Database) -> AsyncIterator[Metered]:
    engine = create_engine(empty.auth_url, pool_size=2)
    created = await create_tenant(engine, empty.settings(), "acme", "free")
    made = Metered(empty, await Directory.load(engine), created.tenant_id)
    yield made
    await made.owner.dispose()
    await engine.dispose()


def next_month() -> float:
    now = datetime.now(UTC)
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC).timestamp()


async def test_a_tenant_at_its_quota_is_refused_until_the_first_of_the_next_month_in_utc(metered: Metered) -> None:
    assert await metered.refused_until() == 0
    await metered.stored(999_999)
    assert await metered.refused_until() == 0
    await metered.stored(1_000_000)
    await metered.execute("update quota_notices set reached_at = now() where tenant_id = :tenant_id")
    assert await metered.refused_until() == next_month()


async def test_what_was_stored_last_month_does_not_count(metered: Metered) -> None:
    await metered.stored(5_000_000, LAST_MONTH)
    assert await metered.refused_until() == 0


async def test_a_larger_plan_a_larger_quota_or_one_that_only_warns_ends_it_and_the_old_one_brings_it_back(
    metered: Metered,
) -> None:
    await metered.stored(2_000_000)
    assert await metered.refused_until() == next_month()
    for change, back in (
        ("update tenants set plan_id = 'standard'", "update tenants set plan_id = 'free'"),
        (
            "update plans set monthly_quota = 3000000 where plan_id = 'free'",
            "update plans set monthly_quota = 1000000 where plan_id = 'free'",
        ),
        (
            "update plans set monthly_quota = null where plan_id = 'free'",
            "update plans set monthly_quota = 1000000 where plan_id = 'free'",
        ),
        (
            "update plans set at_quota = 'warn' where plan_id = 'free'",
            "update plans set at_quota = 'refuse' where plan_id = 'free'",
        ),
    ):
        await metered.execute(change)
        assert await metered.refused_until() == 0, change
        await metered.execute(back)
        assert await metered.refused_until() == next_month(), back
