"""What the platform's routes about tenants take and answer, as JSON: models with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from tenants.answers import Moment
from tenants.bodies import Body
from tenants.plans import MAX_BURST, MAX_RATE, members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenants.deletion import Deletion
    from tenants.records import Tenant, TenantClient

TENANT_ID = "0b8f1c66-3c0e-4a53-9a3c-9a2f4a1b7c21"
_CLIENT_ID = "slc_9f86d081884c7d659a2feaa0c55ad015"
_AT = "2026-01-02T03:04:05.678Z"
_OWN = "instead of the plan's"


_TENANT_EXAMPLE: dict[str, Any] = {
    "tenant_id": TENANT_ID,
    "name": "acme",
    "plan": "standard",
    "status": "active",
    "created_at": _AT,
    "events_per_second": 500.0,
    "burst": 10000,
    "max_event_bytes": 65536,
    "shards": 1,
    "retention_days": 365,
    "monthly_quota": 200000000,
    "at_quota": "warn",
    "overrides": {"events_per_second": 500.0, "burst": None},
}
_DETAIL_EXAMPLE: dict[str, Any] = _TENANT_EXAMPLE | {
    "stored_this_month": 812,
    "clients": [
        {
            "client_id": _CLIENT_ID,
            "name": "first client",
            "scopes": ["events:write", "events:read", "tenant:admin"],
            "created_at": _AT,
            "revoked_at": None,
        }
    ],
}


class NewTenantBody(Body):
    name: str = Field(
        description="What people call it; need not be unique. 1 to 200 characters, no control character.",
        json_schema_extra={"minLength": 1, "maxLength": 200},
    )
    plan: str = "standard"
    events_per_second: float | None = Field(default=None, gt=0, le=MAX_RATE, description=_OWN)
    burst: int | None = Field(default=None, ge=1, le=MAX_BURST, description=_OWN)


class PlanChangeBody(Body):
    """What is left out is the plan's from then on, also where the tenant had its own."""

    plan: str
    events_per_second: float | None = Field(default=None, gt=0, le=MAX_RATE, description=_OWN)
    burst: int | None = Field(default=None, ge=1, le=MAX_BURST, description=_OWN)


class TenantAnswer(BaseModel):
    """`events_per_second` and `burst` are what holds; in `overrides`, the tenant's own, null: the plan's."""

    tenant_id: UUID
    name: str
    plan: str
    status: Literal["active", "suspended", "deleting", "deleted"]
    created_at: Moment
    events_per_second: float
    burst: PositiveInt
    max_event_bytes: PositiveInt
    shards: PositiveInt
    retention_days: PositiveInt | None
    monthly_quota: PositiveInt | None
    at_quota: Literal["refuse", "warn"]
    overrides: dict[Literal["events_per_second", "burst"], float | int | None]

    @classmethod
    def of(cls, tenant: Tenant) -> TenantAnswer:
        return cls(**_tenant(tenant))


class TenantClientAnswer(BaseModel):
    client_id: str
    name: str
    scopes: list[str]
    created_at: Moment
    revoked_at: Moment | None


class TenantDetailAnswer(TenantAnswer):
    """`stored_this_month` is what `monthly_quota` is compared with."""

    stored_this_month: NonNegativeInt
    clients: list[TenantClientAnswer]

    model_config = ConfigDict(json_schema_extra={"example": _DETAIL_EXAMPLE})

    @classmethod
    def shown(cls, tenant: Tenant, clients: Sequence[TenantClient], stored: int) -> TenantDetailAnswer:
        listed = [
            TenantClientAnswer(
                client_id=client.client_id,
                name=client.name,
                scopes=list(client.scopes),
                created_at=client.created_at,
                revoked_at=client.revoked_at,
            )
            for client in clients
        ]
        return cls(**_tenant(tenant), stored_this_month=stored, clients=listed)


class TenantsAnswer(BaseModel):
    """`next_cursor` asks for the following page with the same parameters; null on the last one."""

    tenants: list[TenantAnswer]
    next_cursor: str | None

    model_config = ConfigDict(json_schema_extra={"example": {"tenants": [_TENANT_EXAMPLE], "next_cursor": None}})


class TenantMadeAnswer(TenantDetailAnswer):
    """With the first client's credentials. The secret is shown only here."""

    client_id: str
    client_secret: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": _DETAIL_EXAMPLE
            | {"client_id": _CLIENT_ID, "client_secret": "sls_" + "x" * 43, "stored_this_month": 0}
        }
    )


class DeletionAnswer(BaseModel):
    """`step` is requested, rows, index, cache, verify or done; `problem` says what it waits for.

    `deleted` counts rows, documents (`search`) and keys (`cache`) by place; `total` is what they were when it began,
    null before they were counted. `kafka_until`: from then on Kafka holds nothing of it either; null once it is
    finished: the topic is kept for ever.
    """

    tenant_id: UUID
    requested_at: Moment
    step: str
    total: NonNegativeInt | None
    deleted: dict[str, NonNegativeInt]
    kafka_until: Moment | None
    finished_at: Moment | None
    problem: str | None

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tenant_id": TENANT_ID,
                "requested_at": _AT,
                "step": "rows",
                "total": 1624,
                "deleted": {"events": 500},
                "kafka_until": None,
                "finished_at": None,
                "problem": None,
            }
        }
    )

    @classmethod
    def of(cls, deletion: Deletion) -> DeletionAnswer:
        return cls(**{name: getattr(deletion, name) for name in cls.model_fields})


def _tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "tenant_id": tenant.tenant_id,
        "name": tenant.name,
        "plan": tenant.plan,
        "status": tenant.status,
        "created_at": tenant.created_at,
        **members(tenant.limits, tenant.allowance),
        "overrides": {"events_per_second": tenant.own_rate, "burst": tenant.own_burst},
    }
