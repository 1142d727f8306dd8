"""Getting batches accepted: what each answer means, when to try again, when to give up.

An attempt that failed is repeated with the very same bytes, so with the same ids: however often an event arrives, it
counts once. Reading sources and counting batches is not known here.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from app.imports.api import NoAnswerError
from app.imports.batches import Bounds, batches
from app.imports.failures import DeliveryError

if TYPE_CHECKING:
    from app.imports.api import Answer, Api
    from app.imports.lines import Line
    from app.imports.tally import Tally
    from app.imports.window import Window

_ACCEPTED, _INVALID, _TOO_LARGE, _TOO_MANY, _UNAUTHORIZED, _FORBIDDEN = 202, 422, 413, 429, 401, 403
_REQUEST_TIMEOUT, _SERVER_ERROR = 408, 500

PATIENCE_SECONDS = 60.0
"""Without any usable answer, from an API that has answered before: longer than a restart takes."""

FIRST_PATIENCE_SECONDS = 10.0
"""The same for one that has not: most likely it isn't there."""

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 5.0


class _Error(msgspec.Struct):
    pointer: str
    detail: str


class _Rejected(msgspec.Struct):
    index: int
    errors: list[_Error]
    event_id: str | None = None


class _Verdicts(msgspec.Struct):
    rejected: list[_Rejected]


class _Problem(msgspec.Struct):
    detail: str = ""
    bucket_size: int | None = None
    limit_events: int | None = None
    limit_bytes: int | None = None


class Delivery:
    """Delivers batches of one import to one API. `bounds` are lowered when the API takes less."""

    def __init__(
        self,
        api: Api,
        window: Window,
        bounds: Bounds,
        tally: Tally,
        *,
        patience: float = PATIENCE_SECONDS,
        first_patience: float = FIRST_PATIENCE_SECONDS,
    ) -> None:
        self._api = api
        self._window = window
        self._bounds = bounds
        self._tally = tally
        self._patience = patience
        self._first_patience = min(patience, first_patience)
        self._answered = False
        self._failing_since: float | None = None

    async def deliver(self, batch: list[Line]) -> None:
        """Returns when each line of `batch` is accepted or rejected, and counted.

        Raises:
            DeliveryError: the API refuses, or gave no usable answer for too long.
            StoppedError: the import was stopped before everything was sent.
        """
        good = []
        for line in batch:
            if line.fault:
                self._tally.reject(line, None, [("", line.fault)])
            else:
                good.append(line)
        todo = deque([good] if good else [])
        while todo:
            lines = todo.popleft()
            answer = await self._answer_to(b"".join(b"%b\n" % line.body for line in lines))
            if answer.status == _TOO_LARGE:
                todo.extendleft(reversed(self._split(lines, answer)))
            else:
                self._count(lines, answer)

    async def _answer_to(self, body: bytes) -> Answer:
        """The first answer that decides something: 202, 422 or 413."""
        wait = _FIRST_WAIT_SECONDS
        while True:
            retry_after = None
            async with self._window.place():
                try:
                    answer = await self._api.send(body)
                except NoAnswerError as error:
                    trouble = str(error)
                else:
                    self._answered = True
                    if answer.status in (_ACCEPTED, _INVALID, _TOO_LARGE):
                        self._failing_since = None
                        self._window.grow()
                        return answer
                    if answer.status == _TOO_MANY:
                        self._failing_since = None
                        self._window.pause(1.0 if answer.retry_after is None else answer.retry_after)
                        continue
                    if answer.status < _SERVER_ERROR and answer.status != _REQUEST_TIMEOUT:
                        raise self._refused(answer)
                    trouble, retry_after = (
                        f"status {answer.status} {_problem(answer).detail}".strip(),
                        answer.retry_after,
                    )
            self._impatient(trouble)
            # Jitter keeps many importers from coming back at the same moment.
            await self._window.sleep(max(wait, min(retry_after or 0.0, 30.0)) * random.uniform(0.5, 1.5))  # noqa: S311
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    def _impatient(self, trouble: str) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        patience = self._patience if self._answered else self._first_patience
        if now - self._failing_since >= patience:
            what = "has given no usable answer" if self._answered else "gives no usable answer"
            raise DeliveryError(f"{self._api.url} {what} for {patience:g} s ({trouble})")

    def _refused(self, answer: Answer) -> DeliveryError:
        said = _problem(answer).detail or f"status {answer.status}"
        if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
            return DeliveryError(f"{self._api.url} doesn't let this client send events ({said})")
        return DeliveryError(
            f"{self._api.url} answers {answer.status} to a batch of events ({said}): is the URL right?"
        )

    def _split(self, lines: list[Line], answer: Answer) -> list[list[Line]]:
        """Smaller batches of `lines`, after learning the bounds from a 413; a line too large alone is rejected."""
        problem = _problem(answer)
        if len(lines) == 1:
            self._tally.reject(lines[0], None, [("", problem.detail or "is too large for the API")])
            return []
        # Half a bucket, because a full one gains nothing while a batch waits for its turn.
        events = max(1, problem.bucket_size // 2) if problem.bucket_size else problem.limit_events
        self._bounds.lower(events=events, size=problem.limit_bytes)
        pieces = list(batches(lines, self._bounds))
        if len(pieces) == 1:  # an answer without a bound, such as a proxy's
            pieces = list(batches(lines, Bounds(len(lines) // 2)))
        return pieces

    def _count(self, lines: list[Line], answer: Answer) -> None:
        try:
            rejected = msgspec.json.decode(answer.body, type=_Verdicts).rejected
        except msgspec.MsgspecError:
            raise self._refused(answer) from None
        if not all(0 <= verdict.index < len(lines) for verdict in rejected):
            raise self._refused(answer)
        for verdict in rejected:
            problems = [(error.pointer, error.detail) for error in verdict.errors]
            self._tally.reject(lines[verdict.index], verdict.event_id, problems)
        self._tally.accepted += len(lines) - len(rejected)


def _problem(answer: Answer) -> _Problem:
    try:
        return msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Problem()
