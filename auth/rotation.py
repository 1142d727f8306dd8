"""Which signing key follows which: rotation, retirement, and the list of them. Role: sluice_auth.

A new key is published before it signs, so that whoever keeps a copy of the JWK Set has it in time; an old one is
believed until its last token has expired. Each change here takes the table's lock, and the caller commits it.
Refuses to own how keys are made and kept (`auth.keys`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.errors import ConflictError, NotFoundError
from app.settings import MAX_TOKEN_LIFETIME_SECONDS
from auth.keys import believed_keys, create_key, key_encryption_key_id, lock_keys
from auth.tokens import CLOCK_SKEW_SECONDS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LEAD_SECONDS = 120
"""Twice as long as a JWK Set may be kept (`auth.endpoints`)."""

OVERLAP_SECONDS = MAX_TOKEN_LIFETIME_SECONDS + CLOCK_SKEW_SECONDS
"""How long an old key is believed after the new one signs: any token that settings allow has expired by then."""

FORGOTTEN_AFTER = "30 days"

# A key that is to end earlier still does. least() passes over null, which is: not planned.
_SUPERSEDE = text("""
    update signing_keys set retired_at = least(retired_at, to_timestamp(:at))
    where kid <> :kid and (retired_at is null or retired_at > to_timestamp(:at))
    returning kid
""")
_RETIRE = text("update signing_keys set retired_at = to_timestamp(:now) where kid = :kid")
_FIND = text("select extract(epoch from retired_at)::float8 as retired_at from signing_keys where kid = :kid")
_FORGET = text(f"delete from signing_keys where retired_at < to_timestamp(:now) - interval '{FORGOTTEN_AFTER}'")  # noqa: S608  a constant
# Null if there is no key at all.
_ALL_UNDER_ANOTHER = text("""
    select bool_and(key_encryption_key_id <> :id) from signing_keys
    where retired_at is null or retired_at > to_timestamp(:now)
""")
_LIST = text("""
    select kid, algorithm, created_at, signs_from, retired_at, key_encryption_key_id from signing_keys
    order by signs_from, kid
""")


@dataclass(frozen=True)
class Rotation:
    """A new key, when it begins to sign, and until when those before it, `superseded`, are believed."""

    kid: str
    signs_from: datetime
    superseded: tuple[str, ...]
    superseded_until: datetime


@dataclass(frozen=True)
class KeyRecord:
    """A signing key as it stands in the table; `state` is one of STATES."""

    kid: str
    algorithm: str
    state: str
    created_at: datetime
    signs_from: datetime
    retired_at: datetime | None


STATES = {
    "signing": "signs new tokens",
    "published": "is to sign later",
    "verifying": "signs no longer, its tokens still hold",
    "retired": "no token of it holds",
    "unusable": "does not decrypt under SLUICE_KEY_ENCRYPTION_KEY, so no process believes it",
}


async def rotate(connection: AsyncConnection, key_encryption_key: bytes, lead_seconds: float) -> Rotation:
    """Make a key that signs `lead_seconds` from now. Keys that retired a month ago are removed.

    Raises:
        ConflictError: no process uses this key-encryption key.
    """
    now = await _lock(connection, key_encryption_key)
    await connection.execute(_FORGET, {"now": now})
    return await _succeed(connection, key_encryption_key, now + lead_seconds)


async def retire(connection: AsyncConnection, key_encryption_key: bytes, kid: str) -> Rotation | None:
    """End a key and all its tokens now. Unless another signs and is not about to be retired, a new one does at once,
    and is returned.

    Raises:
        NotFoundError: there is no such key.
        ConflictError: it was retired already, or no process uses this key-encryption key.
    """
    now = await _lock(connection, key_encryption_key)
    found = (await connection.execute(_FIND, {"kid": kid})).one_or_none()
    if found is None:
        raise NotFoundError(f"There is no key {kid}; `sluice keys list` names them.")
    if found.retired_at is not None and found.retired_at <= now:
        raise ConflictError(f"The key {kid} was retired on {_moment(found.retired_at):%Y-%m-%d at %H:%M:%S} UTC.")
    await connection.execute(_RETIRE, {"kid": kid, "now": now})
    left = (await believed_keys(connection, key_encryption_key)).signer(now)
    if left is not None and left.retired_at == math.inf:
        return None
    return await _succeed(connection, key_encryption_key, now)


async def list_keys(connection: AsyncConnection, key_encryption_key: bytes) -> list[KeyRecord]:
    """Every key, in the order in which they begin to sign."""
    moment = (await connection.execute(text("select now()"))).scalar_one()
    keys = await believed_keys(connection, key_encryption_key)
    signer = keys.signer(moment.timestamp())

    def state(kid: str, signs_from: datetime, retired_at: datetime | None) -> str:
        if retired_at is not None and retired_at <= moment:
            return "retired"
        if kid not in keys.verification:
            return "unusable"
        if signer is not None and kid == signer.kid:
            return "signing"
        return "published" if signs_from > moment else "verifying"

    return [
        KeyRecord(
            row.kid,
            row.algorithm,
            state(row.kid, row.signs_from, row.retired_at),
            row.created_at,
            row.signs_from,
            row.retired_at,
        )
        for row in await connection.execute(_LIST)
    ]


async def _lock(connection: AsyncConnection, key_encryption_key: bytes) -> float:
    """As `lock_keys`, but not under a key-encryption key that is none of the gateways'.

    They would not believe a key made under it, and those that they do believe would end for its sake.
    """
    now = await lock_keys(connection)
    values = {"id": key_encryption_key_id(key_encryption_key), "now": now}
    if await connection.scalar(_ALL_UNDER_ANOTHER, values):
        raise ConflictError(
            "All keys are under another SLUICE_KEY_ENCRYPTION_KEY than this one; nothing was changed. "
            "If it is to be the new one, start a gateway with it first."
        )
    return now


async def _succeed(connection: AsyncConnection, key_encryption_key: bytes, signs_from: float) -> Rotation:
    kid = await create_key(connection, key_encryption_key, signs_from)
    until = signs_from + OVERLAP_SECONDS
    superseded = (await connection.execute(_SUPERSEDE, {"kid": kid, "at": until})).scalars().all()
    return Rotation(kid, _moment(signs_from), tuple(sorted(superseded)), _moment(until))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
