"""Revoked tokens as each process learns them: only what is new, and no longer than until they expire."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy import event, text

from app.database import create_engine
from tenants.directory import Directory
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.conftest import Database


async def revoke(engine: AsyncEngine, *, seconds: float = 600) -> str:
    """Revoke a token that expires in so many seconds; returns its `jti`."""
    token_id = secrets.token_hex(8)
    sql = """
        insert into token_revocations (tenant_id, jti, expires_at, version)
        values (:tenant_id, :jti, now() + make_interval(secs => :seconds), 0)
    """
    async with engine.begin() as connection:
        values = {"tenant_id": PLATFORM_TENANT_ID, "jti": token_id, "seconds": seconds}
        await connection.execute(text(sql), values)
    return token_id


@contextlib.contextmanager
def recorded(engine: AsyncEngine) -> Iterator[list[tuple[str, Any]]]:
    """Statements and their parameters, as they are made."""
    made: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        made.append((" ".join(statement.split()), parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", record)
    try:
        yield made
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", record)


async def test_a_revocation_is_read_alone_without_the_older_ones_or_any_tenant(auth_engine: AsyncEngine) -> None:
    first = await revoke(auth_engine)
    directory = await Directory.load(auth_engine)
    assert directory.is_revoked(first)
    known = directory._revocations
    with recorded(auth_engine) as made:
        second = await revoke(auth_engine)
        made.clear()
        await directory.refresh()
    assert directory.is_revoked(first)
    assert directory.is_revoked(second)
    assert not directory.is_revoked(secrets.token_hex(8))
    (reading,) = (entry for entry in made if "token_revocations" in entry[0])
    assert reading[1] == (known,)
    assert not [statement for statement, _ in made if "from tenants" in statement]


async def test_versions_of_revocations_follow_their_commits_however_many_are_made_at_once(
    auth_engine: AsyncEngine,
) -> None:
    directory = await Directory.load(auth_engine)
    first, second = await auth_engine.connect(), await auth_engine.connect()
    try:
        early, late = secrets.token_hex(8), secrets.token_hex(8)
        sql = "insert into token_revocations select $1, $2, now() + interval '1 hour', 0"
        await first.exec_driver_sql(sql, (PLATFORM_TENANT_ID, early))
        await directory.refresh()
        assert not directory.is_revoked(early)
        await first.commit()
        await second.exec_driver_sql(sql, (PLATFORM_TENANT_ID, late))
        await second.commit()
    finally:
        await first.close()
        await second.close()
    await directory.refresh()
    assert directory.is_revoked(early)
    assert directory.is_revoked(late)


async def test_a_revocation_is_forgotten_once_its_token_has_expired(auth_engine: AsyncEngine) -> None:
    expired = await revoke(auth_engine, seconds=-1)
    soon = await revoke(auth_engine, seconds=0.5)
    kept = await revoke(auth_engine)
    directory = await Directory.load(auth_engine)
    assert [directory.is_revoked(token_id) for token_id in (expired, kept)] == [False, True]
    gone = time.time() + 0.6
    while time.time() < gone:
        await directory.refresh()
    await revoke(auth_engine)
    await directory.refresh()
    assert soon not in directory._revoked
    assert directory.is_revoked(kept)


async def test_a_database_that_was_put_back_is_read_anew_and_what_was_revoked_stays_so(empty: Database) -> None:
    engine = create_engine(empty.auth_url, pool_size=2)
    for _ in range(3):
        forgotten = await revoke(engine)
    directory = await Directory.load(engine)
    owner = await asyncpg.connect(empty.admin_url)
    await owner.execute("delete from token_revocations; update control_version set revocations = 0, version = 1")
    other = await revoke(engine)
    await directory.refresh()
    assert directory.is_revoked(other)
    assert directory.is_revoked(forgotten)
    assert (await owner.fetchval("select revocations from control_version")) == 1
    await owner.close()
    await engine.dispose()


async def test_revoking_the_same_token_again_changes_nothing_for_who_knows_it(auth_engine: AsyncEngine) -> None:
    token_id = await revoke(auth_engine)
    directory = await Directory.load(auth_engine)
    async with auth_engine.begin() as connection:
        sql = """
            insert into token_revocations (tenant_id, jti, expires_at, version)
            values (:tenant_id, :jti, now() + interval '1 hour', 0) on conflict do nothing
        """
        await connection.execute(text(sql), {"tenant_id": PLATFORM_TENANT_ID, "jti": token_id})
    await directory.refresh()
    assert directory.is_revoked(token_id)
