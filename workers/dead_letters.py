"""What a worker could not handle, written down in the transaction that moves on from it, and what became of letters
that were sent again: in the transaction that handled them.

A record that a letter was sent again as names it in a header (`workers.letters` sends it; an ordinary record has none),
so a letter that is refused again is the same letter, and not another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog
from aiokafka import ConsumerRecord

from app.events.model import MAX_TEXT_LENGTH
from app.metrics import DEAD_LETTER_RETRIES, DEAD_LETTERS

log = structlog.get_logger()

WHOLE_RECORD = -1
HEADER = "dead-letter"
_DETAIL_LENGTH = 1000
_NAMED = "(tenant_id, dead_letter_id) in (select * from unnest($1::uuid[], $2::uuid[]))"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why, where from (`index` is the event's place in its record, or `WHOLE_RECORD`), and the bytes.

    The other members are the event's, None where they are not known.
    """

    tenant_id: UUID
    reason: str
    detail: str
    partition: int
    offset: int
    index: int
    payload: bytes
    event_id: str | None = None
    event_type: str | None = None
    user_id: str | None = None
    client_id: str | None = None
    received_at: datetime | None = None


class Retry(NamedTuple):
    """The letter that a record is: whose, and which."""

    tenant_id: UUID
    dead_letter_id: UUID


Place = tuple[int, int]
"""Partition and offset of a record."""


def header_of(retry: Retry) -> tuple[str, bytes]:
    """What a record carries that is this letter, sent again."""
    return HEADER, f"{retry.tenant_id}/{retry.dead_letter_id}".encode()


def retry_of(record: ConsumerRecord) -> Retry | None:
    """The letter that the record is, if it is one."""
    for name, value in record.headers:
        if name == HEADER:
            try:
                tenant_id, _, dead_letter_id = value.decode().partition("/")
                return Retry(UUID(tenant_id), UUID(dead_letter_id))
            except ValueError:  # not of our making
                return None
    return None


async def write_dead_letters(
    connection: asyncpg.Connection, worker: str, topic: str, letters: Sequence[DeadLetter]
) -> None:
    """Write `letters`, whose tenants row security must be bound to; one that is there already stays as it is."""
    if not letters:
        return
    await connection.executemany(
        """
        insert into dead_letters
            (tenant_id, worker, reason, detail, topic, source_partition, source_offset, record_index, payload,
             event_id, event_type, user_id, client_id, received_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) on conflict do nothing
        """,
        [
            (
                x.tenant_id, worker, x.reason, _storable(x.detail), topic, x.partition, x.offset, x.index, x.payload,
                *map(_column, (x.event_id, x.event_type, x.user_id, x.client_id)), x.received_at,
            )
            for x in letters
        ],
    )  # fmt: skip
    for letter in letters:
        DEAD_LETTERS.labels(worker, letter.reason).inc()
        log.warning(
            "dead letter", tenant_id=str(letter.tenant_id), reason=letter.reason, partition=letter.partition,
            offset=letter.offset, index=letter.index,
        )  # fmt: skip


async def settle(
    connection: asyncpg.Connection, retries: dict[Place, Retry], letters: list[DeadLetter]
) -> list[DeadLetter]:
    """Say of the letters that were sent again what became of them; returns those of `letters` that are new ones.

    `retries` are the records of a batch that are letters, `letters` what was refused of the batch. A letter that was
    refused again is open again. One that was not is resolved: stored, or a duplicate of what was stored before, or
    dropped as the store drops such events. Row security must be bound to the tenants of both.
    """
    if not retries:
        return letters
    fresh: list[DeadLetter] = []
    refused: dict[Retry, DeadLetter] = {}
    for letter in letters:
        retry = retries.get((letter.partition, letter.offset))
        if retry is not None and retry.tenant_id == letter.tenant_id:
            refused[retry] = letter
        else:
            fresh.append(letter)
    known = await refuse_again(connection, {retry: (x.reason, x.detail) for retry, x in refused.items()})
    await resolve(connection, [retry for retry in retries.values() if retry not in refused])
    # A letter that is gone, for instance because it was resolved a month ago, leaves room for a new one.
    return fresh + [letter for retry, letter in refused.items() if retry not in known]


async def refuse_again(connection: asyncpg.Connection, refused: dict[Retry, tuple[str, str]]) -> set[Retry]:
    """Open these letters again, with one more attempt and the reason and detail of now; returns those that exist.

    One that was sent twice counts one attempt: it is open when the second refusal comes.
    """
    if not refused:
        return set()
    named = [retry.tenant_id for retry in refused], [retry.dead_letter_id for retry in refused]
    done = await connection.execute(
        """
        update dead_letters d set
            status = 'open', attempts = attempts + 1, reason = r.reason, detail = r.detail, changed_at = now()
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as r (tenant_id, dead_letter_id, reason, detail)
        where d.tenant_id = r.tenant_id and d.dead_letter_id = r.dead_letter_id and d.status in ('queued', 'sent')
        """,
        *named,
        [reason for reason, _ in refused.values()],
        [_storable(detail) for _, detail in refused.values()],
    )
    DEAD_LETTER_RETRIES.labels("refused").inc(int(done.removeprefix("UPDATE ")))
    known = await connection.fetch(
        f"select tenant_id, dead_letter_id from dead_letters where {_NAMED}",  # noqa: S608  a constant of this module
        *named,
    )
    return {Retry(*row) for row in known}


async def resolve(connection: asyncpg.Connection, retries: Sequence[Retry], detail: str | None = None) -> None:
    """Note that these letters were handled after all, whatever was meant to become of them; `detail`: how."""
    if not retries:
        return
    done = await connection.execute(
        f"""
        update dead_letters set status = 'resolved', detail = coalesce($3, detail), changed_at = now()
        where status <> 'resolved' and {_NAMED}
        """,  # noqa: S608  a constant of this module
        [retry.tenant_id for retry in retries],
        [retry.dead_letter_id for retry in retries],
        detail,
    )
    DEAD_LETTER_RETRIES.labels("resolved").inc(int(done.removeprefix("UPDATE ")))


def _column(text: str | None) -> str | None:
    """`text` if a column can hold it, and its index; what is longer than an event's may be was no event's."""
    return None if text is None or len(text) > MAX_TEXT_LENGTH or "\0" in text else text


def _storable(text: str) -> str:
    """PostgreSQL's text holds neither NUL nor lone surrogates, and an error's text may quote either."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()[:_DETAIL_LENGTH]
