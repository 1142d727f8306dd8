"""What an authenticated request leaves behind: assertions that were used, tokens that were revoked, last uses.

Role: sluice_auth. Refuses to decide anything: `auth.server` has, and the answer waits for what is written here.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from auth.authentication import Proof
    from auth.principal import Principal

NOTE_TIMEOUT_SECONDS = 1.0

KEPT_SECONDS = 60
"""How long beyond its own end a row holds, because the clock that decides about the row is not the one that decides
about the token.
"""

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SPEND = text("""
    insert into client_assertions (tenant_id, client_id, jti, expires_at)
    values (:tenant_id, :client_id, :jti, :expires_at)
    on conflict do nothing
    returning true
""")

_REVOKE = text("""
    insert into token_revocations (tenant_id, jti, expires_at) values (:tenant_id, :jti, :expires_at)
    on conflict do nothing
""")

# Not more often, because each write is a new version of the row.
_NOTE = text("""
    insert into client_uses (tenant_id, client_id, credential, last_used_at)
    values (:tenant_id, :client_id, :credential, now())
    on conflict (tenant_id, client_id, credential) do update set last_used_at = excluded.last_used_at
    where client_uses.last_used_at < excluded.last_used_at - interval '1 minute'
""")


async def spend_assertion(connection: AsyncConnection, proof: Proof) -> bool:
    """Whether the proof's assertion is used for the first time, by any process. The caller commits.

    Two that ask at once: the second waits for the first one's commit and then finds its row.
    """
    if proof.assertion is None:
        return True
    values = {
        "tenant_id": proof.client.tenant_id,
        "client_id": proof.client.client_id,
        "jti": proof.assertion.jti,
        "expires_at": datetime.fromtimestamp(proof.assertion.expires_at + KEPT_SECONDS, UTC),
    }
    return (await connection.execute(_SPEND, values)).first() is not None


async def revoke_token(connection: AsyncConnection, token: Principal) -> None:
    """Let the token end now. The caller commits; other processes learn of it by the row's version."""
    values = {
        "tenant_id": token.tenant_id,
        "jti": token.token_id,
        "expires_at": datetime.fromtimestamp(token.expires_at + KEPT_SECONDS, UTC),
    }
    await connection.execute(_REVOKE, values)


async def note_use(engine: AsyncEngine, proof: Proof) -> None:
    """Note when the credential was last used, to the minute. Never raises: an answer is worth more than this note."""
    values = {
        "tenant_id": proof.client.tenant_id,
        "client_id": proof.client.client_id,
        "credential": proof.credential,
    }
    try:
        async with asyncio.timeout(NOTE_TIMEOUT_SECONDS), engine.begin() as connection:
            await connection.execute(_NOTE, values)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        log.warning("last use not noted", client_id=proof.client.client_id, error=repr(error))
