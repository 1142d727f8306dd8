"""Nothing is searched without a tenant, nor with a clause that looks past one."""

from typing import Any
from uuid import UUID

import pytest

from search.scope import scoped

TENANT = UUID("6f0d9b1e-2f7e-4f0a-9a57-1b2a9e0c7d11")
MINE = {"term": {"tenant_id": str(TENANT)}}


@pytest.mark.parametrize("query", [None, {"match_all": {}}, {"term": {"event_type": "x"}}])
def test_every_body_filters_by_the_tenant(query: dict[str, Any] | None) -> None:
    made = scoped(TENANT, query, filters=[{"term": {"user_id": "u"}}], size=3)
    assert made.body["query"].keys() == {"bool"}
    assert MINE in made.body["query"]["bool"]["filter"]
    assert "should" not in made.body["query"]["bool"]
    assert made.routing == str(TENANT)


@pytest.mark.parametrize("tenant", [None, "", str(TENANT), f"{TENANT},{TENANT}", "*"])
def test_a_tenant_that_is_no_uuid_is_refused(tenant: Any) -> None:
    with pytest.raises(TypeError):
        scoped(tenant, {"match_all": {}})


OUTSIDE: list[dict[str, Any]] = [
    {"query_string": {"query": "*"}},
    {"simple_query_string": {"query": "*"}},
    {"script": {"script": "true"}},
    {"terms": {"user_id": {"index": "other", "id": "1", "path": "user_id"}}},
    {"more_like_this": {"fields": ["text"], "like": [{"_id": "1"}]}},
    {"wrapper": {"query": "e30="}},
    {"ids": {"values": ["x"]}},
    {"term": {"_id": "x"}},
    {"term": {"tenant_id": "another"}},
    {"multi_match": {"query": "x", "fields": ["*"]}},
    {"exists": {"field": "_index"}},
    {"match_all": {}, "script": {}},
    {},
]
NESTS: list[Any] = [
    lambda clause: clause,
    lambda clause: {"bool": {"must_not": [{"bool": {"should": clause}}]}},
    lambda clause: {"constant_score": {"filter": clause}},
    lambda clause: {"dis_max": {"queries": [{"match_all": {}}, clause]}},
]


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("clause", OUTSIDE)
def test_a_clause_outside_the_closed_set_is_refused_however_deep(clause: dict[str, Any], nest: Any) -> None:
    with pytest.raises(ValueError, match=r"not a|one name|never looked up"):
        scoped(TENANT, nest(clause))
    with pytest.raises(ValueError, match=r"not a|one name|never looked up"):
        scoped(TENANT, filters=[nest(clause)])


@pytest.mark.parametrize(
    "aggregation",
    [
        {"global": {}},
        {"terms": {"field": "user_id"}, "aggs": {"all": {"global": {}}}},
        {"scripted_metric": {}},
        {"terms": {"script": "1"}},
        {"filter": {"script": {}}},
        {"significant_terms": {"field": "user_id", "background_filter": {"match_all": {}}}},
    ],
)
def test_an_aggregation_that_leaves_the_query_or_runs_code_is_refused(aggregation: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a|no code"):
        scoped(TENANT, aggregations={"a": aggregation})


def test_sorting_by_anything_but_known_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="sort by"):
        scoped(TENANT, sort=[{"_script": {"script": "1"}}])
