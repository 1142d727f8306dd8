"""A user's name that tells nobody who it is: what erasure keeps once it has forgotten the user."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


def user_hash(tenant_id: UUID, user_id: str) -> bytes:
    """SHA-256 of the tenant's id (16 bytes) and the user's in UTF-8: of one user under two tenants, two hashes."""
    return hashlib.sha256(tenant_id.bytes + user_id.encode(errors="surrogatepass")).digest()
