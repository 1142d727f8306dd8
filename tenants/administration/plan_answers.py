"""What the platform's routes about plans take and answer, as JSON: models with examples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from tenants.bodies import Body
from tenants.plans import (
    EVENT_BYTES,
    MAX_BURST,
    MAX_QUOTA,
    MAX_RATE,
    MAX_SHARDS,
    RETENTION_DAYS,
    Allowance,
    Plan,
    TenantLimits,
    members,
)

PLAN_EXAMPLE: dict[str, Any] = {
    "events_per_second": 500.0,
    "burst": 5000,
    "max_event_bytes": 65536,
    "shards": 1,
    "retention_days": 90,
    "monthly_quota": 5000000,
    "at_quota": "refuse",
}


class PlanBody(Body):
    """What is left out gets its default, also where the plan had another value."""

    events_per_second: float = Field(gt=0, le=MAX_RATE)
    burst: int = Field(ge=1, le=MAX_BURST)
    max_event_bytes: int = Field(default=EVENT_BYTES[1], ge=EVENT_BYTES[0], le=EVENT_BYTES[1])
    shards: int = Field(
        default=1, ge=1, le=MAX_SHARDS, description="Kafka keys that the tenant's users are spread over."
    )
    retention_days: int | None = Field(
        default=None, ge=RETENTION_DAYS[0], le=RETENTION_DAYS[1], description="null: kept for ever"
    )
    monthly_quota: int | None = Field(default=None, ge=1, le=MAX_QUOTA, description="Events stored a month (UTC).")
    at_quota: Literal["refuse", "warn"] = "warn"

    def plan(self, plan_id: str) -> Plan:
        limits = TenantLimits(self.events_per_second, self.burst, self.max_event_bytes, self.shards)
        return Plan(plan_id, limits, Allowance(self.retention_days, self.monthly_quota, self.at_quota))


class PlanAnswer(BaseModel):
    plan_id: str
    events_per_second: float
    burst: PositiveInt
    max_event_bytes: PositiveInt
    shards: PositiveInt
    retention_days: PositiveInt | None
    monthly_quota: PositiveInt | None
    at_quota: Literal["refuse", "warn"]

    model_config = ConfigDict(json_schema_extra={"example": {"plan_id": "starter", **PLAN_EXAMPLE}})

    @classmethod
    def of(cls, plan: Plan) -> PlanAnswer:
        return cls(plan_id=plan.plan_id, **members(plan.limits, plan.allowance))


class PlansAnswer(BaseModel):
    """The smallest first."""

    plans: list[PlanAnswer]

    model_config = ConfigDict(json_schema_extra={"example": {"plans": [{"plan_id": "starter", **PLAN_EXAMPLE}]}})
