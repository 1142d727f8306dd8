"""`/api/v1/usage` and `/api/v1/limits`: what a tenant has used, and what it may. HTTP only."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from app.parameters import Reading, openapi_parameters, pairs_of_query
from app.state import Database, State, state_of
from auth.dependencies import TenantAdmin
from auth.scopes import TENANT_ADMIN
from tenants.answers import QUERY_ERRORS, Moment, json_response, problems
from tenants.limits.buckets import OwnBucket
from tenants.session import tenant_session
from tenants.usage.answers import USAGE_PARAMETERS, UsageAnswer, read_window
from tenants.usage.reading import UsageWindow, read_usage

router = APIRouter(prefix="/api/v1", tags=["Manage"])


async def _window(request: Request, _admin: TenantAdmin) -> UsageWindow:
    reading = Reading(pairs_of_query(request.scope["query_string"]), USAGE_PARAMETERS)
    return read_window(reading, datetime.now(UTC))


@router.get(
    "/usage",
    summary="What the tenant has used, and of its quota",
    response_model=UsageAnswer,
    responses=problems("/api/v1/usage", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(USAGE_PARAMETERS),
)
async def usage(admin: TenantAdmin, window: Annotated[UsageWindow, Depends(_window)], database: Database) -> Response:
    """Events by the hour (UTC) of their receipt and by client.

    `stored`, `duplicates` and `bytes` are exact, as they are written with the events themselves; `bytes` is the size
    of event_id, event_type, user_id and metadata as stored. `rejected` (not valid) and `throttled` (over a limit or
    the quota) are best effort: each gateway counts them in memory and adds them every five seconds, so one that is
    killed forgets some; a request that was refused as a whole counts as one.

    At 80 % and 100 % of the monthly quota there is a warning. At 100 %, events are refused until `resets_at` if
    `at_quota` is `refuse`; those already under way are stored, so `used` can end somewhat above `limit`.
    """
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        found = await read_usage(connection, admin.tenant_id, window, datetime.now(UTC))
    return json_response(UsageAnswer.of(found, admin.access.tenant.allowance))


class ClientLimitsAnswer(BaseModel):
    """The calling client. The first three are null if it has no bucket of its own; `networks` empty: from anywhere."""

    client_id: str
    events_per_second: PositiveFloat | None
    burst: PositiveInt | None
    remaining: NonNegativeInt | None
    networks: list[str]


class LimitsAnswer(BaseModel):
    """`remaining` events fit into the bucket now. `retention_days` null: kept for ever; `monthly_quota` null: none.

    `refused_until` null: events are not refused because of the quota.
    """

    plan: str
    events_per_second: PositiveFloat
    burst: PositiveInt
    remaining: NonNegativeInt
    max_event_bytes: PositiveInt
    shards: PositiveInt
    retention_days: PositiveInt | None
    monthly_quota: PositiveInt | None
    at_quota: Literal["refuse", "warn"]
    refused_until: Moment | None
    client: ClientLimitsAnswer

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "plan": "standard",
                "events_per_second": 2000.0,
                "burst": 10000,
                "remaining": 9400,
                "max_event_bytes": 65536,
                "shards": 1,
                "retention_days": 365,
                "monthly_quota": 200000000,
                "at_quota": "warn",
                "refused_until": None,
                "client": {
                    "client_id": "slc_9f86d081884c7d659a2feaa0c55ad015",
                    "events_per_second": None,
                    "burst": None,
                    "remaining": None,
                    "networks": [],
                },
            }
        }
    )


@router.get(
    "/limits",
    summary="What the tenant and the calling client may do",
    response_model=LimitsAnswer,
    responses=problems("/api/v1/limits", TENANT_ADMIN),
)
async def limits(admin: TenantAdmin, state: Annotated[State, Depends(state_of)]) -> Response:
    """As they are enforced now: a change of plan shows within a second. Looking costs no token."""
    access = admin.access
    tenant = access.tenant
    own = None if access.limits is None else OwnBucket(admin.client_id, access.limits)
    look = await state.buckets.take(tenant.tenant_id, tenant.limits, 0, own)
    is_refused = tenant.refused_until > time.time()
    return json_response(
        LimitsAnswer(
            plan=tenant.plan_id,
            events_per_second=tenant.limits.events_per_second,
            burst=tenant.limits.burst,
            remaining=max(0, int(look.remaining)),
            max_event_bytes=tenant.limits.max_event_bytes,
            shards=tenant.limits.shards,
            retention_days=tenant.allowance.retention_days,
            monthly_quota=tenant.allowance.monthly_quota,
            at_quota="refuse" if tenant.allowance.at_quota == "refuse" else "warn",
            refused_until=datetime.fromtimestamp(tenant.refused_until, UTC) if is_refused else None,
            client=ClientLimitsAnswer(
                client_id=admin.client_id,
                events_per_second=None if own is None else own.limits.events_per_second,
                burst=None if own is None else own.limits.burst,
                remaining=None if look.own_remaining is None else max(0, int(look.own_remaining)),
                networks=[str(network) for network in access.networks],
            ),
        )
    )
