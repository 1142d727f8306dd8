"""What is sent and answered about a tenant's clients, as JSON. Meaning and bounds are those of `rules`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.events.timestamps import parse_rfc3339
from auth.jwks import MOST_KEYS
from auth.scopes import EVENTS_READ, EVENTS_WRITE, TENANT_SCOPES
from tenants.answers import Moment
from tenants.bodies import Body
from tenants.clients.rotation import DEFAULT_OVERLAP_SECONDS, LONGEST_OVERLAP_SECONDS
from tenants.clients.rules import MOST_NAME_CHARACTERS, MOST_NETWORKS

if TYPE_CHECKING:
    from tenants.clients.view import ManagedClient, ManagedSecret

CLIENT_ID = "slc_9f86d081884c7d659a2feaa0c55ad015"
SECRET_ID = "6f0c1d3e-8a51-4f43-9a5e-6d1a1f0b7c2d"  # noqa: S105  names a secret
KEYS = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "kid": "2026-01",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }
    ]
}


def _moment(value: Any) -> Any:
    return parse_rfc3339(value) if isinstance(value, str) else value


_Name = Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MOST_NAME_CHARACTERS})]
_Scopes = Annotated[
    list[str], Field(json_schema_extra={"items": {"type": "string", "enum": list(TENANT_SCOPES)}, "minItems": 1})
]
_Networks = Annotated[
    list[str],
    Field(
        description="From where it may call, as CIDR; empty: from anywhere.",
        json_schema_extra={"maxItems": MOST_NETWORKS},
    ),
]
_Rate = Annotated[
    float | None,
    Field(description="A bucket of its own within the tenant's, with `burst`: at most the tenant's events per second."),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}),
]
_Burst = Annotated[
    int | None,
    Field(description="With `events_per_second`: at most the tenant's burst."),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}),
]
_KEY_SET: dict[str, Any] = {
    "type": "object",
    "required": ["keys"],
    "properties": {
        "keys": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_KEYS,
            "items": {"type": "object", "required": ["kty"]},
        }
    },
}
_Jwks = Annotated[
    dict[str, Any] | None,
    Field(
        description="1 to 5 public keys (RFC 7517): RSA from 2048 bits, EC P-256 or OKP Ed25519. The client then "
        "authenticates by private_key_jwt and has no secret."
    ),
    WithJsonSchema({"anyOf": [_KEY_SET, {"type": "null"}]}),
]


def _paired(schema: dict[str, Any]) -> None:
    """The two limits go together: both or neither, null or not."""
    schema["dependentRequired"] = {"burst": ["events_per_second"], "events_per_second": ["burst"]}
    schema["anyOf"] = [
        {"properties": {"events_per_second": {"type": kind}, "burst": {"type": kind}}} for kind in ("null", "number")
    ]


class NewClientBody(Body):
    model_config = ConfigDict(json_schema_extra=_paired)

    name: _Name
    scopes: _Scopes = Field(default=list(TENANT_SCOPES))
    networks: _Networks = Field(default=[])
    jwks: _Jwks = None
    events_per_second: _Rate = None
    burst: _Burst = None


def _of_a_change(schema: dict[str, Any]) -> None:
    _paired(schema)
    schema["minProperties"] = 1
    for member in schema["properties"].values():
        del member["default"]


class ClientChangeBody(Body):
    """What is left out stays as it is. `jwks` replaces the keys of a client that has keys."""

    model_config = ConfigDict(json_schema_extra=_of_a_change)

    # The defaults are never used: only what was sent is read.
    name: _Name = ""
    scopes: _Scopes = Field(default=[])
    networks: _Networks = Field(default=[])
    jwks: _Jwks = None
    events_per_second: _Rate = None
    burst: _Burst = None


class NewSecretBody(Body):
    old_expires_in: int = Field(
        default=DEFAULT_OVERLAP_SECONDS,
        ge=0,
        le=LONGEST_OVERLAP_SECONDS,
        description="Seconds that the client's secret of now stays valid; 0: it ends at once.",
    )


class SecretChangeBody(Body):
    expires_at: Annotated[datetime | None, BeforeValidator(_moment)] = Field(
        description="RFC 3339, in the future; null: it doesn't end by itself."
    )


_SECRET: dict[str, Any] = {
    "secret_id": SECRET_ID,
    "created_at": "2026-01-02T03:04:05.678Z",
    "expires_at": None,
    "last_used_at": "2026-03-04T05:06:07Z",
}


class SecretAnswer(BaseModel):
    """`last_used_at` is exact to about a minute; null: never used. `expires_at` past: it is refused."""

    secret_id: UUID
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None

    model_config = ConfigDict(json_schema_extra={"example": _SECRET})

    @classmethod
    def of(cls, secret: ManagedSecret) -> SecretAnswer:
        return cls(**_of_secret(secret))


class KeyAnswer(BaseModel):
    """A public key of the client; `kid` is its thumbprint (RFC 7638) if it was sent without one."""

    kid: str
    last_used_at: Moment | None


_CLIENT: dict[str, Any] = {
    "client_id": CLIENT_ID,
    "name": "checkout",
    "scopes": [EVENTS_WRITE, EVENTS_READ],
    "networks": ["192.0.2.0/24"],
    "authentication": "client_secret",
    "secrets": [_SECRET],
    "keys": [],
    "events_per_second": 50.0,
    "burst": 200,
    "created_at": "2026-01-02T03:04:05.678Z",
    "last_used_at": "2026-03-04T05:06:07Z",
    "revoked_at": None,
}


class ClientAnswer(BaseModel):
    """A client with `secrets` or with `keys`. `secrets`: the valid ones first, then the newest, ten at most.
    `events_per_second` and `burst`: its own bucket within the tenant's; null: it has none.
    """

    client_id: str
    name: str
    scopes: list[str]
    networks: list[str]
    authentication: Literal["client_secret", "private_key_jwt"]
    secrets: list[SecretAnswer]
    keys: list[KeyAnswer]
    events_per_second: float | None
    burst: int | None
    created_at: Moment
    last_used_at: Moment | None
    revoked_at: Moment | None

    model_config = ConfigDict(json_schema_extra={"example": _CLIENT})

    @classmethod
    def of(cls, client: ManagedClient) -> ClientAnswer:
        return cls(**_members(client))


class ClientMadeAnswer(ClientAnswer):
    """The client, and its secret, which is shown only now; null for a client with keys."""

    client_secret: str | None

    model_config = ConfigDict(json_schema_extra={"example": {**_CLIENT, "client_secret": "sls_…"}})

    @classmethod
    def made(cls, client: ManagedClient, secret: str | None) -> ClientMadeAnswer:
        return cls(**_members(client), client_secret=secret)


class SecretMadeAnswer(SecretAnswer):
    """The secret, which is shown only now."""

    client_secret: str

    model_config = ConfigDict(
        json_schema_extra={"example": {**_SECRET, "last_used_at": None, "client_secret": "sls_…"}}
    )

    @classmethod
    def made(cls, secret: ManagedSecret, client_secret: str) -> SecretMadeAnswer:
        return cls(**_of_secret(secret), client_secret=client_secret)


class ClientsAnswer(BaseModel):
    """`next_cursor` asks for the following page; null on the last one."""

    clients: list[ClientAnswer]
    next_cursor: str | None

    model_config = ConfigDict(json_schema_extra={"example": {"clients": [_CLIENT], "next_cursor": None}})


def _members(client: ManagedClient) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "scopes": client.scopes,
        "networks": [str(network) for network in client.networks],
        "authentication": "client_secret" if client.jwks is None else "private_key_jwt",
        "secrets": [SecretAnswer.of(secret) for secret in client.secrets],
        "keys": [KeyAnswer(kid=key.kid, last_used_at=key.last_used_at) for key in client.keys],
        "events_per_second": client.events_per_second,
        "burst": client.burst,
        "created_at": client.created_at,
        "last_used_at": client.last_used_at,
        "revoked_at": client.revoked_at,
    }


def _of_secret(secret: ManagedSecret) -> dict[str, Any]:
    return {
        "secret_id": secret.secret_id,
        "created_at": secret.created_at,
        "expires_at": secret.expires_at,
        "last_used_at": secret.last_used_at,
    }
