"""What tests of managing a tenant share: its requests, and its keys."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.database import create_engine
from app.settings import OperatorSettings
from auth.credentials import key_bytes
from tenants.audit import Actor
from tenants.clients import changes
from tenants.platform import PLATFORM_TENANT_ID
from tests.system import MadeTenant, System

CLIENTS = "/api/v1/clients"


async def made(http: httpx.AsyncClient, **members: Any) -> dict[str, Any]:
    """A client made with these members, as it was answered."""
    answer = await http.post(CLIENTS, json={"name": "made", **members})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def token_answer(system: System, client_id: str, client_secret: str, **form: str) -> httpx.Response:
    """What the token endpoint says to these credentials."""
    async with system.client() as http:
        form = {"grant_type": "client_credentials"} | form
        return await http.post("/oauth/token", data=form, auth=(client_id, client_secret))


def credentials(tenant: MadeTenant, client: dict[str, Any]) -> MadeTenant:
    """The tenant as seen by one of its further clients."""
    return MadeTenant(tenant.tenant_id, client["client_id"], client["client_secret"])


async def administrator_of(system: System) -> MadeTenant:
    """A fresh client of the platform."""
    settings = system.settings(OperatorSettings)
    engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
    try:
        async with engine.begin() as connection:
            manager = await changes.manager_for_platform(connection, PLATFORM_TENANT_ID, Actor.operator())
            key = key_bytes(settings.secret_hash_key)
            client_id, secret = await changes.create(connection, key, manager, {"name": "administrator"})
    finally:
        await engine.dispose()
    assert secret is not None
    return MadeTenant(str(PLATFORM_TENANT_ID), client_id, secret)


def pointers(answer: httpx.Response) -> set[str]:
    """Where a 422 says the faults are."""
    assert answer.status_code == 422, answer.text
    return {fault["pointer"] for fault in answer.json()["errors"]}


def public_jwk(key: PublicKeyTypes, **members: Any) -> dict[str, Any]:
    """The JWK of a public key, as a client would send it."""
    algorithms: tuple[tuple[type, Any], ...] = (
        (rsa.RSAPublicKey, RSAAlgorithm),
        (ec.EllipticCurvePublicKey, ECAlgorithm),
        (ed25519.Ed25519PublicKey, OKPAlgorithm),
    )
    (algorithm,) = [algorithm for kind, algorithm in algorithms if isinstance(key, kind)]
    jwk: dict[str, Any] = json.loads(algorithm.to_jwk(key))
    jwk.pop("key_ops", None)
    return jwk | members


def number(value: int) -> str:
    """Base64url of an unsigned number, as JWKs write them (RFC 7518 section 2)."""
    raw = value.to_bytes((value.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
