"""A verifier over keys and clients that the test chooses, and a way to sign any token, right or wrong."""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from app.database import create_engine
from app.settings import OperatorSettings
from auth.keys import KeyRing, Keys, VerificationKey
from auth.scopes import TENANT_SCOPES
from auth.tokens import TokenVerifier
from tenants.directory import ClientAccess, Directory, TenantRecord
from tenants.plans import Allowance, TenantLimits
from tenants.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

ISSUER = "https://events.example.com"
NOBODY_LISTENS = "postgresql://sluice_auth:secret@127.0.0.1:9/none"


@dataclass
class Issuer:
    """One key, one tenant with one client, and the verifier that knows them."""

    keys: KeyRing
    directory: Directory
    verifier: TokenVerifier
    private_key: ec.EllipticCurvePrivateKey
    tenant_id: uuid.UUID
    client_id: str = "slc_test"
    kid: str = "key-1"
    url: str = ISSUER

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a right token; a change to None leaves one out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": self.client_id,
            "client_id": self.client_id,
            "tenant_id": str(self.tenant_id),
            "aud": self.url,
            "exp": now + 60,
            "iat": now,
            "jti": "token-1",
            "scope": "events:write events:read",
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token with a right signature over these claims and headers."""
        headers = {"typ": "at+jwt", "kid": self.kid} | (header or {})
        return jwt.encode(self.claims(**changes), self.private_key, algorithm="ES256", headers=headers)

    def know(self, *clients: str, scopes: Iterable[str] = TENANT_SCOPES) -> None:
        """Let the directory know exactly these clients of the tenant, with these scopes."""
        limits, allowance = TenantLimits(100, 100, 65536, 1), Allowance(None, None, "warn")
        tenant = TenantRecord(self.tenant_id, "free", limits, allowance, 0)
        access = ClientAccess(tenant, frozenset(scopes), (), None)
        self.directory._snapshot = Snapshot(1, {self.tenant_id: tenant}, dict.fromkeys(clients, access))
        self.directory._excused_until = float("inf")


def verification_key(kid: str, private_key: ec.EllipticCurvePrivateKey, retired_at: float) -> VerificationKey:
    jwk = json.loads(ECAlgorithm.to_jwk(private_key.public_key())) | {"kid": kid, "use": "sig", "alg": "ES256"}
    return VerificationKey(kid, jwt.PyJWK(jwk, "ES256"), jwk, retired_at)


@pytest.fixture
def issuer() -> Issuer:
    key = base64.b64encode(bytes(32)).decode()
    settings = OperatorSettings(
        postgres_auth_url=NOBODY_LISTENS,  # type: ignore[arg-type]
        key_encryption_key=key,  # type: ignore[arg-type]
        secret_hash_key=key,  # type: ignore[arg-type]
    )
    engine = create_engine(NOBODY_LISTENS)
    keys, directory = KeyRing(engine, settings), Directory(engine)
    private_key = ec.generate_private_key(ec.SECP256R1())
    keys._keys = Keys({"key-1": verification_key("key-1", private_key, float("inf"))}, ())
    made = Issuer(
        keys, directory, TokenVerifier(keys, directory, issuer=ISSUER, audience=ISSUER), private_key, uuid.uuid4()
    )
    made.know(made.client_id)
    return made
