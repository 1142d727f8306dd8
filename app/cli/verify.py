"""`sluice verify`: proves on a live system that events, aggregates, usage and search index agree, and mends them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli.operation import printable
from app.cli.stores import Stores, attempt, stores
from app.database import connect
from app.index_repair import Reindexed, Repair
from app.recount import Recounted, recount
from app.settings import VerifySettings
from app.verification import Report, verify_tenant
from workers.search_rebuilds import claimed

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Finding:
    """One tenant: what was found, what was mended, and what is found after that (all one where nothing was)."""

    found: Report
    counts: Recounted | None = None
    documents: Reindexed | None = None
    after: Report | None = None

    @property
    def last(self) -> Report:
        return self.after or self.found

    def as_json(self) -> dict[str, Any]:
        shown = _shown(self.found)
        if self.after is not None:
            shown["repaired"] = asdict(self.counts or Recounted()) | asdict(self.documents or Reindexed())
            shown["after"] = _shown(self.after)
        return shown


def verify(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant (its id).")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make aggregates, usage and search index say again what `events` says.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Compare events, 15-minute aggregates, usage and search index of every tenant, while all of it runs.

    Exit status 0: they agree. 1: they don't (with `--repair`: still), or a server does not answer. An event that the
    index worker has yet to read is counted as waiting and is no fault.

    `--repair` takes the table `events` for the truth: wrong counts are made from it again hour by hour, documents that
    are missing are written, those without an event are removed. All of it is compared once more at the end.
    """
    found = attempt(findings(VerifySettings.load(), tenant, repair=repair, quiet=as_json))
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in found], default=str))
    else:
        _print(found)
    if not all(finding.last.agrees for finding in found):
        raise typer.Exit(1)


async def findings(settings: VerifySettings, tenant: UUID | None, *, repair: bool, quiet: bool) -> list[Finding]:
    """What is found of `tenant` or of all, and what `repair` makes of it; one that is being deleted is left out."""
    found = []
    async with stores(settings, "sluice verify") as held:
        with Progress(console=Console(stderr=True), disable=quiet, transient=True) as progress:
            for tenant_id in progress.track(held.only(tenant), description="Comparing"):
                finding = Finding(await report(held, tenant_id))
                if repair and not finding.found.agrees:
                    task = progress.add_task("Repairing", total=None)
                    finding = await mend(held, finding.found, lambda done, task=task: progress.advance(task, done))  # type: ignore[misc]
                    progress.remove_task(task)
                if not finding.last.leaving:
                    found.append(finding)
    return found


async def report(held: Stores, tenant_id: UUID) -> Report:
    """What is found of one tenant."""
    index = held.index
    return await verify_tenant(
        held.connection,
        index.client,
        tenant_id,
        index_prefix=index.prefix,
        index_group=index.group,
        topic=index.topic,
    )


async def mend(held: Stores, found: Report, progress: Callable[[int], None]) -> Finding:
    """Mend what `found` says is wrong, and compare again."""
    counts = documents = None
    if found.wrong_buckets or found.wrong_usage:
        counts = await recount(held.connection, found.tenant_id, progress)
    if found.missing or found.extra or found.doubled:
        async with claimed(held.worker_url) as rebuild_id:
            documents = await mend_documents(held, found.tenant_id, rebuild_id, progress)
    return Finding(found, counts, documents, await report(held, found.tenant_id))


async def mend_documents(held: Stores, tenant_id: UUID, rebuild_id: UUID, progress: Callable[[int], None]) -> Reindexed:
    """Mend a tenant's documents under a claim that is held already."""
    writing = await connect(held.worker_url, name="sluice verify")
    try:
        return await Repair(held.connection, writing, held.index, tenant_id, rebuild_id).run(progress)
    finally:
        await writing.close(timeout=2)


def _shown(report: Report) -> dict[str, Any]:
    return asdict(report) | {"agrees": report.agrees}


def _print(findings: list[Finding]) -> None:
    console = Console()
    table = Table("tenant", "events", "aggregated", "usage", "indexed", "waiting", "agrees")
    for column in table.columns[1:6]:
        column.justify = "right"
    for finding in findings:
        report = finding.last
        numbers = (report.events, report.aggregated, report.metered, report.indexed, report.waiting)
        verdict = "[green]yes[/green]" if report.agrees else "[red]no[/red]"
        if finding.after is not None and report.agrees:
            verdict += ", repaired"
        table.add_row(str(report.tenant_id), *(f"{number:,}" for number in numbers), verdict)
    console.print(table)
    for finding in findings:
        for line in _lines(finding):
            console.print(f"{finding.found.tenant_id}: {printable(line)}")


def _lines(finding: Finding) -> list[str]:
    """What differed, in words; of what was mended, only how much."""
    report = finding.last
    lines = []
    if finding.after is not None:
        mended = asdict(finding.counts or Recounted()) | asdict(finding.documents or Reindexed())
        lines.append("repaired: " + ", ".join(f"{count:,} {name}" for name, count in mended.items() if count))
    if report.wrong_buckets:
        lines.append(f"{report.wrong_buckets} buckets differ from a recount")
    if report.wrong_usage:
        lines.append(f"{report.wrong_usage} hours or months of usage differ")
    for hour in report.hours:
        places = {name: count for name, count in asdict(hour).items() if name != "hour" and count}
        lines.append(f"{hour.hour:%Y-%m-%dT%H:%MZ}: " + ", ".join(f"{count} {name}" for name, count in places.items()))
    if report.wrong_hours > len(report.hours):
        lines.append(f"and {report.wrong_hours - len(report.hours)} hours more")
    return lines + report.examples
