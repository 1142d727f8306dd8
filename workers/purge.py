"""Removing what has expired: used assertions, revocations of tokens, secrets and signing keys. As sluice_auth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.metrics import MAINTAIN_REMOVED

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

BATCH = 5000
KEPT_DAYS = 30
"""Secrets and signing keys that can't be used any more are kept so long, for whoever asks what a log speaks of."""

# An assertion or token that has expired is refused for that; that it was used or revoked no longer matters.
_EXPIRED = {
    "client_assertions": "expires_at < now()",
    "token_revocations": "expires_at < now()",
    "client_secrets": f"expires_at < now() - interval '{KEPT_DAYS} days'",
    "signing_keys": f"retired_at < now() - interval '{KEPT_DAYS} days'",
}


async def purge(engine: AsyncEngine) -> dict[str, int]:
    """Remove all that has expired, in short transactions; returns how many rows of each table."""
    return {table: await _purge(engine, table, expired) for table, expired in _EXPIRED.items()}


async def _purge(engine: AsyncEngine, table: str, expired: str) -> int:
    statement = text(f"""
        delete from {table} where ctid = any (array(
            select ctid from {table} where {expired} limit {BATCH}
        ))
    """)  # noqa: S608  constants of this module
    removed = 0
    while True:
        async with engine.begin() as connection:
            count = (await connection.execute(statement)).rowcount
        removed += count
        MAINTAIN_REMOVED.labels("expired", table).inc(count)
        if count < BATCH:
            return removed
