"""Client ids and secrets: how they are made, hashed and compared. Knows no database and no HTTP.

A secret is 256 random bits, so a keyed hash is enough: there is nothing to guess that a slow hash would protect
(NIST SP 800-63B-4 section 3.1.1 asks for slow hashes for passwords that people choose). The key stays outside the
database, so that a stolen table alone can't even confirm a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

SECRET_BYTES = 32
CLIENT_ID_BYTES = 16
HASH_BYTES = 32

# Prefixes tell people and secret scanners what they are looking at; no character needs escaping in a form or URL.
CLIENT_ID_PREFIX = "slc_"
SECRET_PREFIX = "sls_"  # noqa: S105  a prefix, not a secret

_DOMAIN = b"sluice client secret 1"


def key_bytes(setting: SecretStr) -> bytes:
    """The 32 bytes of a key that `app.settings` has already checked to be base64 of that size."""
    return base64.b64decode(setting.get_secret_value(), validate=True)


def new_client_id() -> str:
    """128 random bits: unique without looking, and no use to one who guesses."""
    return CLIENT_ID_PREFIX + secrets.token_hex(CLIENT_ID_BYTES)


def new_secret() -> str:
    """256 random bits, 47 characters of A-Z a-z 0-9 - and _."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(key: bytes, client_id: str, secret: str) -> bytes:
    """HMAC-SHA-256, 32 bytes, bound to `client_id`: a hash copied to another client's row opens nothing there.

    Each part is preceded by its length, so no two pairs of id and secret give the same input.
    """
    mac = hmac.new(key, _DOMAIN, hashlib.sha256)
    for part in (client_id.encode(), secret.encode()):
        mac.update(len(part).to_bytes(4, "big"))
        mac.update(part)
    return mac.digest()


def matching_hash(key: bytes, client_id: str, secret: str, hashes: Sequence[bytes]) -> int | None:
    """Which of `hashes` is the secret's; None if none is.

    One hash is computed, however many there are to compare with, and all are compared, each in a time that does not
    depend on where it differs: how long it takes tells neither which of them fits nor whether one does.
    """
    computed = hash_secret(key, client_id, secret)
    fitting = [index for index, expected in enumerate(hashes) if hmac.compare_digest(computed, expected)]
    return fitting[0] if fitting else None
