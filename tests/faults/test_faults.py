"""Nothing acknowledged is lost and nothing is counted twice, whatever dies while a steady stream is sent.

For each fault: acknowledged ⊆ stored ⊆ sent, each once, and rows, aggregates, usage and search index agree. The short
form shortens the stops and takes several processes or servers at once; `make faults` has every fault for itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.servers import LocalServers
from tests.faults import causes, table
from tests.faults.causes import Cause
from tests.faults.ground import Ground
from tests.system import System

SHARDS = (1, 8)
"""Of the tenants: one in a single partition, one spread over several."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground(
    mortal: LocalServers, tmp_path_factory: pytest.TempPathFactory, *, long_form: bool
) -> AsyncIterator[Ground]:
    """A system that gives up on Kafka after one second, whose tokens outlive the longest form."""
    folder: Path = tmp_path_factory.mktemp("ground")
    made = await System.create(mortal.endpoints, folder, PRODUCE_TIMEOUT_SECONDS="1", TOKEN_LIFETIME_SECONDS="3600")
    tenants = []
    for shards in SHARDS:
        await made.fetch("update plans set shards = $1 where plan_id = 'standard'", shards)
        tenants.append(await made.tenant())
    try:
        await made.start("api", "store", "index")
        tokens = [await made.token(tenant) for tenant in tenants]
        yield Ground(mortal, made, tenants, tokens, long_form)
    finally:
        made.stop()


@pytest.mark.parametrize("cause", causes.ALL, ids=lambda cause: cause.name)
async def test_nothing_acknowledged_is_lost_and_nothing_is_counted_twice_after(
    ground: Ground, cause: Cause, *, long_form: bool
) -> None:
    if not cause.brief and not long_form:
        pytest.skip("in the long form: make faults")
    row = await ground.suffer(cause)
    assert (row.lost, row.doubled) == (0, 0)


async def test_the_table_has_a_row_for_every_fault_that_was_tried(
    ground: Ground, say: Callable[[str], None], *, long_form: bool
) -> None:
    say(f"\n{table.text(ground.rows)}")
    tried = [cause.name for cause in causes.ALL if cause.brief or long_form]
    assert [row.fault for row in ground.rows] == tried
    if long_form:
        table.write(table.report(ground.rows))
