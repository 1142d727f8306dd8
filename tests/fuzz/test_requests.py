"""Hostile bodies over HTTP: answered as decided in the process, stored if answered 202, and memory stays level."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import psutil
import pytest

from app.events.model import Receipt
from app.ingest.endpoint import BATCH, SINGLE
from tests.fuzz.bodies import Case, case
from tests.fuzz.decoding import check, verdict_on
from tests.fuzz.test_decoders import letters
from tests.system import System, until

SEED = 6
CASES = {False: 400, True: 10_000}
AT_ONCE = 8
GROWTH_BYTES = 300 * 2**20
"""What eight bodies of ten megabytes and their parts take at once, and the allocator keeps. It must not go on."""


@pytest.mark.timeout(3600)
async def test_bodies_are_answered_as_decided_and_memory_stays_level(
    attacked: System, long_form: bool, say: Callable[[str], None]
) -> None:
    tenant = await attacked.tenant()
    api = psutil.Process(attacked.processes["api"].pid)
    before = api.memory_info().rss
    stored = 0
    ids: set[str] = set()
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(client: httpx.AsyncClient, drawn: Case) -> None:
        nonlocal stored
        async with turns:
            known, made = await send(client, drawn)
        ids.update(known)
        stored += made

    async with attacked.client(tenant) as client:
        for first in range(0, CASES[long_form], 200):
            await asyncio.gather(*(one(client, case(SEED, number)) for number in range(first, first + 200)))
        assert (await client.post(SINGLE, json={"event_type": "after"})).status_code == 202
    growth = api.memory_info().rss - before
    assert growth < GROWTH_BYTES
    await until(lambda: attacked.counted(tenant), lambda found: found == stored + len(ids) + 1, seconds=120)
    assert await letters(attacked, tenant) == 0
    say(f"{CASES[long_form]} bodies of seed {SEED} over HTTP; memory of the API grew by {growth / 2**20:.0f} MiB")


async def send(client: httpx.AsyncClient, drawn: Case) -> tuple[set[str], int]:
    """Sends it and compares the answer; returns the ids accepted, and how many more that the gateway made up."""
    answer = await client.post(BATCH if drawn.is_batch else SINGLE, content=drawn.content, headers=drawn.headers)
    verdict = await verdict_on(drawn, Receipt.now())
    check(drawn, verdict)
    assert answer.status_code == verdict.status, f"{answer.status_code} {answer.text[:500]}: {drawn}"
    assert "x-request-id" in answer.headers
    if answer.status_code != 202:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == answer.status_code
        assert problem["detail"]
        # An event's place in a batch of which nothing is good comes first in its pointer.
        faults = verdict.pointers or {}
        whole = not drawn.is_batch or "rejected" not in problem
        expected = {pointer if whole else f"/{at}{pointer}" for at, found in faults.items() for pointer in found}
        assert {fault["pointer"] for fault in problem.get("errors", ())} == expected, f"{problem}: {drawn}"
        return set(), 0
    if drawn.is_batch:
        assert answer.json()["accepted"] == len(verdict.accepted)
        assert [each["index"] for each in answer.json()["rejected"]] == sorted(verdict.pointers or {})
    again = {event.event_id for event in (await verdict_on(drawn, Receipt.now())).accepted}
    ids = {event.event_id for event in verdict.accepted}
    return ids & again, len(ids - again)
