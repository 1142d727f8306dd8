"""Forgetting replays of one user's events, with the user: the filter is an id that nobody else keeps then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

# The hash of `app.events.users`.
_FORGET = text("""
    delete from replays where tenant_id = :tenant_id and user_id is not null
        and sha256(uuid_send(tenant_id) || convert_to(user_id, 'UTF8')) = :user_hash
""")


async def forget_replays_of_user(connection: AsyncConnection, tenant_id: UUID, user_hash: bytes) -> None:
    """Remove them, finished or not; a piece that is under way is sent and then written down nowhere. As sluice_auth."""
    await connection.execute(_FORGET, {"tenant_id": tenant_id, "user_hash": user_hash})
