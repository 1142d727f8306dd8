"""A tenant's dead letters as those who manage them see them. Works as sluice_app and as sluice_worker under row
security; each statement says the tenant. Changes nothing, and knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.errors import NotFoundError
from tenants.pages import Place

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.pages import PageAsked

OPEN = "open"
QUEUED = "queued"
SENT = "sent"
RESOLVED = "resolved"
DISCARDED = "discarded"
STATUSES = (OPEN, QUEUED, SENT, RESOLVED, DISCARDED)
REASONS = ("not a record", "unstorable", "unknown tenant", "not indexable")
OF_THE_STORE = "store"
WHOLE_RECORD = -1

COLUMNS = """
    dead_letter_id, worker, status, reason, detail, attempts, event_id, event_type, user_id, client_id, received_at,
    topic, source_partition, source_offset, record_index, created_at, changed_at, retry_payload is not null as edited
"""
_ONE = text(f"""
    select {COLUMNS}, payload, retry_payload from dead_letters
    where tenant_id = :tenant_id and dead_letter_id = :dead_letter_id
""")  # noqa: S608  a constant of this module
_NEWEST_FIRST = "order by created_at desc, dead_letter_id desc limit :rows"


@dataclass(frozen=True)
class Letter:
    """A dead letter. The event's members are those that would be sent now; None: not known. `record_index` -1: the
    letter is a whole record, and not one event of it. `attempts` counts those that failed.
    """

    dead_letter_id: UUID
    worker: str
    status: str
    reason: str
    detail: str
    attempts: int
    event_id: str | None
    event_type: str | None
    user_id: str | None
    client_id: str | None
    received_at: datetime | None
    topic: str
    source_partition: int
    source_offset: int
    record_index: int
    created_at: datetime
    changed_at: datetime
    edited: bool

    @property
    def is_event_of_the_store(self) -> bool:
        """Whether it is one event that was not stored."""
        return self.worker == OF_THE_STORE and self.record_index != WHOLE_RECORD


@dataclass(frozen=True)
class WholeLetter:
    """A letter with its original bytes, and the event that is sent in their place if it was edited."""

    letter: Letter
    payload: bytes
    retry_payload: bytes | None


@dataclass(frozen=True)
class Filters:
    """Letters of this status and reason with started_at ≤ created_at < ended_at; None does not restrict."""

    status: str | None = None
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def condition(self, tenant_id: UUID) -> tuple[str, dict[str, Any]]:
        """As SQL over dead_letters, and its values."""
        conditions = {
            "tenant_id = :tenant_id": tenant_id,
            "status = :status": self.status,
            "reason = :reason": self.reason,
            "created_at >= :started_at": self.started_at,
            "created_at < :ended_at": self.ended_at,
        }
        said = {condition: value for condition, value in conditions.items() if value is not None}
        return " and ".join(said), {condition.rpartition(":")[2]: value for condition, value in said.items()}


async def find(
    connection: AsyncConnection, tenant_id: UUID, dead_letter_id: UUID, *, lock: bool = False
) -> WholeLetter:
    """One letter; with `lock` nobody else changes it, or sends it, before this transaction ends.

    Raises:
        NotFoundError: the tenant has no such letter; whether another has makes no difference.
    """
    statement = text(f"{_ONE.text} for update") if lock else _ONE
    named = {"tenant_id": tenant_id, "dead_letter_id": dead_letter_id}
    row = (await connection.execute(statement, named)).one_or_none()
    if row is None:
        raise NotFoundError("There is no such dead letter.")
    return WholeLetter(letter_of(row), row.payload, row.retry_payload)


async def page_of_letters(
    connection: AsyncConnection, tenant_id: UUID, filters: Filters, page: PageAsked
) -> tuple[list[Letter], Place | None]:
    """A page of letters, newest first, and where the next begins. One that is added meanwhile moves no later page."""
    where, values = filters.condition(tenant_id)
    if page.after is not None:
        where += " and (created_at, dead_letter_id) < (:moment, cast(:after as uuid))"
        values |= {"moment": page.after.moment, "after": page.after.entry_id}
    statement = text(f"select {COLUMNS} from dead_letters where {where} {_NEWEST_FIRST}")  # noqa: S608  constants of this module
    rows = (await connection.execute(statement, values | {"rows": page.limit + 1})).all()
    letters = [letter_of(row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return letters, Place(letters[-1].created_at, str(letters[-1].dead_letter_id)) if more else None


def letter_of(row: Row[Any]) -> Letter:
    """The letter in a row that has at least `COLUMNS`."""
    return Letter(**{name: getattr(row, name) for name in Letter.__dataclass_fields__})
