"""A piece of each open job that has a receipt (a tenant's deletion, a user's erasure), and what stands in its way.

Owns what a fault means for one job: a note in its receipt, and that the others go on. Knows no kind of job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from app.metrics import WORKER_RETRIES
from workers.duties import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class WaitingError(Exception):
    """It can't go on yet; the text says what it waits for."""


class Job(Protocol):
    @property
    def problem(self) -> str | None:
        """What its receipt says that it waits for."""


JobT = TypeVar("JobT", bound=Job)


async def a_piece_of_each(
    jobs: Sequence[JobT],
    advance: Callable[[JobT], Awaitable[bool]],
    *,
    failed: Callable[[JobT], None],
    note: Callable[[JobT, str | None], Awaitable[None]],
) -> bool:
    """`advance` each of `jobs`; True if one can go on at once.

    `failed` is called where a server did not answer. `note` where a job's problem is another one than before, or none.
    """
    going_on = False
    for job in jobs:
        problem = None
        try:
            going_on |= await advance(job)
        except WaitingError as waiting:
            problem = str(waiting)
        except TRANSIENT as error:
            failed(job)
            problem = f"{type(error).__name__}: {error}"[:300]
            WORKER_RETRIES.labels("maintain", type(error).__name__).inc()
        if problem != job.problem:
            await note(job, problem)
    return going_on
