"""The one function that makes a search body, and in it the tenant.

Elasticsearch has no row security: whoever searches without this filter sees everybody. So `search.execute` takes
only what `scoped` made, and `scoped` takes only clauses that look at the documents in question: nothing that leaves
the query (global aggregations, suggesters), reads other documents (terms lookup, more_like_this) or runs code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

TIMEOUT_SECONDS = 5
"""After which Elasticsearch stops a search on its side."""

_LEAVES = frozenset({"match", "match_phrase", "prefix", "fuzzy", "range", "term", "terms"})
_NESTING = {"bool": ("must", "should", "filter", "must_not"), "dis_max": ("queries",), "constant_score": ("filter",)}
_AGGREGATIONS = frozenset({"terms", "date_histogram", "composite", "filter", "min", "max", "cardinality"})
_FIELDS = frozenset(
    {"event_id", "event_type", "user_id", "client_id", "timestamp", "received_at"}
    | {"text", "text.words", "text.exact", "label"}
)
_FREE_KEYS = ("metadata.", "numbers.")
_SORTS = frozenset({"_score", "timestamp", "received_at", "event_id"})


@dataclass(frozen=True)
class Scoped:
    """A search of one tenant's events. Only `scoped` makes one."""

    tenant_id: UUID
    body: dict[str, Any]

    @property
    def routing(self) -> str:
        """Where all of the tenant's documents lie: the one shard in each slice that need be asked."""
        return str(self.tenant_id)


def scoped(
    tenant_id: UUID,
    query: Mapping[str, Any] | None = None,
    *,
    filters: Sequence[Mapping[str, Any]] = (),
    size: int = 0,
    sort: Sequence[Mapping[str, Any]] = (),
    after: Sequence[Any] = (),
    aggregations: Mapping[str, Any] | None = None,
    highlight: Sequence[str] = (),
    source: Sequence[str] | bool = True,
) -> Scoped:
    """A search for the events of `tenant_id` that `query` (scored) and each of `filters` match; the total is exact.

    `sort`, `after` (search_after), `aggregations` and `source` are Elasticsearch's; `highlight` lists text fields.

    Raises:
        TypeError: the tenant is not a UUID.
        ValueError: a clause, aggregation or sort is outside the closed set.
    """
    if not isinstance(tenant_id, UUID):
        raise TypeError("a search needs a tenant")
    mine: dict[str, Any] = {"filter": [{"term": {"tenant_id": str(tenant_id)}}, *filters]}
    if query is not None:
        mine["must"] = [query]
    for clause in (*filters, *mine.get("must", ())):
        _check_clause(clause)
    _check_aggregations(aggregations or {})
    if not _SORTS.issuperset(field for entry in sort for field in entry):
        raise ValueError(f"not a field to sort by: {sort}")
    body: dict[str, Any] = {
        "query": {"bool": mine},
        "size": size,
        "track_total_hits": True,
        "timeout": f"{TIMEOUT_SECONDS}s",
        "_source": source if isinstance(source, bool) else list(source),
    }
    if sort:
        body["sort"] = list(sort)
    if after:
        body["search_after"] = list(after)
    if aggregations:
        body["aggs"] = dict(aggregations)
    if highlight:
        body["highlight"] = {
            "encoder": "html",
            "number_of_fragments": 3,
            "fragment_size": 150,
            "fields": {field: {} for field in highlight},
        }
    return Scoped(tenant_id, body)


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON bytes."""
    return msgspec.json.encode(body)


def _check_clause(clause: Mapping[str, Any]) -> None:
    if len(clause) != 1:
        raise ValueError(f"a clause has one name: {sorted(clause)}")
    ((name, content),) = clause.items()
    if name in _NESTING:
        _check_nested(content, _NESTING[name])
    elif name in _LEAVES:
        _check_fields(content)
        if name == "terms" and not all(isinstance(values, list) for values in content.values()):
            raise ValueError("terms are given as a list, never looked up in another document")
    elif name == "multi_match":
        _check_fields(content["fields"])
    elif name == "exists":
        _check_fields([content["field"]])
    elif name not in {"match_all", "match_none"}:
        raise ValueError(f"not a clause of this project: {name}")


def _check_nested(content: Mapping[str, Any], parts: Iterable[str]) -> None:
    for part in parts:
        inner = content.get(part, ())
        for clause in (inner,) if isinstance(inner, Mapping) else inner:
            _check_clause(clause)


def _check_fields(fields: Iterable[str]) -> None:
    for field in fields:
        if field not in _FIELDS and not field.startswith(_FREE_KEYS):
            raise ValueError(f"not a field to search: {field}")


def _check_aggregations(aggregations: Mapping[str, Any]) -> None:
    for aggregation in aggregations.values():
        kinds = aggregation.keys() - {"aggs"}
        if not kinds <= _AGGREGATIONS:
            raise ValueError(f"not an aggregation of this project: {sorted(kinds)}")
        if "filter" in aggregation:
            _check_clause(aggregation["filter"])
        if any("script" in aggregation[kind] for kind in kinds):
            raise ValueError("aggregations run no code")
        _check_aggregations(aggregation.get("aggs", {}))
