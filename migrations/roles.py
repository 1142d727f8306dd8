"""The cluster-wide part of the schema: roles, their passwords, and who may enter the database.

Roles belong to the server, not to a database, so they are made here, before Alembic and idempotently.
"""

from __future__ import annotations

import asyncio
import random
from urllib.parse import unquote, urlsplit

import asyncpg

OWNER = "sluice_owner"
RUNTIME_ROLES = ("sluice_app", "sluice_worker", "sluice_auth")


class RoleUrlError(Exception):
    """A runtime URL does not log in as the role it is for."""


_ATTEMPTS = 20
_CROSSED = (asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError, asyncpg.InternalServerError)
"""How PostgreSQL tells of two that changed one role at once; the last: "tuple concurrently updated"."""


async def ensure_roles(connection: asyncpg.Connection, urls: dict[str, str]) -> None:
    """Create or update the owner and the runtime roles, and let only them into this database.

    A runtime role that was made a member of any other is taken out of it. `urls` maps each of `RUNTIME_ROLES` to the
    URL whose password the role gets. Safe to run again and at the same time as another run.

    Raises:
        RoleUrlError: a URL names another user, or has no password.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return await _ensure_roles(connection, urls)
        except _CROSSED:
            # A migration of another database of this server, which no lock of this one keeps apart.
            if attempt + 1 == _ATTEMPTS:
                raise
        await asyncio.sleep(random.uniform(0, 0.2))  # noqa: S311  only so that they part
    return None


async def _ensure_roles(connection: asyncpg.Connection, urls: dict[str, str]) -> None:
    async with connection.transaction():
        # Two migrations of one database at once would otherwise race between looking and creating.
        await connection.execute("select pg_advisory_xact_lock(hashtext('sluice roles'))")
        await _ensure(connection, OWNER, "nologin")
        for role in RUNTIME_ROLES:
            await _ensure(connection, role, f"login password {_literal(_password(urls[role], role))}")
        await _revoke_memberships(connection)
        database = _identifier(await connection.fetchval("select current_database()"))
        await connection.execute(f"""
            grant {OWNER} to current_user;
            revoke all on database {database} from public;
            grant connect on database {database} to {", ".join(RUNTIME_ROLES)};
            grant temporary on database {database} to sluice_worker;
            grant create on database {database} to {OWNER};
            alter schema public owner to {OWNER};
            revoke all on schema public from public;
        """)


async def _ensure(connection: asyncpg.Connection, role: str, options: str) -> None:
    exists = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
    verb = "alter" if exists else "create"
    await connection.execute(
        f"{verb} role {role} nosuperuser nocreatedb nocreaterole noreplication nobypassrls noinherit {options}"
    )


async def _revoke_memberships(connection: asyncpg.Connection) -> None:
    """A runtime role that is a member of another could become it by SET ROLE, and see what that sees."""
    stray = await connection.fetch(
        """
        select r.rolname as role, m.rolname as member, g.rolname as grantor
        from pg_auth_members a
        join pg_roles r on r.oid = a.roleid join pg_roles m on m.oid = a.member join pg_roles g on g.oid = a.grantor
        where m.rolname = any ($1::text[])
        """,
        list(RUNTIME_ROLES),
    )
    for row in stray:
        role, member, grantor = (_identifier(row[name]) for name in ("role", "member", "grantor"))
        await connection.execute(f"revoke {role} from {member} granted by {grantor} cascade")


def _password(url: str, role: str) -> str:
    parts = urlsplit(url)
    if unquote(parts.username or "") != role or not parts.password:
        variable = f"SLUICE_POSTGRES_{role.removeprefix('sluice_').upper()}_URL"
        raise RoleUrlError(f"{variable}: must log in as {role} and carry its password")
    return unquote(parts.password)


def _literal(value: str) -> str:
    if "\\" in value or "\0" in value:
        raise RoleUrlError("a role's password must not contain a backslash or NUL")
    return "'" + value.replace("'", "''") + "'"


def _identifier(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
