"""OAuth clients in PostgreSQL: making one (as sluice_auth or sluice_app), finding one by its id (as sluice_auth).

Refuses to own authentication, which `auth.server` decides over what is found here, and who may make which client,
which `tenants.clients.changes` does.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from auth.credentials import hash_secret, matching_hash, new_client_id, new_secret
from auth.scopes import PLATFORM_ADMIN, TENANT_SCOPES
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Network, IPv6Network
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.plans import ClientLimits

# An id from outside may hold anything; what no id of ours could be is not worth, or (NUL) not possible, asking for.
_POSSIBLE_ID = re.compile(r"[\x21-\x7e]{1,200}")

_INSERT = text("""
    insert into oauth_clients (tenant_id, client_id, name, scopes, networks, jwks, events_per_second, burst)
    values (:tenant_id, :client_id, :name, :scopes, :networks, :jwks, :events_per_second, :burst)
""").bindparams(bindparam("jwks", type_=JSONB(none_as_null=True)))

_INSERT_SECRET = text("""
    insert into client_secrets (tenant_id, client_id, secret_id, secret_hash)
    values (:tenant_id, :client_id, :secret_id, :secret_hash)
""")

_FIND = text("""
    select c.tenant_id, c.client_id, c.scopes, c.networks, c.jwks, t.status = 'active' as tenant_active
    from oauth_clients c join tenants t using (tenant_id)
    where c.client_id = :client_id and c.revoked_at is null
    limit 2
""").columns(jwks=JSONB)

_SECRETS = text("""
    select secret_id, secret_hash from client_secrets
    where tenant_id = :tenant_id and client_id = :client_id and (expires_at is null or expires_at > now())
    order by created_at desc, secret_id
""")


@dataclass(frozen=True)
class NewSecret:
    """A secret just made. The only time that it can be seen."""

    secret_id: UUID
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class NewClient:
    """A client just made. The only time that its secret can be seen."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Secret:
    """A secret that can be used now, as it is stored."""

    secret_id: UUID
    secret_hash: bytes = field(repr=False)


@dataclass(frozen=True)
class Client:
    """A client that is not revoked. `scopes` in the order in which they were granted; `networks` empty: from anywhere.

    With `jwks` (RFC 7517 section 5) it authenticates by private_key_jwt only, else by one of `secrets`, newest first.
    """

    tenant_id: UUID
    client_id: str
    scopes: tuple[str, ...]
    tenant_active: bool
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    secrets: tuple[Secret, ...] = ()
    jwks: Mapping[str, Any] | None = None

    def matching_secret(self, key: bytes, secret: str) -> Secret | None:
        """The stored secret that `secret` is; see `matching_hash` for what the time it takes tells: nothing."""
        index = matching_hash(key, self.client_id, secret, [kept.secret_hash for kept in self.secrets])
        return None if index is None else self.secrets[index]


async def create_client(
    connection: AsyncConnection,
    key: bytes,
    tenant_id: UUID,
    name: str,
    scopes: Iterable[str],
    *,
    networks: Iterable[IPv4Network | IPv6Network] = (),
    limits: ClientLimits | None = None,
) -> NewClient:
    """Insert a client with a fresh id and secret. The caller commits. `key` is the secret hash key's 32 bytes.

    Raises:
        ValueError: a scope that does not exist, or the platform's for a client of another tenant.
    """
    client_id = await _insert(connection, tenant_id, name, scopes, networks, None, limits)
    secret = await add_secret(connection, key, tenant_id, client_id)
    return NewClient(client_id, secret.client_secret)


async def create_key_client(
    connection: AsyncConnection,
    jwks: Mapping[str, Any],
    tenant_id: UUID,
    name: str,
    scopes: Iterable[str],
    *,
    networks: Iterable[IPv4Network | IPv6Network] = (),
    limits: ClientLimits | None = None,
) -> str:
    """As `create_client`, but with keys (from `auth.jwks`) in place of a secret; returns its id."""
    return await _insert(connection, tenant_id, name, scopes, networks, jwks, limits)


async def add_secret(connection: AsyncConnection, key: bytes, tenant_id: UUID, client_id: str) -> NewSecret:
    """Insert a further secret of the client, valid until somebody ends it. The caller commits."""
    made = NewSecret(uuid.uuid4(), new_secret())
    await connection.execute(
        _INSERT_SECRET,
        {
            "tenant_id": tenant_id,
            "client_id": client_id,
            "secret_id": made.secret_id,
            "secret_hash": hash_secret(key, client_id, made.client_secret),
        },
    )
    return made


async def _insert(  # noqa: PLR0917  a row
    connection: AsyncConnection,
    tenant_id: UUID,
    name: str,
    scopes: Iterable[str],
    networks: Iterable[IPv4Network | IPv6Network],
    jwks: Mapping[str, Any] | None,
    limits: ClientLimits | None,
) -> str:
    scopes = list(scopes)
    grantable = {PLATFORM_ADMIN, *TENANT_SCOPES} if tenant_id == PLATFORM_TENANT_ID else set(TENANT_SCOPES)
    if not set(scopes) <= grantable:
        raise ValueError(f"A client of tenant {tenant_id} can't hold {', '.join(scopes)}")
    client_id = new_client_id()
    await connection.execute(
        _INSERT,
        {
            "tenant_id": tenant_id,
            "client_id": client_id,
            "name": name,
            "scopes": scopes,
            "networks": list(networks),
            "jwks": jwks,
            "events_per_second": None if limits is None else limits.events_per_second,
            "burst": None if limits is None else limits.burst,
        },
    )
    return client_id


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
    secrets = await connection.execute(_SECRETS, {"tenant_id": row.tenant_id, "client_id": row.client_id})
    return Client(
        row.tenant_id,
        row.client_id,
        tuple(row.scopes),
        row.tenant_active,
        tuple(row.networks),
        tuple(Secret(found.secret_id, found.secret_hash) for found in secrets),
        row.jwks,
    )
