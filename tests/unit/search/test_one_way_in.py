"""Elasticsearch keeps no tenants apart, so the code that reads from it is held to one module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = ("app", "auth", "migrations", "search", "tenants", "workers")
# Whatever answers with documents, or with what is in them.
READING = frozenset(
    {
        *("search", "msearch", "count", "get", "get_source", "mget", "exists", "exists_source", "explain", "scroll"),
        *("termvectors", "mtermvectors", "terms_enum", "field_caps", "rank_eval", "search_mvt", "knn_search"),
        *("search_template", "msearch_template", "render_search_template", "scripts_painless_execute"),
        *("open_point_in_time", "delete_by_query", "update_by_query", "reindex", "perform_request"),
    }
)
MAY_CALL = {"search/execute.py", "search/bulk.py"}
MAY_USE_TRANSPORT = {"search/client.py"}
MAKES_SCOPES = "search/scope.py"


def breaches(path: str, source: str) -> Iterator[str]:
    """Each place where `source`, the file `path`, reads from Elasticsearch past `search.execute`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).lower()
            if node.attr in READING and path not in MAY_USE_TRANSPORT and ("client" in owner or "elastic" in owner):
                yield f"{path}:{node.lineno} uses .{node.attr} of a client"
            if node.attr == "transport" and path not in MAY_USE_TRANSPORT:
                yield f"{path}:{node.lineno} uses the transport"
        if isinstance(node, ast.ImportFrom) and node.module == "search.client" and path not in MAY_CALL:
            yield from (f"{path}:{node.lineno} imports call" for name in node.names if name.name in {"call", "*"})
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Scoped") and path != MAKES_SCOPES:
            yield f"{path}:{node.lineno} makes a Scoped of its own"


def talks_to_elasticsearch(source: str) -> bool:
    return "elasticsearch" in source.lower() or "search_client" in source or "SearchClient" in source


def test_only_one_module_reads_from_elasticsearch(repository: Path) -> None:
    files = [file for folder in FOLDERS for file in (repository / folder).rglob("*.py")]
    assert len(files) > 20
    found = [
        breach
        for file in files
        if talks_to_elasticsearch(source := file.read_text()) or file.parent.name == "search"
        for breach in breaches(file.relative_to(repository).as_posix(), source)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "await client.search(index='x')",
        "await state.search_client.count()",
        "await client.options(request_timeout=1).msearch(searches=[])",
        "await elasticsearch.get(index='x', id='y')",
        "run = self._client.search",
        "await client.transport.perform_request('GET', '/_search')",
        "from search.client import call",
        "from search.scope import Scoped\nScoped(tenant, {'query': {'match_all': {}}})",
    ],
)
def test_a_way_round_would_be_seen(source: str) -> None:
    assert list(breaches("app/somewhere.py", source))
