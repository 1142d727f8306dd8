"""`/api/v1/admin/plans`: the platform's plans. HTTP only; `tenants.plans` does it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from app.errors import ConflictError
from app.state import State, state_of
from auth.dependencies import PlatformAdmin
from auth.scopes import PLATFORM_ADMIN
from tenants import plans
from tenants.actors import actor_of
from tenants.administration.plan_answers import PLAN_EXAMPLE, PlanAnswer, PlanBody, PlansAnswer
from tenants.answers import BODY_ERRORS, json_response, problems
from tenants.bodies import body_of, documented
from tenants.session import unsafe_session_of_all_tenants

router = APIRouter(prefix="/api/v1/admin/plans", tags=["Platform"])

Gateway = Annotated[State, Depends(state_of)]
PlanId = Annotated[str, Path(json_schema_extra={"pattern": f"^{plans.PLAN_ID.pattern}$"})]
_IN_USE = ConflictError("A tenant has the plan starter; give it another one first.")


@router.get(
    "",
    summary="All plans",
    response_model=PlansAnswer,
    responses=problems("/api/v1/admin/plans", PLATFORM_ADMIN),
)
async def list_plans(_admin: PlatformAdmin, gateway: Gateway) -> Response:
    """The smallest first. `free`, `standard` and `enterprise` come with Sluice."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        found = await plans.known_plans(connection)
    return json_response(PlansAnswer(plans=[PlanAnswer.of(plan) for plan in found.values()]))


@router.put(
    "/{plan_id}",
    summary="Make or change a plan",
    response_model=PlanAnswer,
    responses={
        201: {"description": "It is new", "model": PlanAnswer},
        **problems("/api/v1/admin/plans/starter", PLATFORM_ADMIN, *BODY_ERRORS),
    },
    openapi_extra=documented(PlanBody, starter=PLAN_EXAMPLE),
)
async def set_plan(
    request: Request,
    admin: PlatformAdmin,
    plan_id: PlanId,
    body: Annotated[PlanBody, body_of(PlanBody)],
    gateway: Gateway,
) -> Response:
    """For all tenants that have it, within a second; what is left out gets its default. An id is 1 to 64 of a-z, 0-9,
    `-` and `_`.
    """
    plan = body.plan(plan_id)
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        made = await plans.set_plan(connection, plan, actor_of(request, admin))
    await gateway.directory.catch_up()
    return json_response(PlanAnswer.of(plan), 201 if made else 200)


@router.delete(
    "/{plan_id}",
    status_code=204,
    summary="Delete a plan of your own",
    responses=problems("/api/v1/admin/plans/starter", PLATFORM_ADMIN, plans.no_such_plan("starter"), _IN_USE),
)
async def delete_plan(request: Request, admin: PlatformAdmin, plan_id: PlanId, gateway: Gateway) -> Response:
    """Not while a tenant has it, and not one that came with Sluice."""
    async with unsafe_session_of_all_tenants(gateway.auth_engine) as connection:
        await plans.delete_plan(connection, plan_id, actor_of(request, admin))
    return Response(status_code=204)
