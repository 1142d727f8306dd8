"""The connection to Elasticsearch: how it is made, and raw calls whose answers the caller decodes.

Owns time limits, media types and what counts as "unavailable". Only `search.execute` (reading) and `search.bulk`
(writing) may use `call`; a test holds that, because Elasticsearch itself keeps no tenants apart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from elastic_transport import Serializer, TransportError
from elastic_transport.client_utils import url_to_node_config
from elasticsearch import AsyncElasticsearch, JsonSerializer

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
UNAVAILABLE_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
"""Answers that say "not now": overloaded (429), no shard or no master (503), a proxy without a server (502, 504)."""


class IndexUnavailable(Exception):  # noqa: N818  a state of the server, not a mistake of the caller's
    """Elasticsearch did not answer, or answered that it can't now; the same call may succeed later."""


class _Undecoded(Serializer):
    """Leaves bodies as bytes: the caller knows their type, and numbers in metadata must come back digit for digit."""

    mimetype = JSON

    def loads(self, data: bytes) -> bytes:
        return data

    def dumps(self, data: Any) -> bytes:
        if not isinstance(data, bytes):
            raise TypeError("a body is bytes here")
        return data


def make_client(url: str, *, timeout: float = 10.0, connections: int = 20) -> AsyncElasticsearch:
    """A client of the server at `url` (with user and password in it where the server wants them).

    `timeout` is in seconds and covers one whole request. Nothing is retried and no node is looked for: callers
    decide that, for they know which of their calls are idempotent. The client's own methods (`indices`, `cluster`)
    negotiate a media type of their own and are not affected by how `call` reads answers.
    """
    # Said twice, for the client's own methods have a limit of their own and `call` the node's.
    node = url_to_node_config(url, use_default_ports_for_scheme=True)
    return AsyncElasticsearch(
        [replace(node, request_timeout=timeout, connections_per_node=connections)],
        request_timeout=timeout,
        max_retries=0,
        retry_on_timeout=False,
        # The client would use what stands for plain JSON for its own media type too.
        serializers={JSON: _Undecoded(), "application/vnd.elasticsearch+json": JsonSerializer()},
    )


async def call(
    client: AsyncElasticsearch, method: str, target: str, body: bytes | None = None, *, content_type: str = JSON
) -> tuple[int, bytes]:
    """Send one request; answers the status and the body as it came.

    Both media types are plain ones, which Elasticsearch 8 and 9 understand alike.

    Raises:
        IndexUnavailable: no connection, no answer in time, or a status of `UNAVAILABLE_STATUSES`.
    """
    headers = {"accept": JSON} if body is None else {"accept": JSON, "content-type": content_type}
    try:
        # The transport would try three times more of its own accord.
        meta, answer = await client.transport.perform_request(method, target, headers=headers, body=body, max_retries=0)
    except TransportError as error:
        raise IndexUnavailable(f"Elasticsearch does not answer: {type(error).__name__}") from error
    if meta.status in UNAVAILABLE_STATUSES:
        raise IndexUnavailable(f"Elasticsearch answers {meta.status}: {answer[:500]!r}")
    return meta.status, answer
