"""A search index of the test run's own on the real server; each test makes its own tenants in it."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import Phase

from app.parameters import Reading
from search import execute
from search.answers import answer_bytes
from search.bulk import BulkOutcome, bulk_write
from search.client import make_client
from search.endpoints import scope_of
from search.mapping import ensure_template
from search.request import PARAMETERS, read_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from elasticsearch import AsyncElasticsearch

    from deploy.local.servers import Endpoints

# Shrinking a failing example against a real server takes minutes.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)

RECEIVED_AT = datetime(2025, 3, 15, 9, 30, tzinfo=UTC)


def row(tenant_id: UUID, metadata: Any = None, **changes: Any) -> dict[str, Any]:
    """A row of `events` as the index worker reads it."""
    received_at = changes.get("received_at", RECEIVED_AT)
    return {
        "tenant_id": tenant_id,
        "event_id": secrets.token_hex(8),
        "event_type": "order.paid",
        "user_id": "u1",
        "client_id": "c1",
        "timestamp": RECEIVED_AT,
        "received_at": received_at,
        "index_slice": received_at.year * 100 + received_at.month,
        "metadata": metadata if isinstance(metadata, str) else json.dumps(metadata or {}, ensure_ascii=False),
    } | changes


@dataclass(frozen=True)
class Index:
    client: AsyncElasticsearch
    prefix: str

    async def write(self, rows: Sequence[dict[str, Any]]) -> BulkOutcome[dict[str, Any]]:
        """Write rows and make them visible."""
        outcome = await bulk_write(self.client, self.prefix, rows)
        await execute.refresh(self.client, self.prefix)
        return outcome

    async def holding(self, *metadata: Any) -> UUID:
        """A fresh tenant with an event for each of `metadata`, their ids 0, 1, …"""
        tenant_id = uuid4()
        outcome = await self.write([row(tenant_id, each, event_id=str(n)) for n, each in enumerate(metadata)])
        assert outcome.written == len(metadata), outcome
        return tenant_id

    async def answer(self, tenant_id: UUID, **parameters: Any) -> Any:
        """What the endpoint would answer to these parameters."""
        reading = Reading(((name, str(value)) for name, value in parameters.items()), PARAMETERS)
        asked = read_request(reading, tenant_id, pointer="/query/q")
        found = await execute.search(self.client, self.prefix, scope_of(asked, tenant_id))
        return json.loads(answer_bytes(asked, found))

    async def found(self, tenant_id: UUID, q: str) -> set[int]:
        """Which of `holding`'s metadata (at most 100 of them) a query finds."""
        answer = await self.answer(tenant_id, q=q, limit=100)
        assert answer["total"] == len(answer["hits"])
        return {int(hit["event_id"]) for hit in answer["hits"]}

    async def remove(self) -> None:
        # By name: the server deletes nothing by pattern.
        for name in await self.client.indices.get(index=f"{self.prefix}-2*"):
            await self.client.indices.delete(index=name)
        await self.client.indices.delete_index_template(name=self.prefix)


@contextlib.asynccontextmanager
async def new_index(endpoints: Endpoints) -> AsyncIterator[Index]:
    """A prefix nobody else uses, its template in place; slices and template are removed at the end."""
    made = Index(make_client(endpoints.elasticsearch_url, timeout=30), f"test{secrets.token_hex(5)}")
    try:
        await ensure_template(made.client, made.prefix)
        yield made
        await made.remove()
    finally:
        await made.client.close()


@pytest.fixture(scope="session")
async def index(endpoints: Endpoints) -> AsyncIterator[Index]:
    async with new_index(endpoints) as made:
        yield made


@pytest.fixture
async def own_index(endpoints: Endpoints) -> AsyncIterator[Index]:
    """For a test that changes slices."""
    async with new_index(endpoints) as made:
        yield made
