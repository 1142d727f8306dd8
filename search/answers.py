"""What a search answers: made from Elasticsearch's answer, described for OpenAPI.

Owns the shape of hits, highlights and facets. Metadata goes out as it is stored, byte for byte.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel

from app.events.timestamps import format_utc
from search.cursor import write

if TYPE_CHECKING:
    from search.execute import Answer, Hit
    from search.request import SearchRequest

FACETS = ("event_type", "client_id", "user_id")
VALUES_IN_FACET = 10

# The values of each shard that are merged: with no more than this many there, counts are exact.
_VALUES_OF_SHARD = 1000

HIGHLIGHTED = ("text", "text.exact")
_ADJACENT = re.compile(r"</em>(\s*)<em>")


class FacetValue(BaseModel):
    value: str
    count: int


class SearchHit(BaseModel):
    """`score` is null unless sorted by relevance. `highlights` are HTML: pieces of text, matches in `<em>`."""

    event_id: str
    event_type: str
    user_id: str | None
    client_id: str
    timestamp: str
    received_at: str
    metadata: dict[str, Any]
    score: float | None
    highlights: list[str]


class SearchAnswer(BaseModel):
    """`total` is exact. `facets` count the most frequent values among all hits, not only this page's."""

    total: int
    took_ms: int
    hits: list[SearchHit]
    facets: dict[str, list[FacetValue]]
    next_cursor: str | None

    model_config = {
        "json_schema_extra": {
            "example": {
                "total": 1,
                "took_ms": 4,
                "hits": [
                    {
                        "event_id": "0199d1c2-7d5e-7cc1-8f0b-7a3c2f6f9d10",
                        "event_type": "payment.failed",
                        "user_id": "u1",
                        "client_id": "slc_9f86d081884c7d659a2feaa0c55ad015",
                        "timestamp": "2026-01-02T03:04:05.678Z",
                        "received_at": "2026-01-02T03:04:05.912Z",
                        "metadata": {"message": "Payment declined: timeout at the bank", "amount": 12.5},
                        "score": 3.27,
                        "highlights": ["<em>Payment</em> declined: <em>timeout</em> at the bank"],
                    }
                ],
                "facets": {
                    "event_type": [{"value": "payment.failed", "count": 1}],
                    "client_id": [{"value": "slc_9f86d081884c7d659a2feaa0c55ad015", "count": 1}],
                    "user_id": [{"value": "u1", "count": 1}],
                },
                "next_cursor": "WzE3NjcxNTU2MjQsImUxIl0",
            }
        }
    }


def facet_aggregations() -> dict[str, Any]:
    """The aggregations that `answer_bytes` reads facets from."""
    return {
        name: {"terms": {"field": name, "size": VALUES_IN_FACET, "shard_size": _VALUES_OF_SHARD}} for name in FACETS
    }


def answer_bytes(request: SearchRequest, answer: Answer) -> bytes:
    """The body of the response, a `SearchAnswer` as JSON. `request.limit + 1` hits were asked for."""
    page = answer.hits.hits[: request.limit]
    more = len(answer.hits.hits) > request.limit
    return msgspec.json.encode(
        {
            "total": answer.hits.total.value,
            "took_ms": answer.took,
            "hits": [_hit(hit) for hit in page],
            "facets": {name: _facet(answer.aggregations.get(name)) for name in FACETS},
            "next_cursor": write(request.question, page[-1].sort) if more else None,
        }
    )


def _hit(hit: Hit) -> dict[str, Any]:
    source = hit.source
    metadata = source.metadata
    if source.metadata_json is not None:
        metadata = msgspec.Raw(source.metadata_json.encode())
    return {
        "event_id": source.event_id,
        "event_type": source.event_type,
        "user_id": source.user_id,
        "client_id": source.client_id,
        "timestamp": format_utc(source.timestamp),
        "received_at": format_utc(source.received_at),
        "metadata": metadata,
        "score": hit.score,
        "highlights": highlights(hit.highlight),
    }


def highlights(found: dict[str, list[str]]) -> list[str]:
    """The pieces of text that matched, each once.

    Stems and exact words are looked for in two fields of the same text; a piece found in both is shown once, as
    the exact one, whose marks say more.
    """
    pieces: dict[str, str] = {}
    for field in reversed(HIGHLIGHTED):
        for piece in found.get(field, ()):
            marked = _ADJACENT.sub(r"\1", piece)
            pieces.setdefault(html.unescape(marked.replace("<em>", "").replace("</em>", "")), marked)
    return list(pieces.values())


def _facet(aggregation: Any) -> list[dict[str, Any]]:
    buckets = aggregation["buckets"] if aggregation is not None else ()
    return [{"value": bucket["key"], "count": bucket["doc_count"]} for bucket in buckets]
