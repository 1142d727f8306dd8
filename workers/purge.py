"""Removing what has expired: used assertions, revocations of tokens, secrets, clients, signing keys. As sluice_auth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.metrics import MAINTAIN_REMOVED

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

BATCH = 5000
KEPT_DAYS = 30
"""How long secrets, clients and keys that can't be used any more are kept, for whoever asks what a log speaks of."""

_OF_NOBODY = "not exists (select from {} u where (u.tenant_id, u.client_id) = (c.tenant_id, c.client_id))"

# In this order, as some refer to others. An assertion or token that has expired is refused for that; that it was used
# or revoked no longer matters.
_EXPIRED = {
    "client_assertions": "expires_at < now()",
    "token_revocations": "expires_at < now()",
    "client_secrets": f"expires_at < now() - interval '{KEPT_DAYS} days'",
    "client_uses": f"""(tenant_id, client_id) in (
        select tenant_id, client_id from oauth_clients where revoked_at < now() - interval '{KEPT_DAYS} days'
    )""",  # noqa: S608  constants of this module
    "oauth_clients": f"""ctid in (
        select c.ctid from oauth_clients c where c.revoked_at < now() - interval '{KEPT_DAYS} days'
        and {_OF_NOBODY.format("client_secrets")} and {_OF_NOBODY.format("client_uses")}
        and {_OF_NOBODY.format("client_assertions")}
    )""",  # noqa: S608  constants of this module
    "replays": f"finished_at < now() - interval '{KEPT_DAYS} days'",
    "signing_keys": f"retired_at < now() - interval '{KEPT_DAYS} days'",
}


async def purge(engine: AsyncEngine) -> dict[str, int]:
    """Remove all that has expired, in short transactions; returns how many rows of each table."""
    return {table: await _purge(engine, table, expired) for table, expired in _EXPIRED.items()}


async def _purge(engine: AsyncEngine, table: str, expired: str) -> int:
    # Looked for first: a statement that deletes nothing would still make every process read all keys again.
    any_expired = text(f"select exists (select from {table} where {expired})")  # noqa: S608  constants of this module
    statement = text(f"""
        delete from {table} where ctid = any (array(
            select ctid from {table} where {expired} limit {BATCH}
        ))
    """)  # noqa: S608  constants of this module
    removed = 0
    while True:
        async with engine.begin() as connection:
            if not await connection.scalar(any_expired):
                return removed
            count = (await connection.execute(statement)).rowcount
        removed += count
        MAINTAIN_REMOVED.labels("expired", table).inc(count)
