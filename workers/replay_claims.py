"""Which replay a worker sends a piece of next, and what it writes down afterwards. As sluice_auth, never for long.

A claim is a lease that is renewed while the piece is under way, so nobody holds a lock while a webhook thinks: pausing
and cancelling never wait, and what a killed worker had claimed is free again after `LEASE_SECONDS`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.recovery.replays import COLUMNS, RATE, Replay, replay_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.recovery.selection import Place

log = structlog.get_logger()

LEASE_SECONDS = 15.0

# Whoever has waited longest. Of one tenant no two pieces at once to the same kind of target, so that it can't take all
# turns; two workers that look at the same moment may still do so for one piece.
_CLAIM = text(f"""
    update replays set lease = :lease, leased_until = clock_timestamp() + make_interval(secs => :seconds),
        turn_at = clock_timestamp()
    where (tenant_id, replay_id) = (
        select r.tenant_id, r.replay_id from replays r join tenants t using (tenant_id)
        where r.state = 'running' and t.status = 'active' and r.target = any (cast(:targets as text[]))
          and (r.leased_until is null or r.leased_until < clock_timestamp())
          and (r.due_at is null or r.due_at <= clock_timestamp())
          and not exists (
              select from replays o
              where o.tenant_id = r.tenant_id and o.state = 'running' and o.leased_until > clock_timestamp()
                and (o.target = 'webhook') = (r.target = 'webhook')
          )
        order by r.turn_at nulls first, r.requested_at limit 1 for update of r skip locked
    )
    returning {COLUMNS}, webhook_secret
""")  # noqa: S608  constants of this project
_RENEW = text("""
    update replays set leased_until = clock_timestamp() + make_interval(secs => :seconds)
    where tenant_id = :tenant_id and replay_id = :replay_id and lease = :lease
""")
_MOVED = text(f"""
    update replays set sent = sent + :sent, refused = refused + :refused,
        at_timestamp = coalesce(cast(:at_timestamp as timestamptz), at_timestamp),
        at_event_id = coalesce(cast(:at_event_id as text), at_event_id),
        rate = {RATE}, moved_at = clock_timestamp(), attempts = 0, problem = :problem,
        due_at = case when cast(:wait as float8) > 0 then clock_timestamp() + make_interval(secs => :wait) end,
        lease = null, leased_until = null
    where tenant_id = :tenant_id and replay_id = :replay_id and lease = :lease
""")  # noqa: S608  constants of this project
_DONE = text("""
    update replays set state = 'done', finished_at = now(), total = sent + refused, total_estimated = false,
        webhook_secret = null
    where tenant_id = :tenant_id and replay_id = :replay_id and state = 'running'
""")
_HINDERED = text("""
    update replays set attempts = attempts + 1, problem = :problem, lease = null, leased_until = null,
        due_at = clock_timestamp() + make_interval(secs => :wait)
    where tenant_id = :tenant_id and replay_id = :replay_id and lease = :lease
""")
_FAILED = text("""
    update replays set state = 'failed', finished_at = now(), problem = :problem, lease = null, leased_until = null,
        webhook_secret = null
    where tenant_id = :tenant_id and replay_id = :replay_id and lease = :lease and state = 'running'
""")
_RELEASE = text("""
    update replays set lease = null, leased_until = null
    where tenant_id = :tenant_id and replay_id = :replay_id and lease = :lease
""")


@dataclass(frozen=True)
class Claim:
    """A replay whose next piece is this worker's to send. `sealed`: its webhook's secret."""

    replay: Replay
    lease: UUID
    sealed: bytes | None

    @property
    def named(self) -> dict[str, Any]:
        return {"tenant_id": self.replay.tenant_id, "replay_id": self.replay.replay_id, "lease": self.lease}


@dataclass(frozen=True)
class Piece:
    """What became of a piece: sent up to `end` (None: there was nothing more). `last`: nothing is left behind it."""

    sent: int
    refused: int
    end: Place | None
    last: bool
    problem: str | None = None


async def claim(engine: AsyncEngine, targets: Sequence[str]) -> Claim | None:
    """The running replay to one of `targets` that is due and has waited longest; None: there is none."""
    lease = uuid4()
    values = {"lease": lease, "seconds": LEASE_SECONDS, "targets": list(targets)}
    async with engine.begin() as connection:
        row = (await connection.execute(_CLAIM, values)).one_or_none()
    return None if row is None else Claim(replay_of(row), lease, row.webhook_secret)


@asynccontextmanager
async def held(engine: AsyncEngine, claimed: Claim) -> AsyncIterator[None]:
    """Keeps the claim while the piece is under way; gives it back if that ends by being cancelled."""
    renewing = asyncio.create_task(_renew(engine, claimed))
    try:
        yield
    except asyncio.CancelledError:
        with suppress(SQLAlchemyError, OSError):
            await _write(engine, _RELEASE, claimed.named)
        raise
    finally:
        renewing.cancel()


async def moved(engine: AsyncEngine, claimed: Claim, piece: Piece, *, wait_seconds: float = 0.0) -> None:
    """Write down that the piece was sent, also if the replay was paused or cancelled meanwhile.

    Nothing is written if the claim was lost: then another worker sends the same piece.
    """
    end = {
        "at_timestamp": None if piece.end is None else piece.end.timestamp,
        "at_event_id": None if piece.end is None else piece.end.event_id,
    }
    values = {"sent": piece.sent, "refused": piece.refused, "problem": piece.problem, "wait": wait_seconds}
    async with engine.begin() as connection:
        written = await connection.execute(_MOVED, claimed.named | end | values)
        if written.rowcount and piece.last:
            named = {"tenant_id": claimed.replay.tenant_id, "replay_id": claimed.replay.replay_id}
            await connection.execute(_DONE, named)
    if not written.rowcount:
        log.warning("a piece of a replay took too long; another worker sends it again", **_told(claimed))


async def hindered(engine: AsyncEngine, claimed: Claim, problem: str, wait_seconds: float) -> None:
    """Write down why it stands still, to be tried again after `wait_seconds`."""
    await _write(engine, _HINDERED, claimed.named | {"problem": problem[:300], "wait": wait_seconds})


async def failed(engine: AsyncEngine, claimed: Claim, problem: str) -> None:
    """End it for good."""
    await _write(engine, _FAILED, claimed.named | {"problem": problem[:300]})
    log.warning("a replay failed", problem=problem, **_told(claimed))


async def _renew(engine: AsyncEngine, claimed: Claim) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        with suppress(SQLAlchemyError, OSError):
            await _write(engine, _RENEW, claimed.named | {"seconds": LEASE_SECONDS})


async def _write(engine: AsyncEngine, statement: Any, values: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await connection.execute(statement, values)


def _told(claimed: Claim) -> dict[str, str]:
    return {"tenant_id": str(claimed.replay.tenant_id), "replay_id": str(claimed.replay.replay_id)}
