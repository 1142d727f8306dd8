"""Which partition of a topic a key belongs to: known to who writes there, and to who waits for what was written."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own clients, and so aiokafka's producer, would put a record with `key`."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
