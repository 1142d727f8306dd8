"""Signatures of webhooks as the Standard Webhooks specification 1.0 has them, and the secrets they are made with.

A secret is made here, shown once, and kept under AES-256-GCM with the key-encryption key. Refuses to own where.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "whsec_"
SECRET_BYTES = 32  # the specification asks for 24 to 64
NONCE_BYTES = 12  # NIST SP 800-38D section 8.2: 96 random bits


class SecretUnreadableError(Exception):
    """It was sealed with another key, or for something else, or was changed."""


def new_secret() -> str:
    """256 random bits, as both sides write them."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message; `timestamp` is of this attempt, in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def seal(key_encryption_key: bytes, secret: str, bound_to: str) -> bytes:
    """The secret encrypted, its nonce before it; only with the same `bound_to` does it open again."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key_encryption_key).encrypt(nonce, secret.encode(), bound_to.encode())


def unseal(key_encryption_key: bytes, sealed: bytes, bound_to: str) -> str:
    """What `seal` was given.

    Raises:
        SecretUnreadableError: it does not open.
    """
    try:
        nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return AESGCM(key_encryption_key).decrypt(nonce, encrypted, bound_to.encode()).decode()
    except (InvalidTag, ValueError):
        raise SecretUnreadableError("The webhook's secret does not open with SLUICE_KEY_ENCRYPTION_KEY.") from None
