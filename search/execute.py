"""The only module that reads from Elasticsearch or deletes in it by query, and only with what `search.scope` made.

Owns requests and the shape of their answers. Refuses to build queries.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from search.client import IndexUnavailable, call
from search.mapping import alias_of
from search.scope import Scoped, encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from elasticsearch import AsyncElasticsearch

PAGE = 5000
"""Documents a request while walking over all of them; Elasticsearch allows 10,000."""

_STARTING_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses before asking again where a new slice's shard is not ready."""

_STARTING = ("no_shard_available_action_exception", "missing shards")
"""What Elasticsearch says of such a slice: of one that it tried, and of one that it did not even try."""

_OF_A_SHARD = b'"failed_shards"'
"""What Elasticsearch says if an index that it found is gone before it has answered."""

KEEP_ALIVE = "2m"
"""How long a walk may pause between two pages."""


class SearchRefused(Exception):  # noqa: N818  Elasticsearch's verdict, named as callers read it
    """Elasticsearch understood the request and won't do it: too many terms, a cursor's value out of range."""


class Source(msgspec.Struct):
    """The event in a document. `metadata` is its JSON as it was written, or `metadata_json` holds that text."""

    event_id: str
    event_type: str
    client_id: str
    timestamp: datetime
    received_at: datetime
    user_id: str | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    metadata_json: str | None = None


class Hit(msgspec.Struct):
    source: Source = msgspec.field(name="_source")
    score: float | None = msgspec.field(name="_score", default=None)
    sort: list[Any] = []
    highlight: dict[str, list[str]] = {}


class Total(msgspec.Struct):
    value: int


class Hits(msgspec.Struct):
    total: Total
    hits: list[Hit] = []


class Answer(msgspec.Struct):
    """`took` is in milliseconds. `aggregations` is absent while no slice exists."""

    took: int
    timed_out: bool
    hits: Hits
    aggregations: dict[str, Any] = {}


class _SortedHit(msgspec.Struct):
    sort: list[Any]


class _SortedHits(msgspec.Struct):
    hits: list[_SortedHit]


class _Page(msgspec.Struct):
    timed_out: bool
    pit_id: str
    hits: _SortedHits


class _PointInTime(msgspec.Struct):
    id: str


class _Deleted(msgspec.Struct):
    deleted: int


_answers = msgspec.json.Decoder(Answer)
_pages = msgspec.json.Decoder(_Page)
_points = msgspec.json.Decoder(_PointInTime)
_deletions = msgspec.json.Decoder(_Deleted)


async def search(client: AsyncElasticsearch, index_prefix: str, scope: Scoped) -> Answer:
    """One search over all slices; before the first event it answers nothing found.

    Raises:
        IndexUnavailable: no answer, or only a part of one (a shard missing, the time up).
        SearchRefused: the request can't be done.
    """
    target = (
        f"/{quote(alias_of(index_prefix))}/_search?routing={scope.routing}&preference={scope.routing}"
        "&ignore_unavailable=true&allow_partial_search_results=false"
    )
    answer = _answers.decode(await _ok(client, "POST", target, encoded(scope.body)))
    if answer.timed_out:
        raise IndexUnavailable("the search took too long")
    return answer


async def point(client: AsyncElasticsearch, index_prefix: str, tenant_id: UUID) -> str | None:
    """What the tenant's documents are now, for one `walk` that begins within `KEEP_ALIVE`; None: no slice exists yet.

    Raises as `search` does.
    """
    target = (
        f"/{quote(alias_of(index_prefix))}/_pit?routing={tenant_id}&keep_alive={KEEP_ALIVE}"
        "&ignore_unavailable=true&allow_partial_search_results=false"
    )
    status, opened = await _call(client, "POST", target)
    if status == 404:  # noqa: PLR2004  no slice yet
        return None
    return _points.decode(_checked(status, opened)).id


async def walk(client: AsyncElasticsearch, point: str | None, scope: Scoped) -> AsyncIterator[list[Any]]:
    """The sort values of each matching document, in the order of the scope's `sort`, as of the moment of `point`.

    Behind those Elasticsearch adds the document's place in the index, so that equal ones are all visited. Raises as
    `search` does.
    """
    after: list[Any] = []
    try:
        while point is not None:
            body = scope.body | {"size": PAGE, "track_total_hits": False, "_source": False}
            body |= {"pit": {"id": point, "keep_alive": KEEP_ALIVE}} | ({"search_after": after} if after else {})
            page = _pages.decode(
                await _ok(client, "POST", "/_search?allow_partial_search_results=false", encoded(body))
            )
            if page.timed_out:
                raise IndexUnavailable("the search took too long")
            point = page.pit_id
            for hit in page.hits.hits:
                yield hit.sort
            if len(page.hits.hits) < PAGE:
                return
            after = page.hits.hits[-1].sort
    finally:
        # Left alone it would hold segments for KEEP_ALIVE; if this fails that is what happens.
        with contextlib.suppress(IndexUnavailable):
            if point is not None:
                await call(client, "DELETE", "/_pit", encoded({"id": point}))


async def delete(client: AsyncElasticsearch, index_prefix: str, scope: Scoped, *, most: int) -> int:
    """Delete up to `most` of the documents that match; returns how many, which searches no longer find from then on.

    One that is written meanwhile is left as it is. Raises as `search`.
    """
    target = (
        f"/{quote(alias_of(index_prefix))}/_delete_by_query?routing={scope.routing}&max_docs={most}"
        "&conflicts=proceed&refresh=true&ignore_unavailable=true"
    )
    return _deletions.decode(await _ok(client, "POST", target, encoded({"query": scope.body["query"]}))).deleted


async def refresh(client: AsyncElasticsearch, index_prefix: str) -> None:
    """Make everything written so far visible to searches.

    Raises:
        IndexUnavailable: no answer.
    """
    await _ok(client, "POST", f"/{quote(alias_of(index_prefix))}/_refresh?ignore_unavailable=true")


async def _call(client: AsyncElasticsearch, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    """`call`, patient with a slice that was made a moment ago: its shard starts within some hundred milliseconds; and
    with one that was built again and exchanged in the middle of the request, which the next one finds in its place.
    """
    for pause in _STARTING_SECONDS:
        try:
            status, answer = await call(client, method, target, body)
        except IndexUnavailable as error:
            if not any(sign in str(error).lower() for sign in _STARTING):
                raise
        else:
            if status != 404 or _OF_A_SHARD not in answer:  # noqa: PLR2004  not found
                return status, answer
        await asyncio.sleep(pause)
    return await call(client, method, target, body)


async def _ok(client: AsyncElasticsearch, method: str, target: str, body: bytes | None = None) -> bytes:
    return _checked(*await _call(client, method, target, body))


def _checked(status: int, answer: bytes) -> bytes:
    if status >= 500:  # noqa: PLR2004
        raise IndexUnavailable(f"Elasticsearch fails with {status}: {answer[:500]!r}")
    if status != 200:  # noqa: PLR2004
        raise SearchRefused(f"Elasticsearch refuses with {status}: {answer[:500]!r}")
    return answer
