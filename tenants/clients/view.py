"""A tenant's clients as those who manage them see them: without secrets, which nobody has. Works as sluice_app under
row security and as sluice_auth; each statement says the tenant. Changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import JSONB

from app.errors import NotFoundError
from auth.jwks import key_ids
from tenants.pages import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from ipaddress import IPv4Network, IPv6Network
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.pages import PageAsked

SECRETS_SHOWN = 10
"""Those that are valid and then the newest; secrets that ended long ago would only be in the way."""

POSSIBLE_IDS = re.compile(r"[\x21-\x7e]{1,200}")

_SELECT = """
    select client_id, name, scopes, networks, jwks, events_per_second, burst, created_at, revoked_at
    from oauth_clients where tenant_id = :tenant_id
"""
_ONE = text(f"{_SELECT} and client_id = :client_id").columns(jwks=JSONB)
_OLDEST_FIRST = "order by created_at, client_id limit :rows"
_FIRST_PAGE = text(f"{_SELECT} {_OLDEST_FIRST}").columns(jwks=JSONB)
_NEXT_PAGE = text(f"{_SELECT} and (created_at, client_id) > (:moment, :after) {_OLDEST_FIRST}").columns(jwks=JSONB)
# By the statement's time and not the transaction's, which may have waited for another change since it began.
_SECRETS = text("""
    select client_id, secret_id, created_at, expires_at, valid from (
        select *, row_number() over (partition by client_id order by valid desc, created_at desc, secret_id) as place
        from (
            select client_id, secret_id, created_at, expires_at,
                   expires_at is null or expires_at > statement_timestamp() as valid
            from client_secrets where tenant_id = :tenant_id and client_id = any (:client_ids)
        ) as judged
    ) as numbered where place <= :most order by client_id, place
""")
_USES = text("""
    select client_id, credential, last_used_at from client_uses
    where tenant_id = :tenant_id and client_id = any (:client_ids)
""")


@dataclass(frozen=True)
class ManagedSecret:
    """`last_used_at` to about a minute; None: never used. `valid`: at the moment of looking."""

    secret_id: UUID
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    valid: bool


@dataclass(frozen=True)
class ManagedKey:
    """A key of a client's `jwks`."""

    kid: str
    last_used_at: datetime | None


@dataclass(frozen=True)
class ManagedClient:
    """`jwks` as `auth.jwks` describes, and `keys` of it, or None and `secrets`; those that are valid come first.

    `last_used_at`: when it last authenticated, by whatever secret or key it has or had.
    """

    client_id: str
    name: str
    scopes: list[str]
    networks: list[IPv4Network | IPv6Network]
    jwks: Mapping[str, Any] | None
    events_per_second: float | None
    burst: int | None
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None = None
    secrets: tuple[ManagedSecret, ...] = ()
    keys: tuple[ManagedKey, ...] = ()


async def find(connection: AsyncConnection, tenant_id: UUID, client_id: str) -> ManagedClient:
    """One client, revoked or not.

    Raises:
        NotFoundError: the tenant has no such client; whether another has makes no difference.
    """
    rows: Iterable[Row[Any]] = ()
    if POSSIBLE_IDS.fullmatch(client_id):
        rows = await connection.execute(_ONE, {"tenant_id": tenant_id, "client_id": client_id})
    for client in await _completed(connection, tenant_id, rows):
        return client
    raise NotFoundError("There is no such client.")


async def page_of_clients(
    connection: AsyncConnection, tenant_id: UUID, page: PageAsked
) -> tuple[list[ManagedClient], Place | None]:
    """Clients, the oldest first, the revoked ones too, and where the next page begins."""
    values: dict[str, Any] = {"tenant_id": tenant_id, "rows": page.limit + 1}
    if page.after is None:
        rows = (await connection.execute(_FIRST_PAGE, values)).all()
    else:
        values |= {"moment": page.after.moment, "after": page.after.entry_id}
        rows = (await connection.execute(_NEXT_PAGE, values)).all()
    clients = await _completed(connection, tenant_id, rows[: page.limit])
    more = len(rows) > page.limit
    return clients, Place(clients[-1].created_at, clients[-1].client_id) if more else None


async def _completed(connection: AsyncConnection, tenant_id: UUID, rows: Iterable[Row[Any]]) -> list[ManagedClient]:
    clients = {row.client_id: ManagedClient(**row._mapping) for row in rows}  # noqa: SLF001  SQLAlchemy's public name
    if not clients:
        return []
    named = {"tenant_id": tenant_id, "client_ids": list(clients)}
    uses: dict[str, dict[str, datetime]] = {client_id: {} for client_id in clients}
    for row in await connection.execute(_USES, named):
        uses[row.client_id][row.credential] = row.last_used_at
    secrets: dict[str, list[ManagedSecret]] = {client_id: [] for client_id in clients}
    for row in await connection.execute(_SECRETS, named | {"most": SECRETS_SHOWN}):
        used = uses[row.client_id].get(str(row.secret_id))
        secrets[row.client_id].append(ManagedSecret(row.secret_id, row.created_at, row.expires_at, used, row.valid))
    return [
        replace(
            client,
            last_used_at=max(uses[client_id].values(), default=None),
            secrets=tuple(secrets[client_id]),
            keys=tuple(ManagedKey(kid, uses[client_id].get(kid)) for kid in key_ids(client.jwks)),
        )
        for client_id, client in clients.items()
    ]
