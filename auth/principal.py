"""Who a request speaks for, as a verified access token says it. Only `auth.tokens` makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from tenants.directory import ClientAccess


@dataclass(frozen=True, slots=True)
class Principal:
    """The claims that the rest of Sluice uses, and what is known of the client. Moments in seconds since 1970.

    `scopes` are those of the token that the client still has.
    """

    tenant_id: UUID
    client_id: str
    scopes: frozenset[str]
    token_id: str
    issued_at: int
    expires_at: int
    claimed: frozenset[str]
    access: ClientAccess
