"""What the search index holds of a tenant, for comparison with PostgreSQL, which is the truth.

Owns the index's side of `sluice verify`. Refuses to judge: the command compares.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from search import execute
from search.scope import scoped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from elasticsearch import AsyncElasticsearch

_BY_EVENT_ID = ({"event_id": "asc"},)
_PAGE_OF_HOURS = 1000


async def tenant_total(client: AsyncElasticsearch, index_prefix: str, tenant_id: UUID) -> int:
    """How many documents the tenant has, exactly, as of the last refresh (`execute.refresh` makes one).

    Raises:
        IndexUnavailable: no full answer.
    """
    answer = await execute.search(client, index_prefix, scoped(tenant_id))
    return answer.hits.total.value


async def totals_by_hour(client: AsyncElasticsearch, index_prefix: str, tenant_id: UUID) -> dict[datetime, int]:
    """Documents for each hour of `received_at` (its start, UTC) that has any. Raises as `tenant_total`."""
    totals: dict[datetime, int] = {}
    after: dict[str, int] | None = None
    while True:
        hours = {"hour": {"date_histogram": {"field": "received_at", "fixed_interval": "1h"}}}
        composite = {"size": _PAGE_OF_HOURS, "sources": [hours]} | ({"after": after} if after is not None else {})
        answer = await execute.search(
            client, index_prefix, scoped(tenant_id, aggregations={"hours": {"composite": composite}})
        )
        found = answer.aggregations.get("hours", {"buckets": []})
        for bucket in found["buckets"]:
            totals[datetime.fromtimestamp(bucket["key"]["hour"] / 1000, UTC)] = bucket["doc_count"]
        if len(found["buckets"]) < _PAGE_OF_HOURS:
            return totals
        after = found["after_key"]


async def iter_event_ids(client: AsyncElasticsearch, index_prefix: str, tenant_id: UUID) -> AsyncIterator[str]:
    """Every event id of the tenant in the index as of one moment, once for each document that has it.

    In order of their UTF-8 bytes, which is PostgreSQL's order under collation "C": two such streams can be merged
    and compared in constant memory. Raises as `tenant_total`.
    """
    scope = scoped(tenant_id, sort=_BY_EVENT_ID)
    async for event_id, *_ in execute.walk(client, index_prefix, scope):
        yield event_id
