"""`sluice migrate`: bring PostgreSQL, Kafka and Elasticsearch to what this version needs."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console

from app.settings import MigrationSettings
from migrations.run import migrate_all


def migrate(as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False) -> None:
    """Make or update roles, tables, topics and the search template. Safe to run again, also by several at once.

    Needs `SLUICE_POSTGRES_URL` (an administrator who may create roles) and the URLs of the three runtime roles,
    whose passwords it sets.
    """
    done = asyncio.run(migrate_all(MigrationSettings.load()))
    if as_json:
        typer.echo(json.dumps(done))
    else:
        for name, state in done.items():
            Console().print(f"{name}: {state}", highlight=False)
