"""The rows of the performance table that can be measured today: 1 to 3 ingest, 4 the store worker.

Each row runs its subject and its reference in turn (A B A B …) and answers medians and their ratio.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer

from app.events.record import AcceptedEvent, encode_events, join_record, partition_key
from bench import load, machine, sample
from deploy.local.ports import free_ports
from tests.system import System

RECORD_EVENTS = 100


@dataclass
class Row:
    """One row: what was measured, against what, and the ratio of the medians (None: it has no reference)."""

    number: int
    name: str
    unit: str
    subject: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        if not self.reference:
            return None
        return statistics.median(self.subject) / statistics.median(self.reference)


async def single(system: System, number: int, connections: int, seconds: float, rounds: int) -> Row:
    """Rows 1 and 2: one event a request."""
    row = Row(number, f"single-event ingest, {connections} connections", "requests/s")
    token = await system.token(await system.tenant())
    bodies = [sample.encoded({**event, "event_id": None}) for event in sample.events(1000)]
    requests = [load.request("/api/v1/events", body, token=token) for body in bodies]
    api_port = int(system.environment["SLUICE_API_PORT"])
    api_pid = system.processes["api"].pid
    with _bare() as (bare_port, bare_pid):
        machine.pin(bare_pid, machine.MEASURED)
        for _ in range(rounds):
            busy = machine.cpu_seconds(api_pid)
            found = await load.run(api_port, itertools.cycle(requests), connections=connections, seconds=seconds)
            busy = machine.cpu_seconds(api_pid) - busy
            _require(found, 202)
            row.subject.append(found.per_second)
            row.notes |= {
                "p50 ms": found.percentile(0.5),
                "p99 ms": found.percentile(0.99),
                "processor µs/request": busy / (seconds + 1) / found.per_second * 1e6,
                "memory MiB": machine.resident_mib(api_pid),
            }
            bare = await load.run(bare_port, itertools.cycle(requests), connections=connections, seconds=seconds)
            _require(bare, 202)
            row.reference.append(bare.per_second)
    return row


async def batches(system: System, folder: Path, seconds: float, rounds: int) -> Row:
    """Row 3: 100 events a request, against decoding and producing the same bytes without HTTP."""
    row = Row(3, "batch ingest of 100 events, 64 connections", "events/s")
    token = await system.token(await system.tenant())
    size = 100
    items = list(sample.events(size))
    body = sample.encoded([{**event, "event_id": None} for event in items])
    request = load.request("/api/v1/events/batch", body, token=token)
    bytes_file = folder / "batch.json"
    bytes_file.write_bytes(body)
    api_port = int(system.environment["SLUICE_API_PORT"])
    api_pid = system.processes["api"].pid
    for _ in range(rounds):
        busy = machine.cpu_seconds(api_pid)
        found = await load.run(api_port, itertools.repeat(request), connections=64, seconds=seconds)
        busy = machine.cpu_seconds(api_pid) - busy
        _require(found, 202)
        row.subject.append(found.per_second * size)
        row.notes |= {
            "p50 ms": found.percentile(0.5),
            "p99 ms": found.percentile(0.99),
            "processor µs/event": busy / (seconds + 1) / found.per_second / size * 1e6,
        }
        arguments = [system.endpoints.kafka_bootstrap, system.topic, str(bytes_file), str(seconds), "64"]
        reference = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.produce", *arguments, stdout=subprocess.PIPE
        )
        machine.pin(reference.pid, machine.MEASURED)
        out, _ = await reference.communicate()
        row.reference.append(json.loads(out)["bodies_per_second"] * size)
    return row


async def store(fresh: Callable[[], Awaitable[System]], count: int, rounds: int) -> Row:
    """Row 4: the store worker drains a full topic; against COPY of the same rows into the same table."""
    row = Row(4, f"store worker, {count:,} events, one connection", "events/s")
    for _ in range(rounds):
        system = await fresh()
        tenants = [await system.tenant() for _ in range(4)]
        accepted = [_accepted(event) for event in sample.events(count)]
        await _fill(system, [UUID(tenant.tenant_id) for tenant in tenants], accepted)
        try:
            await system.start("store")
            machine.pin(system.processes["store"].pid, machine.MEASURED)
            row.subject.append(await _drain_rate(system, count))
            row.notes["memory MiB"] = machine.resident_mib(system.processes["store"].pid)
        finally:
            system.stop()
        row.reference.append(await _copy_rate(await fresh(), [UUID(t.tenant_id) for t in tenants], accepted))
    return row


def _accepted(event: dict[str, Any]) -> AcceptedEvent:
    import msgspec  # noqa: PLC0415

    raw = msgspec.Raw(sample.encoded(event["metadata"]))
    moment = datetime.fromisoformat(event["timestamp"])
    return AcceptedEvent(event["event_id"], event["event_type"], moment, raw, event["user_id"])


def _shares(tenants: list[UUID], accepted: list[AcceptedEvent]) -> Iterator[tuple[UUID, list[AcceptedEvent]]]:
    """Records of `RECORD_EVENTS` events, tenants in turn."""
    for number, start in enumerate(range(0, len(accepted), RECORD_EVENTS)):
        yield tenants[number % len(tenants)], accepted[start : start + RECORD_EVENTS]


async def _fill(system: System, tenants: list[UUID], accepted: list[AcceptedEvent]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=system.endpoints.kafka_bootstrap, max_request_size=2**21)
    await producer.start()
    now = datetime.now().astimezone()
    for tenant, events in _shares(tenants, accepted):
        value = join_record(tenant, "bench", now, [encode_events(events)])
        await producer.send(system.topic, value, key=partition_key(tenant, 0, 1))
    await producer.flush()
    await producer.stop()


async def _drain_rate(system: System, count: int) -> float:
    """Events a second between the first commit that is seen and the last; looks seldom and at few rows."""
    connection = await asyncpg.connect(system.admin_url)
    first: tuple[float, int] | None = None
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            records = await connection.fetchval("select coalesce(sum(next_offset), 0)::bigint from stream_offsets")
            now = time.perf_counter()
            if records and first is None:
                first = (now, records)
            if records * RECORD_EVENTS >= count and first is not None:
                return float((records - first[1]) * RECORD_EVENTS / (now - first[0]))
            await asyncio.sleep(0.02)
    finally:
        await connection.close()
    raise TimeoutError("the store worker did not finish")


async def _copy_rate(system: System, tenants: list[UUID], accepted: list[AcceptedEvent]) -> float:
    """Events a second of one COPY as the superuser, whom row security does not concern, in the worker's batch size."""
    now = datetime.now().astimezone()
    rows = [
        (
            tenant,
            e.event_id,
            e.event_type,
            e.user_id,
            "bench",
            e.timestamp,
            now,
            202611,
            0,
            0,
            bytes(e.metadata).decode(),
        )
        for tenant, events in _shares(tenants, accepted)
        for e in events
    ]
    columns = (
        "tenant_id", "event_id", "event_type", "user_id", "client_id", "timestamp", "received_at", "index_slice",
        "source_partition", "source_offset", "metadata",
    )  # fmt: skip
    connection = await asyncpg.connect(system.admin_url)
    machine.pin(os.getpid(), machine.MEASURED)  # where the worker was
    try:
        started = time.perf_counter()
        for start in range(0, len(rows), 6000):
            await connection.copy_records_to_table("events", records=rows[start : start + 6000], columns=columns)
        return len(rows) / (time.perf_counter() - started)
    finally:
        machine.pin(os.getpid(), machine.OTHERS)
        await connection.close()


class _bare:  # noqa: N801  reads as a statement
    """The constant server, up and listening."""

    def __enter__(self) -> tuple[int, int]:
        (port,) = free_ports(1)
        self._process = subprocess.Popen([sys.executable, "-m", "bench.bare", str(port)])
        deadline = time.monotonic() + 30
        import socket  # noqa: PLC0415

        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((load.HOST, port)) == 0:
                    return port, self._process.pid
            time.sleep(0.05)
        raise TimeoutError("the reference server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _require(found: load.Result, status: int) -> None:
    wrong = {code: count for code, count in found.statuses.items() if code != status}
    if wrong or not found.statuses:
        raise RuntimeError(f"the load was not answered as it should be: {found.statuses}")
