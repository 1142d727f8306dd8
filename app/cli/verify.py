"""`sluice verify`: proves on a live system that events, aggregates, usage and search index agree."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import asyncpg
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from app.cli.failure import CommandError
from app.database import connect, create_engine
from app.settings import VerifySettings
from app.verification import Report, verify_tenant
from search.client import IndexUnavailable, make_client
from tenants.records import ACTIVE, SUSPENDED, list_tenants


def verify(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant (its id).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Compare events, 15-minute aggregates, usage and search index of every tenant, while all of it runs.

    Exit status 0: they agree. 1: they don't, or a server does not answer. An event that the index worker has yet to
    read is counted as waiting and is no fault.
    """
    settings = VerifySettings.load()
    try:
        reports = asyncio.run(_verify(settings, tenant, quiet=as_json))
    except IndexUnavailable as error:
        raise CommandError(str(error)) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise CommandError(f"PostgreSQL does not answer: {cause}") from error
    if as_json:
        typer.echo(json.dumps([asdict(report) | {"agrees": report.agrees} for report in reports], default=str))
    else:
        _print(reports)
    if not all(report.agrees for report in reports):
        raise typer.Exit(1)


async def _verify(settings: VerifySettings, tenant: UUID | None, *, quiet: bool) -> list[Report]:
    connection = await connect(settings.postgres_worker_url.get_secret_value(), name="sluice verify")
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
    client = make_client(settings.elasticsearch_url.get_secret_value(), timeout=60)
    try:
        known = [found.tenant_id for found in await list_tenants(engine, (ACTIVE, SUSPENDED))]
        if tenant is not None and tenant not in known:
            raise CommandError(f"There is no tenant {tenant}.")
        with Progress(console=Console(stderr=True), disable=quiet, transient=True) as progress:
            return [
                await verify_tenant(
                    connection,
                    client,
                    tenant_id,
                    index_prefix=settings.index_prefix,
                    index_group=settings.group("index"),
                    topic=settings.raw_topic,
                )
                for tenant_id in progress.track([tenant] if tenant is not None else known, description="Comparing")
            ]
    finally:
        await connection.close()
        await client.close()
        await engine.dispose()


def _print(reports: list[Report]) -> None:
    console = Console()
    table = Table("tenant", "events", "aggregated", "usage", "indexed", "waiting", "agrees")
    for column in table.columns[1:6]:
        column.justify = "right"
    for report in reports:
        numbers = (report.events, report.aggregated, report.metered, report.indexed, report.waiting)
        verdict = "[green]yes[/green]" if report.agrees else "[red]no[/red]"
        table.add_row(str(report.tenant_id), *(f"{number:,}" for number in numbers), verdict)
    console.print(table)
    for report in reports:
        if report.wrong_buckets:
            console.print(f"{report.tenant_id}: {report.wrong_buckets} buckets differ from a recount", markup=False)
        if report.wrong_usage:
            console.print(f"{report.tenant_id}: {report.wrong_usage} hours or months of usage differ", markup=False)
        for example in report.examples:
            console.print(f"{report.tenant_id}: {example}", markup=False)
