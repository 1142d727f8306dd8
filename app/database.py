"""How this project connects to PostgreSQL: engines for requests, plain connections for workers.

Owns drivers and time limits. Which tenant a connection may see is said by `tenants.session`.
"""

from __future__ import annotations

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

CONNECT_TIMEOUT_SECONDS = 5.0

# A process that is frozen, or whose machine is gone without a word, must not hold its locks for as long as the system's
# own keep-alive takes (hours). Longer than any work that waits for another server within a transaction.
_OUTLIVED = {
    "idle_in_transaction_session_timeout": "300s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}


def create_engine(url: str, *, pool_size: int = 10, statement_timeout_seconds: float = 30.0) -> AsyncEngine:
    """An engine for short transactions; `url` is a plain `postgresql://` URL.

    A statement that takes longer than `statement_timeout_seconds` is cancelled by the server.
    """
    return create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "server_settings": {
                "application_name": "sluice",
                "timezone": "UTC",
                "statement_timeout": str(int(statement_timeout_seconds * 1000)),
                **_OUTLIVED,
            },
        },
    )


async def connect(url: str, *, name: str) -> asyncpg.Connection:
    """One connection for a worker, which keeps it; `name` shows in pg_stat_activity."""
    return await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=60,
        server_settings={"application_name": name, "timezone": "UTC", **_OUTLIVED},
    )
