"""Keys that sign access tokens: made here, kept in PostgreSQL (`signing_keys`), held in memory by each process.

The private half is stored under AES-256-GCM with the key-encryption key from the settings, and bound to its kid. A
row whose halves don't fit under that key is not believed: writing to the table is not enough to make a key.
Refuses to own tokens (`auth.tokens`) and which key follows which (`auth.rotation`).

ES256, because it is what most JWT libraries verify (RFC 7518 section 3.1 recommends it), which EdDSA can't say yet;
through PyJWT the two verify equally fast (0.21 and 0.23 ms here), and verified tokens are remembered anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import jwt
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm
from sqlalchemy import Row, text

from auth.credentials import key_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.settings import OperatorSettings

ALGORITHM = "ES256"
ALLOWED_ALGORITHMS = frozenset({ALGORITHM})
"""What a token may be signed with, whatever its header or a row of the table says (RFC 8725 section 3.1)."""

NONCE_BYTES = 12  # NIST SP 800-38D section 8.2: 96 random bits; each key encrypts one message a nonce

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SELECT = text("""
    select kid, algorithm, public_jwk::text as public_jwk, private_key, nonce, key_encryption_key_id,
           extract(epoch from signs_from)::float8 as signs_from, extract(epoch from retired_at)::float8 as retired_at
    from signing_keys
    where retired_at is null or retired_at > now()
    order by signs_from, kid
""")

_INSERT = text("""
    insert into signing_keys (kid, algorithm, public_jwk, private_key, nonce, key_encryption_key_id, signs_from)
    values (:kid, :algorithm, cast(:public_jwk as jsonb), :private_key, :nonce, :key_encryption_key_id,
            to_timestamp(:signs_from))
""")


class SigningKeyError(Exception):
    """No usable signing key; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half. Moments in seconds since 1970; `retired_at` as its public half's."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    signs_from: float
    retired_at: float = math.inf


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """The public half. No token of it holds from `retired_at` on, in seconds since 1970 (infinity: not planned)."""

    kid: str
    key: jwt.PyJWK
    jwk: Mapping[str, Any]
    retired_at: float


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one moment, by kid and in the order of `signs_from`."""

    verification: Mapping[str, VerificationKey]
    signing: tuple[SigningKey, ...]

    def signer(self, now: float) -> SigningKey | None:
        """The key to sign with: of those whose time has come the one that is believed longest, then the newest.

        So no token outlives its key, whatever was rotated or retired in whichever order.
        """
        ready = [key for key in self.signing if key.signs_from <= now < key.retired_at]
        return max(ready, key=lambda key: (key.retired_at, key.signs_from), default=None)

    def first_to_sign(self, now: float) -> SigningKey | None:
        """Of all that are not retired the one whose time comes first."""
        return next((key for key in self.signing if now < key.retired_at), None)


class KeyRing:
    """The keys that tokens are signed with and verified by, as they were at the last `refresh`.

    `generation` goes up whenever they change, so that what was concluded from the old ones can be forgotten.
    """

    def __init__(self, engine: AsyncEngine, settings: OperatorSettings) -> None:
        self._engine = engine
        self._key_encryption_key = key_bytes(settings.key_encryption_key)
        self._rows: list[tuple[Any, ...]] = []
        self._keys = Keys({}, ())
        self.generation = 0

    @classmethod
    async def load(cls, engine: AsyncEngine, settings: OperatorSettings) -> Self:
        """A ring filled from PostgreSQL; `engine` logs in as sluice_auth.

        Raises:
            SigningKeyError: none can sign.
        """
        ring = cls(engine, settings)
        await ring.refresh()
        ring.signing_key(time.time())
        return ring

    async def refresh(self) -> None:
        """Read the keys again. Rows that are not believed are logged and left out."""
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_SELECT)).all()
        plain = [tuple(row) for row in rows]
        if plain != self._rows:
            self._keys = _believed(rows, self._key_encryption_key)
            self._rows = plain
            self.generation += 1

    def verification_key(self, kid: str) -> VerificationKey | None:
        """The public key that a token names, or None."""
        return self._keys.verification.get(kid)

    def signing_key(self, now: float) -> SigningKey:
        """The key to sign with (`Keys.signer`); `now` in seconds since 1970.

        If the time of none has come, `now` is from a clock behind PostgreSQL's, and the first of them signs already.

        Raises:
            SigningKeyError: there is none.
        """
        key = self._keys.signer(now) or self._keys.first_to_sign(now)
        if key is not None:
            return key
        raise SigningKeyError("There is no signing key under SLUICE_KEY_ENCRYPTION_KEY; `sluice up` makes one.")

    def jwks(self, now: float) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517 section 5), with those that will sign but do not yet."""
        return {"keys": [dict(key.jwk) for key in self._keys.verification.values() if key.retired_at > now]}


async def ensure_signing_key(engine: AsyncEngine, settings: OperatorSettings) -> str:
    """Make a signing key unless one is there that these settings can use; returns the kid of the one that signs.

    Safe to call again and by several processes at once.
    """
    key_encryption_key = key_bytes(settings.key_encryption_key)
    async with engine.begin() as connection:
        now = await lock_keys(connection)
        signer = (await believed_keys(connection, key_encryption_key)).signer(now)
        return signer.kid if signer else await create_key(connection, key_encryption_key, now)


async def lock_keys(connection: AsyncConnection) -> float:
    """Let no other transaction change the keys before this one ends; returns PostgreSQL's time then.

    Two callers at once: the second waits here and then finds what the first one left. Readers don't wait.
    """
    await connection.execute(text("lock table signing_keys in share row exclusive mode"))
    return float((await connection.execute(text("select extract(epoch from clock_timestamp())::float8"))).scalar_one())


async def believed_keys(connection: AsyncConnection, key_encryption_key: bytes) -> Keys:
    """The keys of all rows that hold together and are not retired; others are logged as errors."""
    return _believed((await connection.execute(_SELECT)).all(), key_encryption_key)


async def create_key(connection: AsyncConnection, key_encryption_key: bytes, signs_from: float) -> str:
    """A new key's kid. It is published at once and signs from then on, in seconds since 1970. The caller commits."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    kid = secrets.token_hex(8)
    nonce = os.urandom(NONCE_BYTES)
    encoded = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    await connection.execute(
        _INSERT,
        {
            "kid": kid,
            "algorithm": ALGORITHM,
            "public_jwk": json.dumps(_public_jwk(kid, private_key)),
            "private_key": AESGCM(key_encryption_key).encrypt(nonce, encoded, kid.encode()),
            "nonce": nonce,
            "key_encryption_key_id": key_encryption_key_id(key_encryption_key),
            "signs_from": signs_from,
        },
    )
    return kid


def key_encryption_key_id(key: bytes) -> str:
    """Names a key-encryption key without telling anything about it: 16 hex digits of an HMAC under it."""
    return hmac.new(key, b"sluice key-encryption key id", hashlib.sha256).hexdigest()[:16]


def _public_jwk(kid: str, private_key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(private_key.public_key()))
    return numbers | {"kid": kid, "use": "sig", "alg": ALGORITHM}


def _believed(rows: Iterable[Row[Any]], key_encryption_key: bytes) -> Keys:
    verification, signing = {}, []
    for row in rows:
        try:
            private_key = _private_key(row, key_encryption_key)
        except SigningKeyError as error:
            log.error("signing key is not used", kid=row.kid, reason=str(error))  # noqa: TRY400  the reason says it all
            continue
        jwk = _public_jwk(row.kid, private_key)
        retired_at = math.inf if row.retired_at is None else row.retired_at
        verification[row.kid] = VerificationKey(row.kid, jwt.PyJWK(jwk, ALGORITHM), jwk, retired_at)
        signing.append(SigningKey(row.kid, private_key, row.signs_from, retired_at))
    return Keys(verification, tuple(signing))


def _private_key(row: Row[Any], key_encryption_key: bytes) -> ec.EllipticCurvePrivateKey:
    if row.algorithm not in ALLOWED_ALGORITHMS:
        raise SigningKeyError(f"It is for {row.algorithm}, which is not allowed.")
    if row.key_encryption_key_id != key_encryption_key_id(key_encryption_key):
        raise SigningKeyError("It is under another key-encryption key.")
    try:
        encoded = AESGCM(key_encryption_key).decrypt(row.nonce, row.private_key, row.kid.encode())
    except InvalidTag:
        raise SigningKeyError("It does not decrypt: the row was changed.") from None
    private_key = load_der_private_key(encoded, password=None)
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise SigningKeyError("It is not an elliptic curve key.")
    if json.loads(row.public_jwk) != _public_jwk(row.kid, private_key):
        raise SigningKeyError("The public half is not the private half's.")
    return private_key
