"""Positions in the log, kept in PostgreSQL and committed with what was written: the claim and the fence.

A claim raises the partition's epoch, so that an earlier owner that still runs can't commit any more. Each
batch begins by moving the position from the expected value under that epoch; no row moved means it was lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import asyncpg

from workers.topic import TopicIdentity


@dataclass(frozen=True)
class Claim:
    """A partition owned by this process: the next offset to handle, and the epoch that proves it."""

    next_offset: int
    epoch: int


class LogMismatchError(Exception):
    """The log is not the one that the position was kept for. Needs a person: going on would lose or repeat events."""


class FencedError(Exception):
    """Another process has claimed a partition of this batch; nothing of it was written."""


async def claim(  # noqa: PLR0917  all of it names one partition
    connection: asyncpg.Connection,
    group: str,
    topic: str,
    partition: int,
    identity: TopicIdentity,
    log: Callable[[], Awaitable[tuple[int, int]]],
) -> Claim:
    """Take over `partition` for `group`; `log` asks Kafka for its (first, next) offset.

    It is asked while nobody else can move the position: an earlier owner that is still at work may have moved it beyond
    what was the log's end a moment ago. A group that comes to a partition for the first time starts at the beginning of
    the log.

    Raises:
        LogMismatchError: another cluster or topic id, or the kept position is outside the log.
    """
    first, _ = await log()
    async with connection.transaction():
        await connection.execute(
            """
            insert into stream_offsets (consumer_group, topic, partition, cluster_id, topic_id, next_offset, epoch)
            values ($1, $2, $3, $4, $5, $6, 0) on conflict do nothing
            """,
            group, topic, partition, identity.cluster_id, identity.topic_id, first,
        )  # fmt: skip
        row = await connection.fetchrow(
            """
            update stream_offsets set epoch = epoch + 1
            where consumer_group = $1 and topic = $2 and partition = $3
            returning cluster_id, topic_id, next_offset, epoch
            """,
            group, topic, partition,
        )  # fmt: skip
        assert row is not None  # noqa: S101  inserted above if it was not there
        first, end = await log()
        where = f"{topic}[{partition}] for {group}"
        if (row["cluster_id"], row["topic_id"]) != (identity.cluster_id, identity.topic_id):
            raise LogMismatchError(
                f"{where}: the position belongs to topic {row['topic_id']} of cluster {row['cluster_id']}, but this is "
                f"topic {identity.topic_id} of cluster {identity.cluster_id}"
            )
        if not first <= row["next_offset"] <= end:
            raise LogMismatchError(
                f"{where}: the position is {row['next_offset']}, but the log holds {first} to {end}: "
                "records are missing"
            )
    return Claim(row["next_offset"], row["epoch"])


async def advance(
    connection: asyncpg.Connection, group: str, topic: str, claims: Mapping[int, Claim], to: Mapping[int, int]
) -> None:
    """Move each partition of `to` from its claim's offset to the given one, inside the caller's transaction.

    One row at a time in partition order: two workers that meet here wait for each other and never deadlock.

    Raises:
        FencedError: a partition is not this process' any more.
    """
    for partition in sorted(to):
        held = claims[partition]
        moved = await connection.execute(
            """
            update stream_offsets set next_offset = $4, updated_at = now()
            where consumer_group = $1 and topic = $2 and partition = $3 and next_offset = $5 and epoch = $6
            """,
            group, topic, partition, to[partition], held.next_offset, held.epoch,
        )  # fmt: skip
        if moved != "UPDATE 1":
            raise FencedError(f"{topic}[{partition}] for {group}")


async def positions(connection: asyncpg.Connection, group: str, topic: str) -> dict[int, int]:
    """The next offset of each partition that `group` has ever claimed."""
    rows = await connection.fetch(
        "select partition, next_offset from stream_offsets where consumer_group = $1 and topic = $2", group, topic
    )
    return {row["partition"]: row["next_offset"] for row in rows}
