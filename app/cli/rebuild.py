"""`sluice replay --rebuild`: rows, aggregates, usage and documents that are gone, from what Kafka still holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console

from app.cli.progress import bar
from app.cli.stores import attempt, stores
from app.cli.verify import mend_documents
from app.index_repair import Reindexed
from app.recount import Recounted, recount
from app.restoration import Restoration
from app.settings import VerifySettings
from workers.search_rebuilds import claimed


def rebuild(*, as_json: bool) -> None:
    """Restore what Kafka still holds and PostgreSQL does not, then make counts and search index agree with it.

    Raises:
        CommandError: a server does not answer, or this is not the log that the store worker reads.
    """
    done = attempt(rebuilt(VerifySettings.load(), quiet=as_json))
    if as_json:
        typer.echo(json.dumps(done))
        return
    console = Console()
    console.print(
        f"{done['records']:,} records with {done['events']:,} events: [bold]{done['restored']:,} restored[/bold], "
        f"{done['present']:,} there already, {done['suppressed']:,} of erased users or deleted tenants, "
        f"{done['expired']:,} older than their plan keeps them, {done['refused']:,} refused as before."
    )
    console.print(
        f"Counts rewritten: {done['buckets']:,} of 15 minutes, {done['usage']:,} hours, {done['months']:,} months. "
        f"Documents: {done['indexed']:,} written, {done['removed']:,} removed."
    )


async def rebuilt(settings: VerifySettings, *, quiet: bool) -> dict[str, Any]:
    """What was restored and mended, in numbers."""
    async with stores(settings, "sluice rebuild") as held, claimed(held.worker_url) as rebuild_id:
        with bar("records", quiet=quiet) as progress:
            task = progress.add_task("Restoring", total=None)
            restoration = Restoration(held.connection, rebuild_id, lambda count: progress.advance(task, count))
            restored = await restoration.run(settings.kafka_bootstrap, settings.raw_topic, settings.group("store"))
        counts, documents = Recounted(), Reindexed()
        with bar("hours and documents", quiet=quiet) as progress:
            task = progress.add_task("Repairing", total=None)
            for tenant_id in sorted(restored.tenants.intersection(held.tenants)):
                counts += await recount(held.connection, tenant_id, lambda count: progress.advance(task, count))
                documents += await mend_documents(
                    held, tenant_id, rebuild_id, lambda count: progress.advance(task, count)
                )
    shown = asdict(restored) | {"tenants": sorted(map(str, restored.tenants))}
    # Two of their members have the same names: what PostgreSQL refuses, and what Elasticsearch does.
    return shown | asdict(counts) | {"indexed": documents.indexed, "removed": documents.removed,
                                     "not_indexable": documents.refused}  # fmt: skip
