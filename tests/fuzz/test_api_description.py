"""The whole OpenAPI document, every operation with all checks of schemathesis, against a running system.

It reads the document, so that a new route is tested from its first day. What is excluded says why: see
schemathesis.toml and description_hooks.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.ingest.endpoint import BATCH, SINGLE
from tests.integration.tenants.managing import administrator_of
from tests.system import ROOT, MadeTenant, System, until

SEED = 5
CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
CASES = {False: 5, True: 400}
"""Drawn for each operation beside its fixed ones, by whether the form is long."""


async def filled(system: System, tenant: MadeTenant) -> None:
    """Events of the tenant, stored and found, so that questions have something to answer."""
    events = [
        {"event_type": ("click", "view")[n % 2], "user_id": f"u{n % 3}", "metadata": {"page": f"/{n}", "price": n / 4}}
        for n in range(20)
    ]
    async with system.client(tenant) as client:
        assert (await client.post(BATCH, json=events)).status_code == 202

        async def found() -> int:
            return int((await client.get("/api/v1/events/search")).json().get("total", 0))

        await until(found, lambda total: total == len(events))


@pytest.mark.timeout(3600)
async def test_every_operation_answers_as_the_document_says(
    attacked: System, tmp_path: Path, long_form: bool, say: Callable[[str], None]
) -> None:
    tenant, administrator = await attacked.tenant(), await administrator_of(attacked)
    await filled(attacked, tenant)
    report = tmp_path / "report.json"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "FUZZ_CLIENT_ID": tenant.client_id,
        "FUZZ_CLIENT_SECRET": tenant.client_secret,
        "FUZZ_TENANT_ID": tenant.tenant_id,
        "FUZZ_TENANT_TOKEN": await attacked.token(tenant),
        "FUZZ_PLATFORM_TOKEN": await attacked.token(administrator),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run", "--no-color",
        f"{attacked.url}/openapi.json", "--checks", "all", "--seed", str(SEED), "--max-examples", str(CASES[long_form]),
        "--report-json-path", str(report),
        cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    told: dict[str, Any] = json.loads(report.read_text())
    async with attacked.client(tenant) as client:
        document = (await client.get("/openapi.json")).json()
        # Or all that came after would have been refused and shown nothing.
        assert (await client.post(SINGLE, json={"event_type": "alive"})).status_code == 202
        assert (await client.get("/api/v1/limits")).status_code == 200
    assert told["operations"]["tested"] == sum(len(item) for item in document["paths"].values())
    sent, operations = told["test_cases"]["generated"], told["operations"]["tested"]
    say(f"{sent} requests to {operations} operations in {told['running_time']:.0f} s, all answered as described")
