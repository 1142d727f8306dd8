"""What tests of verify, reindex and rebuild share: the commands' work inside the test, and records of any month."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.cli import rebuild, reindex, verify
from app.events.record import AcceptedEvent, encode_events, join_record
from app.settings import VerifySettings
from search import execute
from search.client import make_client
from search.scope import scoped
from search.verify import iter_event_ids
from tests.integration.workers.conftest import NOW, Bench
from tests.system import MadeTenant, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from elasticsearch import AsyncElasticsearch

    from app.cli.verify import Finding
    from app.reindex import Slice

Command = Callable[..., Awaitable[tuple[int, str, str]]]
"""The fixture `command`: runs `sluice` with these arguments; its status, output and error output."""

# Every table whose rows the three commands may write, as text, so that two states can be compared byte for byte.
TABLES = {
    "events": "tenant_id, event_id",
    "aggregated_events": "tenant_id, bucket, event_type, client_id",
    "usage": "tenant_id, hour, client_id",
    "monthly_usage": "tenant_id, month",
    "dead_letters": "tenant_id, source_partition, source_offset, record_index",
}


def record_at(tenant: MadeTenant, received_at: datetime, *events: AcceptedEvent) -> bytes:
    return join_record(UUID(tenant.tenant_id), tenant.client_id, received_at, [encode_events(list(events))])


async def verified(bench: Bench, tenant: MadeTenant | None = None, *, repair: bool = False) -> list[Finding]:
    """As `sluice verify` finds it."""
    wanted = None if tenant is None else UUID(tenant.tenant_id)
    return await verify.findings(bench.system.settings(VerifySettings), wanted, repair=repair, quiet=True)


async def verified_one(bench: Bench, tenant: MadeTenant, *, repair: bool = False) -> Finding:
    (finding,) = await verified(bench, tenant, repair=repair)
    return finding


async def reindexed(bench: Bench, only: int | None = None) -> list[Slice]:
    return await reindex.reindexed(bench.system.settings(VerifySettings), only, quiet=True)


async def rebuilt(bench: Bench) -> dict[str, Any]:
    return await rebuild.rebuilt(bench.system.settings(VerifySettings), quiet=True)


async def agreeing(bench: Bench, tenant: MadeTenant, events: int) -> Finding:
    """Wait until this many events are stored and indexed, and all places agree."""
    return await until(
        lambda: verified_one(bench, tenant),
        lambda seen: seen.found.agrees and (seen.found.events, seen.found.waiting) == (events, 0),
        seconds=60,
    )


async def state(bench: Bench) -> dict[str, list[Any]]:
    """All rows of `TABLES`."""
    return {
        table: [tuple(row) for row in await bench.system.fetch(f"select * from {table} order by {order}")]  # noqa: S608
        for table, order in TABLES.items()
    }


@asynccontextmanager
async def search_client(bench: Bench) -> AsyncIterator[AsyncElasticsearch]:
    client = make_client(bench.settings.elasticsearch_url.get_secret_value(), timeout=30)
    try:
        yield client
    finally:
        await client.close()


async def indexed_ids(bench: Bench, tenant: MadeTenant) -> list[str]:
    async with search_client(bench) as client:
        await execute.refresh(client, bench.settings.index_prefix)
        return [each async for each in iter_event_ids(client, bench.settings.index_prefix, UUID(tenant.tenant_id))]


async def remove_documents(bench: Bench, tenant: MadeTenant, ids: Sequence[str]) -> None:
    async with search_client(bench) as client:
        await execute.refresh(client, bench.settings.index_prefix)
        scope = scoped(UUID(tenant.tenant_id), filters=[{"terms": {"event_id": list(ids)}}])
        assert await execute.delete(client, bench.settings.index_prefix, scope, most=1000) == len(ids)


def a_row(tenant: MadeTenant, event_id: str, **changes: Any) -> dict[str, Any]:
    """A row for a document that nobody stored."""
    received_at = changes.get("received_at", NOW)
    return {
        "tenant_id": UUID(tenant.tenant_id), "event_id": event_id, "event_type": "t", "user_id": "u",
        "client_id": tenant.client_id, "timestamp": NOW, "received_at": received_at,
        "index_slice": received_at.year * 100 + received_at.month, "metadata": "{}",
    } | changes  # fmt: skip
