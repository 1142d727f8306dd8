"""What a tenant asks for and the `maintain` and `replay` workers do, a turn at a time when a test says so.

Asked for as superuser; done in the workers' own roles, over a network that may break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import UUID

from pydantic import SecretStr
from redis.asyncio import Redis

from app.database import create_engine
from app.recovery import erasures, letter_changes, replays
from app.recovery.letter_changes import Caller
from app.recovery.selection import Estimate, Selection
from app.settings import MaintainSettings, ReplaySettings
from search import execute
from search.client import make_client
from search.scope import scoped
from tenants.audit import Actor
from workers.connections import Connections
from workers.duties import TRANSIENT
from workers.erasure import Erasures
from workers.letters import StoreRetries
from workers.replay import Replays
from workers.sender import Sender

if TYPE_CHECKING:
    from tests.system import MadeTenant, System

OPERATOR = Actor("operator", "the model's test")


class Letter(NamedTuple):
    """A dead letter, and the place that it was written for."""

    dead_letter_id: UUID
    place: tuple[int, int, int]


class Recovery:
    """Open it inside the loop that uses it."""

    def __init__(self, system: System, worker_url: str) -> None:
        self._system = system
        own = {"postgres_worker_url": SecretStr(worker_url)}
        self._settings = system.settings(MaintainSettings).model_copy(update=own)
        self._replay_settings = system.settings(ReplaySettings).model_copy(update=own)

    async def open(self) -> Self:
        settings = self._settings
        self._asking = create_engine(self._system.admin_url, pool_size=1)
        self._engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
        self._search = make_client(settings.elasticsearch_url.get_secret_value())
        self._redis = Redis.from_url(settings.redis_url.get_secret_value())
        self._sender = Sender(settings.kafka_bootstrap)
        self._connections = Connections(settings)
        self._erasures = Erasures(settings, self._connections, self._engine, self._search, self._redis)
        self._retries = StoreRetries(Connections(settings), self._sender, settings.raw_topic)
        self._replays = Replays(self._replay_settings)
        return self

    async def close(self) -> None:
        await self._replays.__aexit__()
        for connections in (self._connections, self._retries.connections):
            await connections.close()
        await self._sender.close()
        await self._redis.aclose()
        await self._search.close()
        for engine in (self._engine, self._asking):
            await engine.dispose()

    async def ask_to_erase(self, tenant: MadeTenant, user_id: str) -> None:
        async with self._asking.begin() as connection:
            await erasures.request_erasure(connection, UUID(tenant.tenant_id), user_id, OPERATOR)

    async def is_erasing(self) -> bool:
        """One turn of the worker, which survives its faults; whether any erasure is still open after it."""
        try:
            await self._erasures.turn()
        except TRANSIENT:
            self._connections.drop()
        return bool(await self._system.fetch("select 1 from erasures where finished_at is null"))

    async def open_letters(self, tenant: MadeTenant) -> list[Letter]:
        found = await self._system.fetch(
            "select dead_letter_id, source_partition, source_offset, record_index from dead_letters "
            "where tenant_id = $1 and status = 'open' order by 2, 3, 4",
            UUID(tenant.tenant_id),
        )
        return [Letter(row[0], (row[1], row[2], row[3])) for row in found]

    async def retry(self, tenant: MadeTenant, letter: Letter, *, mended: bool) -> None:
        """Ask for it, after an edit if it is to be `mended`, and send it again."""
        caller = Caller(UUID(tenant.tenant_id), OPERATOR)
        async with self._asking.begin() as connection:
            if mended:
                await letter_changes.edit(connection, caller, letter.dead_letter_id, b'{"metadata":{}}')
            await letter_changes.retry(connection, caller, letter.dead_letter_id)
        await self._sent()

    async def _sent(self) -> None:
        for _ in range(10):
            try:
                while await self._retries.turn():
                    pass
            except TRANSIENT:
                self._retries.connections.drop()
            if not await self._system.fetch("select 1 from dead_letters where status = 'queued'"):
                return
        raise AssertionError("a letter stays queued")

    async def lose_documents(self, tenant: MadeTenant) -> None:
        """Remove from the index what it has of the tenant."""
        prefix = self._settings.index_prefix
        await execute.refresh(self._search, prefix)
        await execute.delete(self._search, prefix, scoped(UUID(tenant.tenant_id)), most=10_000)

    async def replay_to_index(self, tenant: MadeTenant) -> None:
        """Ask for all of the tenant's events, and send them piece by piece, again after a fault at once."""
        async with self._asking.begin() as connection:
            selection = Selection(UUID(tenant.tenant_id), await replays.moment(connection))
            order = replays.Order("index", selection)
            await replays.create(connection, b"", OPERATOR, order, Estimate(0, 0, estimated=True))
        for _ in range(10):
            try:
                while await self._replays.turn(("index",)):
                    pass
            except TRANSIENT:
                pass
            if not await self._system.fetch("select 1 from replays where state = 'running'"):
                return
            await self._system.fetch("update replays set due_at = null, leased_until = null where state = 'running'")
        raise AssertionError("a replay does not come to its end")
