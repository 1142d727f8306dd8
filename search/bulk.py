"""Writing events into the search index, many at a time, with a verdict for each.

Owns what an answer of Elasticsearch means for one event. Refuses to retry, to wait and to know offsets: its caller,
the index worker, decides. Writing the same event again is harmless, so a failed call may be repeated whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from search.client import NDJSON, IndexUnavailable, call
from search.documents import Row, bulk_lines, document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from elasticsearch import AsyncElasticsearch

REQUEST_BYTES = 2**20
"""5 MiB a request were no faster, and aiohttp writes up to this much without holding up the event loop."""

_BULK = (
    "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
)

RETRIABLE_STATUSES = frozenset({403, 404, 408, 429})
"""403 is a block on the index (a full disk), 404 a slice that couldn't be made: neither is the event's fault."""

RETRIABLE_TYPES = frozenset({"validation_exception", "index_closed_exception", "cluster_block_exception"})
"""Answered with 400 or 403, but about the cluster: too many shards open, a closed slice, a full disk."""

RowT = TypeVar("RowT", bound=Row)


@dataclass
class BulkOutcome(Generic[RowT]):
    """What became of the rows: each is counted in `written` or is in exactly one of the lists."""

    written: int = 0
    retriable: list[RowT] = field(default_factory=list)
    refused: list[tuple[RowT, str]] = field(default_factory=list)


class _Cause(msgspec.Struct):
    reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = None
    caused_by: _Cause | None = None

    def text(self) -> str:
        cause = self.caused_by.reason if self.caused_by is not None else None
        return ": ".join(part for part in (self.type, self.reason, cause) if part)


class _Written(msgspec.Struct):
    status: int
    error: _Error | None = None


class _Item(msgspec.Struct):
    index: _Written


class _Answer(msgspec.Struct):
    errors: bool
    items: list[_Item] = []


_answers = msgspec.json.Decoder(_Answer)


async def bulk_write(client: AsyncElasticsearch, index_prefix: str, rows: Sequence[RowT]) -> BulkOutcome[RowT]:
    """Write each row's document; returns when Elasticsearch has them safe (searchable within `REFRESH_INTERVAL`).

    Slices that don't exist yet are made from the template. Requests go one after the other, each of at most
    `REQUEST_BYTES` (or one document). `refused` holds what can never be written, with Elasticsearch's reason.

    Raises:
        IndexUnavailable: a whole request failed. Some rows may be written; send them all again.
    """
    outcome: BulkOutcome[RowT] = BulkOutcome()
    for chunk, body in _requests(rows, index_prefix):
        status, answer = await call(client, "POST", _BULK, body, content_type=NDJSON)
        if status != 200:  # noqa: PLR2004  OK
            raise IndexUnavailable(f"Elasticsearch refuses a bulk request with {status}: {answer[:500]!r}")
        verdict = _answers.decode(answer)
        if not verdict.errors:
            outcome.written += len(chunk)
            continue
        for row, item in zip(chunk, verdict.items, strict=True):
            _file(outcome, row, item.index)
    return outcome


def _requests(rows: Sequence[RowT], index_prefix: str) -> Iterator[tuple[Sequence[RowT], bytes]]:
    start = size = 0
    pieces: list[bytes] = []
    for place, row in enumerate(rows):
        piece = bulk_lines(document(row, index_prefix))
        if pieces and size + len(piece) > REQUEST_BYTES:
            yield rows[start:place], b"".join(pieces)
            start, size, pieces = place, 0, []
        pieces.append(piece)
        size += len(piece)
    if pieces:
        yield rows[start:], b"".join(pieces)


def _file(outcome: BulkOutcome[Any], row: Any, item: _Written) -> None:
    if item.error is None:
        outcome.written += 1
    elif item.status >= 500 or item.status in RETRIABLE_STATUSES or item.error.type in RETRIABLE_TYPES:  # noqa: PLR2004
        outcome.retriable.append(row)
    else:
        outcome.refused.append((row, item.error.text()))
