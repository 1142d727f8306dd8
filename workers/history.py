"""The log read once more, from one position to another: by no group, so that nobody's position moves.

Owns where reading begins and ends. Refuses to know what a record holds.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

PATIENCE_SECONDS = 60.0
"""How long Kafka may give nothing of what it said it holds."""

_MAX_RECORDS = 500


class HistoryError(Exception):
    """The log does not hold, or does not give, what is to be read; the text says which."""


async def read(
    bootstrap: str, topic: str, *, to: Mapping[int, int], since: Mapping[int, int] | None = None
) -> AsyncIterator[list[ConsumerRecord]]:
    """The records of each partition of `to` before the offset there, in the order of their partition, in batches.

    `since` is the offset of the first one, 0 where a partition is not named; None: all that Kafka still holds.

    Raises:
        KafkaError: Kafka does not answer.
        HistoryError: the log begins after `since` or ends before `to`, or gave nothing for a minute.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 2**20,
        fetch_max_bytes=16 * 2**20,
    )
    await consumer.start()
    try:
        ends = {TopicPartition(topic, partition): offset for partition, offset in to.items()}
        starts = await _starts(consumer, ends, since)
        left = {tp: end for tp, end in ends.items() if starts[tp] < end}
        consumer.assign(list(left))
        for tp in left:
            consumer.seek(tp, starts[tp])
        heard = time.monotonic()
        while left:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=_MAX_RECORDS)
            records = [each for tp, some in fetched.items() for each in some if tp in left and each.offset < left[tp]]
            if records:
                heard = time.monotonic()
                yield records
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_SECONDS:
                raise HistoryError(f"Kafka gave nothing of {topic} for {PATIENCE_SECONDS:.0f} s.")
            for tp in list(left):
                if await consumer.position(tp) >= left[tp]:
                    del left[tp]
                    consumer.pause(tp)
    finally:
        await consumer.stop()


async def _starts(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], since: Mapping[int, int] | None
) -> dict[TopicPartition, int]:
    first = await consumer.beginning_offsets(list(ends))
    last = await consumer.end_offsets(list(ends))
    starts = {}
    for tp, end in ends.items():
        starts[tp] = first[tp] if since is None else since.get(tp.partition, 0)
        if starts[tp] < min(first[tp], end) or last[tp] < end:
            raise HistoryError(
                f"{tp.topic}[{tp.partition}] holds {first[tp]} to {last[tp]}, but {starts[tp]} to {end} is needed."
            )
    return starts
