"""A client's own key and the assertions that it signs, right or wrong (private_key_jwt, RFC 7523)."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from auth.assertions import ASSERTION_TYPE
from auth.jwks import public_key_set

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey


@dataclass(frozen=True)
class ClientKey:
    """One key pair; `assertion` is what its client sends."""

    algorithm: str
    private: PrivateKey
    public: dict[str, Any]

    @classmethod
    def make(cls, algorithm: str = "ES256", **members: str) -> ClientKey:
        """A fresh pair for RS256, ES256 or EdDSA; `members` are added to the public JWK, for instance a kid."""
        private: PrivateKey
        if algorithm == "RS256":
            private = rsa.generate_private_key(65537, 2048)
            public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        elif algorithm == "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        else:
            private = Ed25519PrivateKey.generate()
            public = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return cls(algorithm, private, public_key_set({"keys": [public | members]})["keys"][0])

    @property
    def kid(self) -> str:
        return str(self.public["kid"])

    def assertion(self, client_id: str, audience: str, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A right assertion; a change to a claim of None leaves it out, `header` is added to the JWT's."""
        now = int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "iat": now,
            "exp": now + 60,
            "jti": str(uuid.uuid4()),
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.private, self.algorithm, headers=header)


def form_of(assertion: str, **more: str) -> dict[str, str]:
    """The form parameters that carry an assertion."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion} | more
