"""What the commands that look after the data share: connections to what holds it, and faults of servers in one line."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from app.cli.failure import CommandError
from app.comparison import Index
from app.database import connect, create_engine
from app.reindex import ReindexError
from search.client import IndexUnavailable, make_client
from search.execute import SearchRefused
from tenants.records import ACTIVE, SUSPENDED, list_tenants
from workers.history import HistoryError
from workers.offsets import LogMismatchError
from workers.search_rebuilds import RebuildActiveError, RebuildLostError
from workers.topic import TopicError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from uuid import UUID

    from app.settings import VerifySettings

T = TypeVar("T")

SEARCH_TIMEOUT_SECONDS = 60.0

_PLAIN = (
    IndexUnavailable, SearchRefused, HistoryError, LogMismatchError, RebuildActiveError, RebuildLostError, TopicError,
    ReindexError,
)  # fmt: skip
"""Their text is made for whoever typed the command."""

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)


@dataclass(frozen=True)
class Stores:
    """`connection` logs in as sluice_worker. `tenants` are those that are not being deleted: as the command began, or
    now.
    """

    settings: VerifySettings
    connection: asyncpg.Connection
    index: Index
    tenants: list[UUID]
    tenants_now: Callable[[], Awaitable[list[UUID]]]

    @property
    def worker_url(self) -> str:
        """Where further connections like this one are made."""
        return self.settings.postgres_worker_url.get_secret_value()

    def only(self, tenant: UUID | None) -> list[UUID]:
        """`tenant`, or all of them.

        Raises:
            CommandError: there is no such tenant.
        """
        if tenant is not None and tenant not in self.tenants:
            raise CommandError(f"There is no tenant {tenant}.")
        return self.tenants if tenant is None else [tenant]


@contextlib.asynccontextmanager
async def stores(settings: VerifySettings, name: str) -> AsyncIterator[Stores]:
    """Connections that show as `name`, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:
        connection = await connect(settings.postgres_worker_url.get_secret_value(), name=name)
        stack.push_async_callback(connection.close, timeout=2)
        engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
        stack.push_async_callback(engine.dispose)
        client = make_client(settings.elasticsearch_url.get_secret_value(), timeout=SEARCH_TIMEOUT_SECONDS)
        stack.push_async_callback(client.close)
        index = Index(client, settings.index_prefix, settings.group("index"), settings.raw_topic)

        async def tenants_now() -> list[UUID]:
            return [found.tenant_id for found in await list_tenants(engine, (ACTIVE, SUSPENDED))]

        yield Stores(settings, connection, index, await tenants_now(), tenants_now)


def attempt(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns.

    Raises:
        CommandError: a server does not answer, or refuses; in one line.
    """
    try:
        return asyncio.run(work)
    except _PLAIN as error:
        raise CommandError(str(error)) from error
    except KafkaError as error:
        raise CommandError(f"Kafka does not answer: {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError, TimeoutError) as error:
        raise CommandError(_of_postgres(error)) from error


def _of_postgres(error: Exception) -> str:
    # SQLAlchemy wraps what its driver's adapter has wrapped.
    original = getattr(error, "orig", None) or error
    cause = original.__cause__ if isinstance(error, SQLAlchemyError) and original.__cause__ else original
    if isinstance(cause, asyncpg.PostgresError) and not isinstance(cause, _AWAY):
        hint = " Is `sluice migrate` needed?" if isinstance(cause, asyncpg.SyntaxOrAccessError) else ""
        return f"PostgreSQL refuses: {cause}.{hint}"
    return f"PostgreSQL does not answer: {cause or type(cause).__name__}"
