"""A migrated system without processes, and workers that run inside the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from app.cli.main import _status
from app.events.record import AcceptedEvent, encode_events, join_record
from app.settings import WorkerSettings
from deploy.local.servers import Endpoints
from tests.system import MadeTenant, System
from workers.main import run_until

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


class Bench:
    """One topic, one database, and what a test does to them."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.settings = system.settings(WorkerSettings)

    async def put(self, partition: int, *values: bytes) -> None:
        """Write raw record values to the topic."""
        producer = AIOKafkaProducer(bootstrap_servers=self.system.endpoints.kafka_bootstrap, max_request_size=2**21)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(self.system.topic, value, partition=partition)
        finally:
            await producer.stop()

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[asyncio.Task[None]]:
        """Workers in this process, stopped at the end."""
        stopping = asyncio.Event()
        task = asyncio.create_task(run_until(names, self.settings, stopping))
        try:
            yield task
        finally:
            stopping.set()
            await task

    async def dead_letters(self) -> list[Any]:
        return await self.system.fetch(
            "select tenant_id, reason, source_offset, record_index, payload from dead_letters order by 3, 4"
        )


def record(tenant: MadeTenant, *events: AcceptedEvent) -> bytes:
    return join_record(UUID(tenant.tenant_id), tenant.client_id, NOW, [encode_events(list(events))])


def event(event_id: str, event_type: str = "t", metadata: bytes = b"{}", at: datetime = NOW) -> AcceptedEvent:
    return AcceptedEvent(event_id, event_type, at, msgspec.Raw(metadata), "u")


@pytest.fixture
async def bench(endpoints: Endpoints, tmp_path: Path) -> Bench:
    return Bench(await System.create(endpoints, tmp_path))


@pytest.fixture
def command(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Awaitable[tuple[int, str, str]]]:
    """Runs `sluice` with these arguments as an operator of the bench would: its status, output and error output."""
    for name, value in bench.system.environment.items():
        monkeypatch.setenv(name, value)

    async def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = await asyncio.to_thread(_status, list(arguments))
        return status, *capsys.readouterr()

    return run
