"""The only ways to a request's database session: one transaction that can see one tenant, and the platform's.

Row security reads `app.tenant_id`, which is set for the transaction only, so a pooled connection
carries nothing over. The role of the engine (`sluice_app`) can't bypass it. A server that does not answer
becomes `UnavailableError` here, so that no endpoint has to know the driver's errors.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

SESSION_SECONDS = 40.0
"""Longer than a statement's own limit: only a server that is frozen or out of reach lets a session last so long."""

RETRY_AFTER_SECONDS = 2

_BIND = text("select set_config('app.tenant_id', :tenant_id, true)")
_NO_ANSWER = "The database does not answer."
_TOO_LONG = "The database took too long for this question; ask for less, or ask again later."
# Classes of SQLSTATE that speak of the server's state and not of the statement: connection exception, insufficient
# resources, operator intervention (shutting down, starting, cancelled), system error, I/O. PostgreSQL, appendix A.
_SERVER_STATE = ("08", "53", "57", "58")
_CROSSED = "Another change came between; ask again."
_ROLLED_BACK = "40"  # deadlock, serialization failure: nothing happened, and the same may work the next time
_CANCELLED = "57014"


@asynccontextmanager
async def tenant_session(
    engine: AsyncEngine, tenant_id: UUID, *, snapshot: bool = False, seconds: float = SESSION_SECONDS
) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that sees `tenant_id`'s rows; commits at the end, once.

    With `snapshot` the transaction is read-only and all its statements see the same moment.

    Raises:
        UnavailableError: PostgreSQL can't be reached, is stopping, has no connection free, or took too long.
    """
    async with _transaction(engine, snapshot=snapshot, seconds=seconds) as connection:
        await connection.execute(_BIND, {"tenant_id": str(tenant_id)})
        yield connection


@asynccontextmanager
async def unsafe_session_of_all_tenants(
    engine: AsyncEngine, *, snapshot: bool = False, seconds: float = SESSION_SECONDS
) -> AsyncIterator[AsyncConnection]:
    """As `tenant_session`, for the platform's own routes: `engine` logs in as sluice_auth, which finds clients before
    it knows their tenant and so sees every tenant's. Each statement has to say whom it means.
    """
    async with _transaction(engine, snapshot=snapshot, seconds=seconds) as connection:
        yield connection


@asynccontextmanager
async def _transaction(engine: AsyncEngine, *, snapshot: bool, seconds: float) -> AsyncIterator[AsyncConnection]:
    try:
        async with asyncio.timeout(seconds), engine.connect() as connection:
            if snapshot:
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection
    except (OSError, TimeoutError, PoolTimeoutError) as error:
        raise _unavailable(_NO_ANSWER) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state == _CANCELLED:
            raise _unavailable(_TOO_LONG) from error
        if state is not None and state.startswith(_ROLLED_BACK):
            raise _unavailable(_CROSSED) from error
        if error.connection_invalidated or (state is not None and state.startswith(_SERVER_STATE)):
            raise _unavailable(_NO_ANSWER) from error
        raise


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
