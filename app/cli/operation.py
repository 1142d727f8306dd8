"""What commands for operators share: a connection as sluice_auth, `--json`, and other people's text in a terminal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from app.cli.failure import CommandError
from app.database import create_engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import OperatorSettings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
T = TypeVar("T")


def operate(settings: OperatorSettings, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """`work` with an engine that logs in as sluice_auth.

    Raises:
        CommandError: PostgreSQL does not answer.
    """
    return operate_at(settings.postgres_auth_url.get_secret_value(), work)


def operate_at(postgres_url: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """As `operate`, with an engine of this URL."""

    async def with_engine() -> T:
        engine = create_engine(postgres_url, pool_size=1)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(with_engine())
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise CommandError(f"PostgreSQL does not answer: {cause}") from error


def printable(value: str) -> str:
    """A name is someone else's text: no Rich markup, no control characters for the terminal."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value))
