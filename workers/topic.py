"""The Kafka topics: making them, and telling a topic from another one of the same name.

A topic that was deleted and made again starts at offset 0 under another id; positions kept for the first
would then skip or repeat records, so workers compare ids before they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

MAX_RECORD_BYTES = 2 * 2**20
RETENTION_MS = 7 * 24 * 3600 * 1000
SEGMENT_MS = 24 * 3600 * 1000
"""Kafka removes whole segments, each when its newest record is old enough; so none may grow for long."""


class TopicError(Exception):
    """The topic isn't what a worker expects; the text says what to look at."""


@dataclass(frozen=True)
class TopicIdentity:
    """Which log this is, across deletions and clusters."""

    cluster_id: str
    topic_id: UUID


async def ensure_topics(
    bootstrap: str, topics: Sequence[str], *, partitions: int, replication: int = 1
) -> frozenset[str]:
    """Make those of `topics` that are missing, and return them. An existing one is left as it is.

    Raises:
        KafkaError: Kafka does not answer.
        TopicError: Kafka did not make one.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {
            "retention.ms": str(RETENTION_MS),
            "segment.ms": str(SEGMENT_MS),
            "max.message.bytes": str(MAX_RECORD_BYTES),
            # An acknowledgement then means that a second copy is there, wherever there can be one.
            "min.insync.replicas": str(min(2, replication)),
        }
        wanted = [NewTopic(topic, partitions, replication, topic_configs=configs) for topic in topics]
        answer = await admin.create_topics(wanted)
    finally:
        await admin.close()
    made = set()
    for topic, code, message, *_ in answer.topic_errors:
        if not code:
            made.add(topic)
        elif code != TopicAlreadyExistsError.errno:
            raise TopicError(f"Kafka did not make the topic {topic}: error {code}, {message}")
    return frozenset(made)


async def longest_kept(bootstrap: str, topic: str) -> timedelta | None:
    """After which time Kafka has removed a record that is written now; None: it keeps the topic for ever.

    A record goes with its segment, which takes new ones for up to `segment.ms` and then stays for `retention.ms`
    (Kafka's topic configuration). Where `retention.bytes` is set as well, it may go earlier.

    Raises:
        KafkaError: Kafka does not answer.
        TopicError: there is no such topic, or this client may not ask.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = {"retention.ms": None, "segment.ms": None}
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, names)])
    finally:
        await admin.close()
    error, message, _, _, entries = answer.resources[0]
    if error:
        raise TopicError(f"Kafka does not tell the configuration of {topic}: error {error}, {message}")
    configured = {entry[0]: int(entry[1]) for entry in entries}
    if configured["retention.ms"] < 0:
        return None
    return timedelta(milliseconds=configured["retention.ms"] + configured["segment.ms"])


async def identify(bootstrap: str, topic: str) -> TopicIdentity:
    """The ids of the cluster and of `topic`.

    Raises:
        KafkaError: Kafka does not answer, or can't tell now.
        TopicError: there is no such topic.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        answer = await client.send(client.get_random_node(), _TopicIds(topic))
    finally:
        await client.close()
    error, _, topic_id = answer.topics[0][:3]
    if error == UnknownTopicOrPartitionError.errno:
        raise TopicError(f"There is no topic {topic} at {bootstrap}; `sluice migrate` makes it.")
    if error:
        raise for_code(error)
    return TopicIdentity(answer.cluster_id, topic_id)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


# Metadata, version 10: the first that carries topic ids (KIP-516). aiokafka itself stops at version 5.
class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIds(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequest]) -> Any:
        nil = UUID(int=0)  # asked by name
        return request_struct_class([(nil, self._topic, {})], False, False, False, {})
