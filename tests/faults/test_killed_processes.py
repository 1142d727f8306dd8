"""`kill -9` of the API and of both workers in the middle of an import: it goes on by itself, and verify agrees."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from deploy.local.servers import Endpoints
from tests.e2e.reading import Reading, generate
from tests.faults.places import settled
from tests.system import ROOT, System, until

EVENTS = 3_000


@pytest.mark.timeout(400)
async def test_an_import_survives_the_death_of_api_and_workers_and_counts_each_event_once(
    endpoints: Endpoints, tmp_path: Path
) -> None:
    system = await System.create(endpoints, tmp_path)
    # Slow enough that the import is still under way when each process dies.
    tenant = await system.tenant(rate=300, burst=300)
    source = tmp_path / "events.jsonl.gz"
    generate(source, EVENTS, seed=11)
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"client_id": tenant.client_id, "client_secret": tenant.client_secret}))
    try:
        await system.start("api", "store", "index")
        importing = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli.main", "events", "import", str(source), "--json", "--batch", "200",
            "--api", system.url, "--credentials", str(credentials),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await until(lambda: system.counted(tenant), lambda found: found >= EVENTS / 20, seconds=120)
        for names in (("store", "api"), ("index", "api")):
            assert importing.returncode is None, "the import ended before everything was killed"
            for name in names:
                system.kill(name)
            await system.start(*names)
        out, err = await importing.communicate()
        assert importing.returncode == 0, err.decode()
        assert json.loads(out)["accepted"] >= EVENTS
        await settled(system, [tenant], seconds=120)
        verifying = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli.main", "verify", "--json", "--tenant", tenant.tenant_id,
            cwd=ROOT, env=os.environ | system.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await verifying.communicate()
        assert verifying.returncode == 0, out.decode() + err.decode()
        (report,) = json.loads(out)
        assert (report["events"], report["aggregated"], report["indexed"]) == (EVENTS, EVENTS, EVENTS)
        rows = await system.fetch("select event_id from events")
        assert {row["event_id"] for row in rows} == {event["event_id"] for event in Reading.of(source).events}
    finally:
        system.stop()
