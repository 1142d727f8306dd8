"""Asking that a user be erased, and the receipts that say how far it is.

The request is one transaction that sets a cut: what of the user was received until then is removed from every place by
the `maintain` worker (`workers.erasure`), and the store worker stores no more of it (`workers.suppression`). Works as
sluice_app for the tenant it sees, or as sluice_auth. Refuses to own who may ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.errors import NotFoundError
from app.events.users import user_hash
from tenants.audit import Action, record
from tenants.pages import Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.audit import Actor
    from tenants.pages import PageAsked

# Waits for the transactions of the store worker, which hold this row FOR KEY SHARE: what they store is there to be
# removed, and those that come after find the erasure. So the cut, which is set by the insert, has to come after it.
_LOCK = text("select 1 from tenants where tenant_id = :tenant_id for update")
_OPEN = text("""
    select erasure_id from erasures where tenant_id = :tenant_id and user_hash = :user_hash and finished_at is null
""")
_REQUEST = text("""
    insert into erasures (tenant_id, user_hash, user_id) values (:tenant_id, :user_hash, :user_id) returning erasure_id
""")
_COLUMNS = "erasure_id, user_hash, cut_at, step, deleted, kafka_until, finished_at, problem"
_RECEIPT = text(f"select {_COLUMNS} from erasures where tenant_id = :tenant_id and erasure_id = :erasure_id")  # noqa: S608
_LATEST = f"select {_COLUMNS} from erasures where tenant_id = :tenant_id"  # noqa: S608  constants of this module


@dataclass(frozen=True)
class Erasure:
    """A receipt. `user_hash` is hexadecimal (`app.events.users`). `deleted` counts rows, letters and documents by
    place; `step` is the one under way, `problem` what it waits for. `kafka_until`: when Kafka's retention has removed
    the last record; None once finished: the topic is kept for ever.
    """

    erasure_id: UUID
    user_hash: str
    cut_at: datetime
    step: str
    deleted: Mapping[str, int]
    kafka_until: datetime | None
    finished_at: datetime | None
    problem: str | None


async def request_erasure(connection: AsyncConnection, tenant_id: UUID, user_id: str, actor: Actor) -> Erasure:
    """Begin to erase the user. While an erasure of the user is open, asking again answers its receipt. The caller
    commits.
    """
    hashed = user_hash(tenant_id, user_id)
    found = {"tenant_id": tenant_id, "user_hash": hashed}
    await connection.execute(_LOCK, {"tenant_id": tenant_id})
    erasure_id: UUID | None = (await connection.execute(_OPEN, found)).scalar_one_or_none()
    if erasure_id is None:
        erasure_id = (await connection.execute(_REQUEST, {**found, "user_id": user_id})).scalar_one()
        action = Action("erasure.requested", str(erasure_id), {"user_hash": hashed.hex()})
        await record(connection, tenant_id, actor, action)
    return await read_erasure(connection, tenant_id, erasure_id)


async def read_erasure(connection: AsyncConnection, tenant_id: UUID, erasure_id: UUID) -> Erasure:
    """The receipt.

    Raises:
        NotFoundError: the tenant has none of this id.
    """
    row = (await connection.execute(_RECEIPT, {"tenant_id": tenant_id, "erasure_id": erasure_id})).one_or_none()
    if row is None:
        raise no_such_erasure(erasure_id)
    return _erasure(row)


async def list_erasures(
    connection: AsyncConnection, tenant_id: UUID, page: PageAsked
) -> tuple[list[Erasure], Place | None]:
    """A page of the tenant's receipts, the newest first, and where the next begins."""
    values: dict[str, Any] = {"tenant_id": tenant_id, "rows": page.limit + 1}
    behind = ""
    if page.after is not None:
        behind = "and (cut_at, erasure_id) < (:moment, cast(:erasure_id as uuid))"
        values |= {"moment": page.after.moment, "erasure_id": page.after.entry_id}
    statement = text(f"{_LATEST} {behind} order by cut_at desc, erasure_id desc limit :rows")
    found = [_erasure(row) for row in (await connection.execute(statement, values)).all()]
    listed = found[: page.limit]
    return listed, Place(listed[-1].cut_at, str(listed[-1].erasure_id)) if len(found) > page.limit else None


def no_such_erasure(erasure_id: object) -> NotFoundError:
    """The one way in which an unknown receipt is answered."""
    return NotFoundError(f"There is no erasure {erasure_id}.")


def _erasure(row: Row[Any]) -> Erasure:
    return Erasure(
        row.erasure_id,
        row.user_hash.hex(),
        row.cut_at,
        row.step,
        row.deleted,
        row.kafka_until,
        row.finished_at,
        row.problem,
    )
