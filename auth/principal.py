"""Who a request speaks for, as a verified access token says it. Only `auth.tokens` makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """The claims that the rest of Sluice uses. `expires_at` is in seconds since 1970."""

    tenant_id: UUID
    client_id: str
    scopes: frozenset[str]
    token_id: str
    expires_at: int
