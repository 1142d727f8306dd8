"""What tests of dead letters share: letters made as a worker makes them, and the duty that sends them again."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer

from app.settings import MaintainSettings
from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.workers.conftest import event, record
from tests.system import MadeTenant, System, until
from workers.connections import Connections
from workers.letters import StoreRetries
from workers.sender import Sender

LETTERS = "/api/v1/dead-letters"
PLATFORM = MadeTenant(str(PLATFORM_TENANT_ID), "", "")

_INSERT = """
    insert into dead_letters (tenant_id, worker, reason, detail, topic, source_partition, source_offset, record_index,
                              payload, status, event_id, created_at, changed_at)
    values ($1, $2, $3, 'what was wrong', 't', 0, $4, $5, $6, $7, $8, coalesce($9, now()), now())
    returning dead_letter_id
"""


async def put(system: System, *values: bytes) -> None:
    """Records on the topic of the running system, past the gateway."""
    producer = AIOKafkaProducer(bootstrap_servers=system.endpoints.kafka_bootstrap)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(system.topic, value, partition=0)
    finally:
        await producer.stop()


async def poisoned(
    system: System, tenant: MadeTenant, event_id: str = "1", metadata: bytes = b'{"n":"\\u0000"}'
) -> str:
    """An event that the gateway would not have taken and PostgreSQL refuses; returns its dead letter's id."""
    await put(system, record(tenant, event(event_id, metadata=metadata)))
    query = "select dead_letter_id from dead_letters where tenant_id = $1 and event_id = $2"
    found = await until(lambda: system.fetch(query, UUID(tenant.tenant_id), event_id), bool)
    return str(found[0]["dead_letter_id"])


async def lettered(system: System, tenant: MadeTenant, **members: Any) -> str:
    """A letter with these members, as it stands in the table; returns its id."""
    payload = members.get("payload", b'{"event_id": "1"}')
    rows = await system.fetch(
        _INSERT,
        UUID(tenant.tenant_id),
        members.get("worker", "store"),
        members.get("reason", "unstorable"),
        secrets.randbits(60),
        members.get("record_index", 0),
        payload,
        members.get("status", "open"),
        members.get("event_id"),
        members.get("created_at"),
    )
    return str(rows[0]["dead_letter_id"])


@asynccontextmanager
async def retrying(system: System) -> AsyncIterator[StoreRetries]:
    """The duty of the `maintain` worker, which does not run here, to be turned by hand."""
    settings = system.settings(MaintainSettings)
    connections, sender = Connections(settings), Sender(settings.kafka_bootstrap)
    try:
        yield StoreRetries(connections, sender, settings.raw_topic)
    finally:
        await connections.close()
        await sender.close()
