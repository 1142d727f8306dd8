"""`sluice reindex`: the search index built again from PostgreSQL, behind the name that is searched."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.operation import Json, printable
from app.cli.progress import bar
from app.cli.stores import attempt, stores
from app.reindex import Rebuild, Slice, Source, stored_slices
from app.settings import VerifySettings
from search import rebuild
from workers.search_rebuilds import claimed


def reindex(
    index_slice: Annotated[
        str | None, typer.Option("--slice", metavar="YYYYMM", help="Only the events received in this month.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the search index again from PostgreSQL, month by month, while events are stored, indexed and searched.

    No search misses an event or finds it twice meanwhile; the old index of a month goes when the new one is whole, so
    there is room needed for one month more. Wanted after a version that changes how text is analysed, and where an
    index is lost. `SLUICE_INDEX_SHARDS` and `SLUICE_INDEX_REPLICAS` apply to what is built.

    Erasures, retention and deletions of tenants wait with their documents until it is done. If it is killed, nothing is
    changed, and it can be run again after a minute. Exit status 1: a server does not answer, or an event was refused.
    """
    if index_slice is not None and not re.fullmatch(r"[12][0-9]{3}(0[1-9]|1[0-2])", index_slice):
        raise typer.BadParameter("--slice is a month such as 202603")
    settings = VerifySettings.load()
    built = attempt(reindexed(settings, None if index_slice is None else int(index_slice), quiet=as_json))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in built]))
    else:
        _print(built)
    if any(each.refused for each in built):
        raise typer.Exit(1)


async def reindexed(settings: VerifySettings, only: int | None, *, quiet: bool) -> list[Slice]:
    """One slice, or each that there is in PostgreSQL or in the index, one after the other. Raises as `Rebuild.run`."""
    built = []
    async with stores(settings, "sluice reindex") as held, claimed(held.worker_url) as rebuild_id:
        index = held.index
        await rebuild.discard_leftovers(index.client, index.prefix)
        source = Source(held.connection, settings.kafka_bootstrap, settings.group("store"), held.tenants_now)
        totals = await stored_slices(source)
        every = sorted(totals.keys() | set(await rebuild.slices(index.client, index.prefix)))
        with bar("documents", quiet=quiet) as progress:
            for each in every if only is None else [only]:
                task = progress.add_task(str(each), total=totals.get(each, 0))
                work = Rebuild(
                    source, index, rebuild_id, each, lambda count, task=task: progress.advance(task, count)  # type: ignore[misc]
                )  # fmt: skip
                built.append(await work.run(shards=settings.index_shards, replicas=settings.index_replicas))
                progress.remove_task(task)
    return built


def _print(built: list[Slice]) -> None:
    console = Console()
    table = Table("slice", "documents", "refused", "seconds", "documents/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in built:
        rate = each.documents / max(each.seconds, 0.001)
        table.add_row(
            str(each.slice), f"{each.documents:,}", f"{each.refused:,}", f"{each.seconds:.1f}", f"{rate:,.0f}"
        )
    console.print(table)
    for each in built:
        for example in each.examples:
            console.print(f"refused: {printable(example)}")
