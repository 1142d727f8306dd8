"""What a worker could not handle, written down in the transaction that moves on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

log = structlog.get_logger()

WHOLE_RECORD = -1
_DETAIL_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why, where from (`index` is the event's place in its record, or `WHOLE_RECORD`), and the bytes."""

    tenant_id: UUID
    reason: str
    detail: str
    partition: int
    offset: int
    index: int
    payload: bytes


async def write_dead_letters(connection: asyncpg.Connection, topic: str, letters: Sequence[DeadLetter]) -> None:
    """Write `letters`, whose tenants row security must be bound to; one that is there already stays as it is."""
    if not letters:
        return
    await connection.executemany(
        """
        insert into dead_letters
            (tenant_id, reason, detail, topic, source_partition, source_offset, record_index, payload)
        values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing
        """,
        [
            (x.tenant_id, x.reason, _storable(x.detail), topic, x.partition, x.offset, x.index, x.payload)
            for x in letters
        ],
    )
    for letter in letters:
        log.warning(
            "dead letter", tenant_id=str(letter.tenant_id), reason=letter.reason, partition=letter.partition,
            offset=letter.offset, index=letter.index,
        )  # fmt: skip


def _storable(text: str) -> str:
    """PostgreSQL's text holds neither NUL nor lone surrogates, and an error's text may quote either."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()[:_DETAIL_LENGTH]
