"""What each process knows of tenants and clients without asking: who is active, what they may do, what was revoked.

PostgreSQL is the truth. Each change there raises `control_version` in its own transaction; `run` looks at that one
row every 250 ms and reads what moved. While PostgreSQL does not answer, the last known set holds. Refuses to own
enforcement. Reading all of it is meant for some ten thousand tenants; revoked tokens are read as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tenants.plans import TenantLimits
from tenants.snapshot import NOTHING, ClientAccess, TenantRecord, read_revocations, read_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    Listener = Callable[[], Coroutine[Any, Any, None]]

__all__ = ["ClientAccess", "Directory", "TenantLimits", "TenantRecord"]

POLL_SECONDS = 0.25
STALE_SECONDS = 1.0
"""Who would answer on the strength of an older look looks again first: the process was frozen, or is overloaded."""

ANSWER_TIMEOUT_SECONDS = 1.0
"""A server that is frozen rather than gone does not refuse; after this the look has failed."""

WAIT_SECONDS = ANSWER_TIMEOUT_SECONDS + 0.25
"""How long a request waits for a look: long enough to hear that it failed."""

OUTAGE_SECONDS = POLL_SECONDS + ANSWER_TIMEOUT_SECONDS + 0.25
"""How long a failed look excuses from another, unless one is answered: until the next has failed too, so that in an
outage nobody waits.
"""

READ_TIMEOUT_SECONDS = 10.0

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_VERSION = text("select version, revocations from control_version")


class Directory:
    """Active tenants and clients, in memory. Made by `load`, kept current by `run`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._snapshot = NOTHING
        self._revoked: dict[str, float] = {}
        self._revocations = -1
        self._told: dict[Listener, int] = {}
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._excused_until = -float("inf")
        self.last_refreshed = -float("inf")
        """When the latest answered look began, by `time.monotonic`: all that was committed before it is known."""
        self.last_refreshed_at = 0.0
        """The same moment in seconds since 1970."""

    @classmethod
    async def load(cls, engine: AsyncEngine) -> Self:
        """A directory filled from PostgreSQL; `engine` logs in as sluice_auth."""
        directory = cls(engine)
        await directory.refresh()
        return directory

    def tenant(self, tenant_id: UUID) -> TenantRecord | None:
        """None if the tenant is unknown, suspended or being deleted."""
        return self._snapshot.tenants.get(tenant_id)

    def limits(self, tenant_id: UUID) -> TenantLimits | None:
        """What the tenant may send; None as for `tenant`."""
        found = self._snapshot.tenants.get(tenant_id)
        return None if found is None else found.limits

    def access(self, client_id: str) -> ClientAccess | None:
        """What the client may do; None if it is unknown or revoked, or its tenant not active."""
        return self._snapshot.clients.get(client_id)

    def is_revoked(self, token_id: str) -> bool:
        """Whether the token with this `jti` was revoked before it expires."""
        return token_id in self._revoked

    def is_stale(self) -> bool:
        """Whether what is known is older than `STALE_SECONDS`, and no look just failed: another may help."""
        now = time.monotonic()
        return now - self.last_refreshed > STALE_SECONDS and now > self._excused_until

    async def catch_up(self, *, at_most_every: float = 0.0) -> None:
        """Look now, but wait for little more than a second; if PostgreSQL does not answer, what is known holds.

        With `at_most_every`, in seconds, the look begins no sooner after the last one, and all who came share it.
        """
        if time.monotonic() < self._excused_until:
            return
        with contextlib.suppress(OSError, TimeoutError, SQLAlchemyError):
            await _in_time(self._refresh_after(self.last_refreshed + at_most_every), WAIT_SECONDS)

    async def _refresh_after(self, moment: float) -> None:
        await asyncio.sleep(moment - time.monotonic())
        await self.refresh()

    async def next_change(self, seconds: float) -> None:
        """Wait until something else is known of tenants or clients, but no longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after each change of `control_version`. Raising fails the look, and the next calls again."""
        self._told[listener] = -1

    async def refresh(self) -> None:
        """Look at PostgreSQL now. All who ask before a look begins share it; who gives up waiting does not end it.

        Raises:
            OSError, TimeoutError, SQLAlchemyError: PostgreSQL does not answer; what was known still holds.
        """
        asked = time.monotonic()
        while self.last_refreshed < asked:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(_heard)
            await asyncio.shield(self._looking)

    async def run(self) -> None:
        """Look every 250 ms until cancelled. An outage is logged once when it begins and once when it ends."""
        failing = False
        try:
            while True:
                await asyncio.sleep(POLL_SECONDS)
                try:
                    await self.refresh()
                except Exception as error:  # noqa: BLE001  whatever it is: who stops looking never learns of a revocation
                    if not failing:
                        log.warning(
                            "tenants are as last known: PostgreSQL does not answer", error=str(error) or repr(error)
                        )
                    failing = True
                else:
                    if failing:
                        log.info("tenants are current again")
                    failing = False
        finally:
            if self._looking is not None:  # it holds a connection of an engine that is about to be closed
                await asyncio.wait({self._looking})

    async def _look(self) -> None:
        began, began_at = time.monotonic(), time.time()
        try:
            version, revocations = await _in_time(self._versions(), ANSWER_TIMEOUT_SECONDS)
            if (version, revocations) != (self._snapshot.version, self._revocations):
                await _in_time(self._read(), READ_TIMEOUT_SECONDS)
            version = self._snapshot.version
            for listener, told in self._told.items():
                if told != version:
                    await _in_time(listener(), READ_TIMEOUT_SECONDS)
                    self._told[listener] = version
        except Exception:  # whatever it is: noted here, and raised on
            self._excused_until = time.monotonic() + OUTAGE_SECONDS
            raise
        finally:
            self._looking = None
        self.last_refreshed, self.last_refreshed_at = began, began_at
        self._excused_until = -float("inf")

    async def _versions(self) -> tuple[int, int]:
        async with self._engine.connect() as connection:
            row = (await connection.execute(_VERSION)).one()
        return row.version, row.revocations

    async def _read(self) -> None:
        async with self._engine.connect() as connection:
            # One snapshot for all statements, so that all that is read belongs to the version it is filed under.
            await connection.execution_options(isolation_level="REPEATABLE READ")
            version, revocations = (await connection.execute(_VERSION)).one()
            if revocations != self._revocations:
                await self._read_revocations(connection, revocations)
            if version != self._snapshot.version:
                self._snapshot = await read_snapshot(connection, version)
                self._changed.set()
                self._changed = asyncio.Event()

    async def _read_revocations(self, connection: AsyncConnection, version: int) -> None:
        # A lower number than the last is another database's, for instance a restored one: read all of it.
        known = self._revocations if self._revocations < version else -1
        now = time.time()
        kept = {jti: expires_at for jti, expires_at in self._revoked.items() if expires_at > now}
        self._revoked = kept | await read_revocations(connection, known)
        self._revocations = version


def _heard(look: asyncio.Task[None]) -> None:
    """Takes note of how a look ended for which nobody waits any more; asyncio would report it as forgotten."""
    if not look.cancelled():
        look.exception()


async def _in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What `work` returns, within that time.

    Waits in two halves: in a process that was frozen the first has passed, but in the second it hears an answer that
    had long been there. What is late is cancelled and not waited for, as ending a connection to a server that does
    not answer takes seconds.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.create_task(work)
    try:
        for _ in range(2):
            done, _pending = await asyncio.wait({task}, timeout=seconds / 2)
            if done:
                return task.result()
    finally:
        task.cancel()
    raise TimeoutError(f"no answer within {seconds:g} s")
