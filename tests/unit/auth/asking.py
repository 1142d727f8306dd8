"""A client, a client with keys, and requests of theirs to the OAuth endpoints, decided without a database."""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from starlette.datastructures import Headers

from app.settings import GatewaySettings
from auth.clients import Client, Secret
from auth.credentials import hash_secret
from auth.keys import SigningKey
from auth.metadata import Endpoint
from auth.principal import Principal
from auth.server import Answer, Asked, Decision, decide
from tenants.directory import ClientAccess, TenantRecord
from tenants.plans import Allowance, TenantLimits
from tests.client_keys import ClientKey

KEY = base64.b64encode(bytes(32)).decode()
SETTINGS = GatewaySettings.model_validate(
    {
        "postgres_auth_url": "postgresql://a",
        "postgres_app_url": "postgresql://b",
        "redis_url": "redis://c",
        "kafka_bootstrap": "d",
        "elasticsearch_url": "http://e",
        "key_encryption_key": KEY,
        "secret_hash_key": KEY,
        "issuer": "https://events.example.com",
    }
)
SIGNING_KEY = SigningKey("key-1", ec.generate_private_key(ec.SECP256R1()), 0)
SECRET = "sls_right"
CLIENT = Client(
    uuid.uuid4(),
    "slc_a",
    ("events:write", "events:read"),
    tenant_active=True,
    secrets=(Secret(uuid.uuid4(), hash_secret(bytes(32), "slc_a", SECRET)),),
)
SUSPENDED = replace(CLIENT, tenant_active=False)
KEY_PAIR = ClientKey.make()
# It also has a secret, as no client is made to: that it does not count must not hang on its absence.
KEY_CLIENT = replace(CLIENT, jwks={"keys": [KEY_PAIR.public]})
NARROWED = replace(CLIENT, networks=(ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")))
POST = {"client_id": CLIENT.client_id, "client_secret": SECRET}


def basic(client_id: str, secret: str) -> Headers:
    return Headers({"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()})


def decided(
    form: dict[str, str],
    headers: Headers | None = None,
    client: Client | None = CLIENT,
    endpoint: Endpoint = "token",
    token: Principal | None = None,
    address: str = "192.0.2.1",
) -> Decision:
    form = {"grant_type": "client_credentials"} | form if endpoint == "token" else form
    sent = {name: value for name, value in form.items() if value}
    asked = Asked(endpoint, headers or Headers(), sent, ip_address(address), client, token, SIGNING_KEY)
    return decide(SETTINGS, asked)


def ask(form: dict[str, str], headers: Headers | None = None, client: Client | None = CLIENT) -> Answer:
    return decided(form, headers, client).answer


def principal(client: Client = CLIENT, **changes: Any) -> Principal:
    """A token of `client` that holds."""
    now = int(time.time())
    tenant = TenantRecord(client.tenant_id, "free", TenantLimits(1, 1, 1, 1), Allowance(None, None, "warn"), 0)
    scopes = frozenset(client.scopes)
    access = ClientAccess(tenant, scopes, (), None)
    token = Principal(client.tenant_id, client.client_id, scopes, "token-1", now, now + 60, scopes, access)
    return replace(token, **changes)
