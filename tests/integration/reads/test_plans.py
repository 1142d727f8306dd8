"""What PostgreSQL does for a read: one partition, through an index, however the statement is planned."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import event

from tenants.session import tenant_session
from tests.integration.reads.seeding import Seeded, scattered, seeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.conftest import Database
    from tests.integration.reads.conftest import Reader

START = datetime(2026, 3, 8, tzinfo=UTC)
SPAN = {"started_at": "2026-03-07T10:07:00Z", "ended_at": "2026-03-08T20:08:00Z"}
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("user/u1", {"limit": 5}),
    ("user/u1", {"event_type": "click"}),
    ("count", {}),
    ("count", {"event_type": "click", "client_id": "c1"}),
    ("trend", {"interval": "hourly"}),
    ("stats", {}),
]


class Statements:
    """The statements with their parameters that an engine ran."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, Any]] = []

    def note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self.ran.append((statement, parameters))


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[Statements]:
    noted = Statements()
    event.listen(engine.sync_engine, "before_cursor_execute", noted.note)
    yield noted
    event.remove(engine.sync_engine, "before_cursor_execute", noted.note)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_a_read_touches_one_partition_and_goes_through_an_index(
    readers: tuple[Reader, Reader],
    engine: AsyncEngine,
    database: Database,
    statements: Statements,
    question: tuple[str, dict[str, Any]],
    plan: str,
) -> None:
    path, parameters = question
    reader = readers[0]
    for other in readers:
        await other.store(scattered(seeded(1), START, 200, days=3))
    await reader.get(path, **SPAN, **parameters)
    # Else the plan hangs on whether autovacuum has just come by.
    owner = await asyncpg.connect(database.admin_url)
    await owner.execute("analyze events")
    await owner.close()
    explained = [(sql, values) for sql, values in statements.ran if "events" in sql]
    assert explained
    for sql, values in explained:
        async with tenant_session(engine, reader.tenant_id) as connection:
            await connection.exec_driver_sql(f"set local plan_cache_mode = {plan}")
            # As for a tenant whose rows are many: on a few, reading them all is right.
            await connection.exec_driver_sql("set local enable_seqscan = off")
            await connection.exec_driver_sql("set local enable_bitmapscan = off")
            rows = await connection.exec_driver_sql(f"explain (analyze, costs off) {sql}", values)
            lines = [row[0] for row in rows]
        text = "\n".join(lines)
        scanned = [line for line in lines if re.search(r"Scan .*on (events|aggregated_events)", line)]
        touched = {
            name for line in scanned if "never executed" not in line for name in re.findall(r"events_\d\d\b", line)
        }
        assert len(touched) <= 1, text
        assert len({line for line in scanned if "events_" in line}) >= len(touched)
        assert not [line for line in scanned if "Seq Scan" in line], text
        if path.startswith("user/"):
            assert len(touched) == 1, text
            assert "events_by_user" in text or "tenant_id_user_id" in text, text


async def test_a_count_is_one_statement_in_one_transaction(reader: Reader, statements: Statements) -> None:
    await reader.store([Seeded(START + timedelta(minutes=minute)) for minute in range(60)])
    assert (await reader.get("count", **SPAN))["count"] == 60
    assert len(statements.ran) == 2
    assert "set_config" in statements.ran[0][0]


async def test_every_statement_names_the_tenant_beside_row_security(reader: Reader, statements: Statements) -> None:
    await reader.store([Seeded(START)])
    for path, parameters in QUESTIONS:
        await reader.get(path, **SPAN, **parameters)
    for sql, _ in statements.ran:
        reads = len(re.findall(r"FROM (?:aggregated_)?events\b", sql))
        assert len(re.findall(r"events\.tenant_id = \$\d+", sql)) == reads, sql
