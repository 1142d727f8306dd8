"""`sluice tenants usage`: what a tenant has used, as a table and a small bar chart. Owns arguments and output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from app.cli.operation import Json, operate, printable
from app.parameters import Reading
from app.settings import OperatorSettings
from tenants.records import find_tenant
from tenants.usage.answers import USAGE_PARAMETERS, UsageAnswer, read_window
from tenants.usage.reading import UsageInterval, UsageWindow, read_usage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CHART_DAYS = 14
BAR_CHARACTERS = 40


def usage(
    tenant_id: Annotated[UUID, typer.Argument(help="As printed by `create` and `list`.")],
    started_at: Annotated[
        str | None, typer.Option("--from", help="From this date or time (UTC) on; else the start of this month.")
    ] = None,
    ended_at: Annotated[
        str | None, typer.Option("--to", help="Before this date or time (UTC); else the end of this month.")
    ] = None,
    interval: Annotated[UsageInterval, typer.Option(help="Width of the series in --json.")] = UsageInterval.DAY,
    client: Annotated[str | None, typer.Option(help="Only what this client sent.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what a tenant stored, sent again and was refused, and how much of its monthly quota that is.

    Stored, duplicates and bytes are exact. Rejected and throttled are best effort: each gateway counts them in memory
    and adds them every few seconds. The chart shows the last two weeks.
    """
    now = datetime.now(UTC)
    given = (("started_at", started_at), ("ended_at", ended_at), ("client_id", client), ("interval", interval.value))
    pairs = [(name, value) for name, value in given if value is not None]
    window = read_window(Reading(pairs, USAGE_PARAMETERS, prefix=""), now)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    recent = UsageWindow(midnight - timedelta(days=CHART_DAYS - 1), midnight + timedelta(days=1), client_id=client)

    async def read(engine: AsyncEngine) -> tuple[UsageAnswer, UsageAnswer]:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            allowance = (await find_tenant(connection, tenant_id)).allowance
            asked = await read_usage(connection, tenant_id, window, now)
            lately = await read_usage(connection, tenant_id, recent, now)
            return UsageAnswer.of(asked, allowance), UsageAnswer.of(lately, allowance)

    answer, lately = operate(OperatorSettings.load(), read)
    if as_json:
        typer.echo(answer.model_dump_json())
        return
    console = Console(highlight=False)
    console.print(_totals(answer))
    _print_quota(console, answer)
    console.print(_chart(lately, recent.started_at))


def _totals(answer: UsageAnswer) -> Table:
    """A line for each client and one for all."""
    table = Table("client", "stored", "duplicates", "bytes", "rejected", "throttled")
    table.title = f"{answer.started_at:%Y-%m-%d %H:%M} to {answer.ended_at:%Y-%m-%d %H:%M} UTC"
    for column in table.columns[1:]:
        column.justify = "right"
    names = ("stored", "duplicates", "bytes", "rejected", "throttled")
    by_client: dict[str, list[int]] = {}
    for point in answer.series:
        sums = by_client.setdefault(point.client_id, [0] * len(names))
        for place, name in enumerate(names):
            sums[place] += getattr(point, name)
    for client_id, sums in sorted(by_client.items()):
        table.add_row(printable(client_id), *(f"{number:,}" for number in sums))
    table.add_section()
    table.add_row("all", *(f"{getattr(answer.totals, name):,}" for name in names))
    return table


def _print_quota(console: Console, answer: UsageAnswer) -> None:
    quota = answer.quota
    if quota.limit is None:
        console.print(f"This month: {quota.used:,} events; no quota")
    else:
        what = "refuses more" if quota.at_quota == "refuse" else "only warns"
        console.print(
            f"This month: {quota.used:,} of {quota.limit:,} events ({quota.percent:g} %); at 100 % the plan {what}; "
            f"resets {quota.resets_at:%Y-%m-%d}"
        )
    for warning in answer.warnings:
        console.print(f"  {warning.percent} % of {warning.quota:,} reached {warning.reached_at:%Y-%m-%d %H:%M:%S} UTC")


def _chart(lately: UsageAnswer, first: datetime) -> Table:
    """A bar for each of the last days: events stored."""
    stored: dict[datetime, int] = {}
    for point in lately.series:
        stored[point.bucket] = stored.get(point.bucket, 0) + point.stored
    most = max(stored.values(), default=0)
    table = Table.grid(padding=(0, 1))
    for number in range(CHART_DAYS):
        day = first + timedelta(days=number)
        count = stored.get(day, 0)
        bar = ProgressBar(total=max(1, most), completed=count, width=BAR_CHARACTERS, finished_style="bar.complete")
        table.add_row(f"{day:%m-%d}", bar, f"{count:,}")
    return table
