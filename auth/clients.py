"""OAuth clients in PostgreSQL (`oauth_clients`): making one, and finding one by its id. Role: sluice_auth.

Refuses to own authentication, which `auth.server` decides over what is found here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from auth.credentials import hash_secret, new_client_id, new_secret, secret_matches
from auth.scopes import PLATFORM_ADMIN, TENANT_SCOPES
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

# An id from outside may hold anything; what no id of ours could be is not worth, or (NUL) not possible, asking for.
_POSSIBLE_ID = re.compile(r"[\x21-\x7e]{1,200}")

_INSERT = text("""
    insert into oauth_clients (tenant_id, client_id, name, secret_hash, scopes)
    values (:tenant_id, :client_id, :name, :secret_hash, :scopes)
""")

_FIND = text("""
    select c.tenant_id, c.client_id, c.secret_hash, c.scopes, t.status = 'active' as tenant_active
    from oauth_clients c join tenants t using (tenant_id)
    where c.client_id = :client_id and c.revoked_at is null
    limit 2
""")


@dataclass(frozen=True)
class NewClient:
    """A client just made. The only time that its secret can be seen."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Client:
    """A client that is not revoked. `scopes` in the order in which they were granted."""

    tenant_id: UUID
    client_id: str
    secret_hash: bytes = field(repr=False)
    scopes: tuple[str, ...]
    tenant_active: bool

    def has_secret(self, key: bytes, secret: str) -> bool:
        """Whether `secret` is this client's; constant time."""
        return secret_matches(key, self.client_id, secret, self.secret_hash)


async def create_client(
    connection: AsyncConnection, key: bytes, tenant_id: UUID, name: str, scopes: Iterable[str]
) -> NewClient:
    """Insert a client with a fresh id and secret. The caller commits. `key` is the secret hash key's 32 bytes.

    Raises:
        ValueError: a scope that does not exist, or the platform's for a client of another tenant.
    """
    scopes = list(scopes)
    grantable = {PLATFORM_ADMIN, *TENANT_SCOPES} if tenant_id == PLATFORM_TENANT_ID else set(TENANT_SCOPES)
    if not set(scopes) <= grantable:
        raise ValueError(f"A client of tenant {tenant_id} can't hold {', '.join(scopes)}")
    client = NewClient(new_client_id(), new_secret())
    await connection.execute(
        _INSERT,
        {
            "tenant_id": tenant_id,
            "client_id": client.client_id,
            "name": name,
            "secret_hash": hash_secret(key, client.client_id, client.client_secret),
            "scopes": scopes,
        },
    )
    return client


async def find_client(connection: AsyncConnection, client_id: str) -> Client | None:
    """The client with this id, or None if there is none or it is revoked.

    Ids are 128 random bits: two rows with one id can only be a fault, and then neither is trusted.
    """
    if not _POSSIBLE_ID.fullmatch(client_id):
        return None
    rows = (await connection.execute(_FIND, {"client_id": client_id})).all()
    if len(rows) != 1:
        return None
    row = rows[0]
    return Client(row.tenant_id, row.client_id, row.secret_hash, tuple(row.scopes), row.tenant_active)
