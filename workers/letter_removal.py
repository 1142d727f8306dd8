"""Dead letters that have to go: those of an erased user, and those that are older than the plan keeps events.

A letter is a user's by its column, which an edit can't move from one user to another (`app.recovery`). What can't be
known: a letter that is no event, as its record could not be read, and a user who is only named in `metadata`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

_OF_USER = "tenant_id = $1 and user_id = $2 and (received_at is null or received_at <= $3)"
_ANY_OF_USER = f"select exists (select from dead_letters where {_OF_USER})"  # noqa: S608  a constant of this module
_REMOVE_OF_USER = f"delete from dead_letters where {_OF_USER}"  # noqa: S608  a constant of this module
_REMOVE_OLD = """
delete from dead_letters where tenant_id = $1 and dead_letter_id = any (array(
    select dead_letter_id from dead_letters
    where tenant_id = $1 and created_at < $2 order by created_at, dead_letter_id limit $3 for update skip locked
))
"""


async def any_letters_of_user(connection: asyncpg.Connection, tenant_id: UUID, user_id: str, cut_at: datetime) -> bool:
    """Whether a letter holds an event of the user that was received until `cut_at`, or nobody knows when."""
    return bool(await connection.fetchval(_ANY_OF_USER, tenant_id, user_id, cut_at))


async def remove_letters_of_user(
    connection: asyncpg.Connection, tenant_id: UUID, user_id: str, cut_at: datetime
) -> int:
    """Remove them; waits for those that are just being sent again. Row security must be bound to the tenant."""
    return _count(await connection.execute(_REMOVE_OF_USER, tenant_id, user_id, cut_at))


async def remove_letters_before(connection: asyncpg.Connection, tenant_id: UUID, moment: datetime, most: int) -> int:
    """Remove up to `most` letters that were written before `moment`, but for those that somebody is at."""
    return _count(await connection.execute(_REMOVE_OLD, tenant_id, moment, most))


def _count(done: str) -> int:
    return int(done.removeprefix("DELETE "))
