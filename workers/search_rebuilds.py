"""Who may change the search index out of turn: one rebuild or repair at a time, and no deletion while it works.

A rebuild holds the one row of `search_rebuilds` and keeps it alive; one that was killed is forgotten after a minute.
Owns the claim and its fence. Refuses to know what a rebuild does.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg

from app.database import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALIVE_SECONDS = 60
BEAT_SECONDS = 10.0

_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

_IS_ALIVE = f"alive_at > now() - interval '{ALIVE_SECONDS} seconds'"

_ACTIVE = f"select exists (select from search_rebuilds where {_IS_ALIVE})"  # noqa: S608  a constant

_BEGIN = f"""
insert into search_rebuilds (rebuild_id) values ($1)
on conflict (only_row) do update set rebuild_id = $1, started_at = now(), alive_at = now()
where not search_rebuilds.{_IS_ALIVE}
returning true
"""  # noqa: S608  a constant

_BEAT = f"update search_rebuilds set alive_at = now() where rebuild_id = $1 and {_IS_ALIVE} returning true"  # noqa: S608


class RebuildActiveError(Exception):
    """Another rebuild or repair of the search index is under way."""


class RebuildLostError(Exception):
    """This one was not alive for a minute, so deletions have gone on without it: what it has built is not right."""


async def active(connection: asyncpg.Connection) -> bool:
    """Whether deletions from the search index have to wait.

    Ask in the transaction in which the index is changed: a rebuild that begins meanwhile waits for its end.
    """
    return bool(await connection.fetchval(_ACTIVE))


@contextlib.asynccontextmanager
async def claimed(postgres_url: str) -> AsyncIterator[UUID]:
    """Deletions wait from here to the end; those under way are over. Yields what `hold` wants to know.

    `postgres_url` logs in as sluice_worker.

    Raises:
        RebuildActiveError: one is under way, or was until less than a minute ago.
        RebuildLostError: while the body ran, for a minute PostgreSQL could not be told that this goes on.
        asyncpg.PostgresError, OSError: PostgreSQL does not answer.
    """
    rebuild_id = uuid4()
    connection = await connect(postgres_url, name="sluice rebuild")
    try:
        async with connection.transaction():
            # Waits for every transaction that has asked whether it may delete.
            await connection.execute("lock table search_rebuilds in access exclusive mode")
            if not await connection.fetchval(_BEGIN, rebuild_id):
                raise RebuildActiveError(
                    "The search index is being rebuilt or repaired already. If that was killed, try again in a minute."
                )
    finally:
        await connection.close(timeout=2)
    mine = asyncio.current_task()
    assert mine is not None  # noqa: S101  this is a coroutine
    beating = asyncio.create_task(_beat(postgres_url, rebuild_id))
    beating.add_done_callback(lambda ended: None if ended.cancelled() else mine.cancel())
    try:
        yield rebuild_id
    except asyncio.CancelledError:
        if beating.done() and not beating.cancelled() and (error := beating.exception()) is not None:
            mine.uncancel()
            raise error from None
        raise
    finally:
        beating.cancel()
        await _end(postgres_url, rebuild_id)


async def hold(connection: asyncpg.Connection, rebuild_id: UUID) -> None:
    """Make sure, until the caller's transaction ends, that this rebuild is not taken for dead.

    Raises:
        RebuildLostError: it was.
    """
    if not await connection.fetchval(_BEAT, rebuild_id):
        raise RebuildLostError("The rebuild was not heard of for a minute. Nothing was changed; run it again.")


async def _beat(postgres_url: str, rebuild_id: UUID) -> None:
    connection: asyncpg.Connection | None = None
    loop = asyncio.get_running_loop()
    heard = loop.time()
    try:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                if connection is None or connection.is_closed():
                    connection = await connect(postgres_url, name="sluice rebuild")
                await hold(connection, rebuild_id)
                heard = loop.time()
            except _AWAY as error:
                if loop.time() - heard > ALIVE_SECONDS:
                    raise RebuildLostError("PostgreSQL did not answer for a minute; run it again.") from error
    finally:
        if connection is not None:
            connection.terminate()


async def _end(postgres_url: str, rebuild_id: UUID) -> None:
    """Let deletions go on at once; where that fails they go on after a minute."""
    with contextlib.suppress(*_AWAY):
        connection = await connect(postgres_url, name="sluice rebuild")
        try:
            await connection.execute("delete from search_rebuilds where rebuild_id = $1", rebuild_id)
        finally:
            connection.terminate()
