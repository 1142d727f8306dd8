"""`make bench`: runs the rows, prints their ratios, writes bench/results and the table in docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer
import uvloop
from rich.console import Console

from bench import machine
from bench.inside import checks
from bench.report import RESULTS, document, show
from bench.rows import Row, batches, single, store
from deploy.local.ports import Ports
from deploy.local.servers import NAMES, LocalServers
from tests.system import System

AIMS = {1: 0.45, 2: 0.40, 3: 0.60, 4: 0.60, 11: 20.0}
"""Ratios; of row 11, which has no reference, microseconds."""


def main(
    rows: Annotated[list[int] | None, typer.Option("--row", help="Only this row; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="Times that subject and reference take turns.")] = 3,
    events: Annotated[int, typer.Option(help="Events for the store worker.")] = 100_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure each row against its reference, in turn, in this one run. Takes about three minutes."""
    os.environ["SLUICE_ES_FULL_JIT"] = "1"
    chosen = sorted(set(rows or AIMS))
    found = uvloop.run(_measure(chosen, seconds, rounds, events))
    report = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": psutil.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "pinned": machine.can_pin(),
        "rows": [asdict(row) | {"ratio": row.ratio, "aim": AIMS[row.number]} for row in found],
    }
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        show(report)
    if set(chosen) == set(AIMS):  # a part of the rows is for the eyes only
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        document(report)


async def _measure(chosen: list[int], seconds: float, rounds: int, events: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        servers = LocalServers(folder / "servers", ports=Ports.free(), report=Console(stderr=True).print)
        endpoints = await servers.start()
        machine.pin(os.getpid(), machine.OTHERS)
        for server in NAMES:
            machine.pin(servers.pid(server), machine.OTHERS)
        found: list[Row] = []
        try:
            system = await System.create(endpoints, folder)
            try:
                if {1, 2, 3} & set(chosen):
                    await system.start("api")
                    machine.pin(system.processes["api"].pid, machine.MEASURED)
                for number, connections in ((1, 512), (2, 64)):
                    if number in chosen:
                        found.append(await single(system, number, connections, seconds, rounds))
                if 3 in chosen:
                    found.append(await batches(system, folder, seconds, rounds))
                if 11 in chosen:
                    found.append(await checks(system, rounds))
            finally:
                system.stop()
            if 4 in chosen:

                async def fresh() -> System:
                    return await System.create(endpoints, folder)

                found.append(await store(fresh, events, rounds))
        finally:
            await servers.stop()
    return sorted(found, key=lambda row: row.number)


if __name__ == "__main__":
    typer.run(main)
