"""A slice built again beside the one that is searched, and put in its place in one step.

The new index has a name of its own, outside the template's pattern, and takes over both names of the old one: the
alias of all slices, and that of its slice, under which it is written. Owns names, settings while filling, and the
exchange. Refuses to know where the documents come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from elastic_transport import TransportError
from elasticsearch import ApiError, NotFoundError

from search.client import UNAVAILABLE_STATUSES, IndexUnavailable
from search.execute import SearchRefused
from search.mapping import REFRESH_INTERVAL, alias_of, slice_name, template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from elasticsearch import AsyncElasticsearch

_MASTER_TIMEOUT = "10s"
"""After which Elasticsearch drops a change that it has not begun; less than a client waits for the answer."""

_SETTLING_SECONDS = 30.0
_BUILT = r"\.built\d{20}-\d{6}"


async def slices(client: AsyncElasticsearch, index_prefix: str) -> list[int]:
    """The slices (yyyymm) that the index has, in order. Raises as all here: IndexUnavailable, SearchRefused."""
    return sorted({int(name[-6:]) for name in await _behind(client, alias_of(index_prefix))})


async def begin(client: AsyncElasticsearch, index_prefix: str, index_slice: int, *, shards: int) -> str:
    """Make an empty index for the slice that no search sees; returns the prefix under which to write to it."""
    building = f"{index_prefix}.built{datetime.now(UTC):%Y%m%d%H%M%S%f}"
    made: dict[str, Any] = template(index_prefix, shards=shards)["template"]
    # A refresh now and then costs a fifth of the throughput, and copies would each do the work again.
    filling = made["settings"]["index"] | {"number_of_replicas": 0, "refresh_interval": "-1"}
    with _answering():
        await client.indices.create(
            index=slice_name(building, index_slice),
            settings=made["settings"] | {"index": filling},
            mappings=made["mappings"],
        )
    return building


async def complete(client: AsyncElasticsearch, building: str, index_slice: int, *, replicas: int) -> None:
    """Give the new index the settings of every slice."""
    with _answering():
        await client.indices.put_settings(
            index=slice_name(building, index_slice),
            settings={"index": {"number_of_replicas": replicas, "refresh_interval": REFRESH_INTERVAL}},
        )


async def exchange(client: AsyncElasticsearch, index_prefix: str, building: str, index_slice: int) -> None:
    """Put the new index, all of it visible, in the place of the old one, which is removed. Nobody may write meanwhile.

    Raises:
        IndexUnavailable: also if it can't be told whether it was done; then nothing may be removed yet.
    """
    new, name = slice_name(building, index_slice), slice_name(index_prefix, index_slice)
    with _answering():
        await client.indices.refresh(index=new)
    old = await _behind(client, name)
    actions: list[dict[str, Any]] = [{"remove_index": {"index": each}} for each in old]
    actions += [{"add": {"index": new, "alias": alias}} for alias in (alias_of(index_prefix), name)]
    try:
        with _answering():
            await client.indices.update_aliases(
                actions=actions, master_timeout=_MASTER_TIMEOUT, timeout=_MASTER_TIMEOUT
            )
    except IndexUnavailable:
        # It may be done all the same, and then what is written from now on has to go there.
        if not await _is_in_place(client, name, new):
            raise


async def discard(client: AsyncElasticsearch, building: str, index_slice: int) -> None:
    """Remove an index that was begun; where that fails the next rebuild does it."""
    with contextlib.suppress(IndexUnavailable, SearchRefused), _answering():
        await client.indices.delete(index=slice_name(building, index_slice), ignore_unavailable=True)


async def discard_leftovers(client: AsyncElasticsearch, index_prefix: str) -> list[str]:
    """Remove what rebuilds that were killed have begun; returns their names. None may be under way."""
    mine = re.compile(re.escape(index_prefix) + _BUILT)
    with _answering():
        known = await client.indices.get_alias(index=f"{index_prefix}.built*", expand_wildcards="all")
    left = [name for name, about in known.items() if mine.fullmatch(name) and not about["aliases"]]
    for name in left:
        with _answering():
            await client.indices.delete(index=name, ignore_unavailable=True)
    return left


async def _is_in_place(client: AsyncElasticsearch, name: str, new: str) -> bool:
    deadline = asyncio.get_running_loop().time() + _SETTLING_SECONDS
    while True:
        try:
            return await _behind(client, name) == [new]
        except IndexUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.2)


async def _behind(client: AsyncElasticsearch, name: str) -> Sequence[str]:
    """The indices that an index's or alias' name stands for; none if there is no such name."""
    with _answering():
        try:
            return list(await client.indices.get_alias(index=name))
        except NotFoundError:
            return []


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except TransportError as error:
        raise IndexUnavailable(f"Elasticsearch does not answer: {type(error).__name__}") from error
    except ApiError as error:
        if error.status_code in UNAVAILABLE_STATUSES:
            raise IndexUnavailable(f"Elasticsearch answers {error.status_code}: {error.message}") from error
        raise SearchRefused(f"Elasticsearch refuses with {error.status_code}: {error.message}") from error
