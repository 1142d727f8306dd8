"""A replay as NDJSON: pages of lines, each read in a transaction of its own, and how far they were handed out.

Bounded memory, whoever reads however slowly. Works over any way to a transaction that shows the tenant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.errors import ConflictError, Fault, InvalidError
from app.events.replayed import line
from app.recovery.replays import RATE, find
from app.recovery.selection import page, place_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.recovery.replays import Replay
    from app.recovery.selection import Page, Place

    Session = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

_ADVANCE = text(f"""
    update replays set sent = sent + :sent, at_timestamp = :at_timestamp, at_event_id = :at_event_id,
        rate = {RATE}, moved_at = clock_timestamp()
    where tenant_id = :tenant_id and replay_id = :replay_id
""")  # noqa: S608  constants of this project
_FINISH = text("""
    update replays set state = 'done', finished_at = now(), total = sent, total_estimated = false
    where tenant_id = :tenant_id and replay_id = :replay_id and state = 'running'
""")


def check_readable(replay: Replay) -> None:
    """Nothing, if lines of the replay can be read.

    Raises:
        ConflictError: it goes elsewhere, or is paused, cancelled or failed.
    """
    if replay.order.target != "ndjson":
        raise ConflictError(f"The replay goes to {replay.order.target}; only one to ndjson is read here.")
    if replay.state not in ("running", "done"):
        raise ConflictError(f"The replay is {replay.state}.")


async def place_after(connection: AsyncConnection, replay: Replay, event_id: str | None) -> Place | None:
    """Behind the event with this id; None: at the beginning.

    Raises:
        InvalidError: it is not stored any more, and was not the last one that was handed out.
    """
    if event_id is None:
        return None
    if replay.after is not None and replay.after.event_id == event_id:
        return replay.after
    place = await place_of(connection, replay.tenant_id, event_id)
    if place is None:
        raise InvalidError("The parameters are not valid.", (Fault("/query/after", "is no stored event's id"),))
    return place


async def lines(events: Session, jobs: Session, replay: Replay, first: Page) -> AsyncIterator[bytes]:
    """The page `first` and all behind it, some lines at a time.

    `events` shows the tenant's events, `jobs` its replays. What was handed out before is not counted again in `sent`.

    Raises:
        ConflictError: the replay was paused or cancelled meanwhile.
        UnavailableError, SQLAlchemyError: PostgreSQL does not answer. In either case what came until then is whole
            lines, and a stream that begins behind the last of them misses nothing.
    """
    current = first
    while True:
        if current.rows:
            yield b"".join(line(row, replay.replay_id) for row in current.rows)
        async with jobs() as connection:
            await _note(connection, replay, current)
        if current.last:
            return
        async with events() as connection:
            current = await page(connection, replay.order.selection, current.end)


async def _note(connection: AsyncConnection, replay: Replay, handed_out: Page) -> None:
    now = await find(connection, replay.tenant_id, replay.replay_id, lock=True)
    check_readable(now)
    named = {"tenant_id": replay.tenant_id, "replay_id": replay.replay_id}
    new = sum(now.after is None or now.after.is_before(place) for place in handed_out.places)
    if new and handed_out.end is not None:
        place = {"at_timestamp": handed_out.end.timestamp, "at_event_id": handed_out.end.event_id}
        await connection.execute(_ADVANCE, named | place | {"sent": new})
    if handed_out.last:
        await connection.execute(_FINISH, named)
