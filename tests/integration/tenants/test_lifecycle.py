"""Making tenants and looking at them, over a real database."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import InvalidError, NotFoundError
from auth.clients import find_client
from auth.credentials import key_bytes
from tenants.directory import Directory
from tenants.lifecycle import create_tenant
from tenants.plans import TenantLimits, known_plans
from tenants.platform import PLATFORM_TENANT_ID
from tenants.records import list_tenants, show

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings


async def test_a_new_tenant_has_its_plans_limits_and_a_client_with_all_tenant_scopes(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "standard")
    tenant, clients = await show(auth_engine, created.tenant_id)
    async with auth_engine.connect() as connection:
        plan = (await known_plans(connection))["standard"]
        client = await find_client(connection, created.client_id)
    assert (tenant.name, tenant.plan, tenant.status, tenant.limits) == ("acme", "standard", "active", plan.limits)
    assert [(c.client_id, c.scopes) for c in clients] == [
        (created.client_id, ("events:write", "events:read", "tenant:admin"))
    ]
    assert client is not None
    assert client.tenant_id == created.tenant_id
    assert client.matching_secret(key_bytes(settings.secret_hash_key), created.client_secret)


async def test_each_limit_of_its_own_overrides_the_plans(auth_engine: AsyncEngine, settings: GatewaySettings) -> None:
    both = await create_tenant(auth_engine, settings, "both", "free", rate=2.5, burst=7)
    rate = await create_tenant(auth_engine, settings, "rate", "free", rate=3)
    burst = await create_tenant(auth_engine, settings, "burst", "free", burst=9)
    directory = await Directory.load(auth_engine)
    assert directory.limits(both.tenant_id) == TenantLimits(2.5, 7, 65536, 1)
    assert directory.limits(rate.tenant_id) == TenantLimits(3.0, 1000, 65536, 1)
    assert directory.limits(burst.tenant_id) == TenantLimits(100.0, 9, 65536, 1)
    listed = {tenant.tenant_id: tenant.limits for tenant in await list_tenants(auth_engine)}
    for created in (both, rate, burst):
        assert listed[created.tenant_id] == directory.limits(created.tenant_id)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "   "}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"name": "a\x1b[2J"}, "/name"),
        ({"name": "a\ud800"}, "/name"),
        ({"plan": "gold"}, "/plan"),
        ({"rate": 0}, "/events_per_second"),
        ({"rate": -1}, "/events_per_second"),
        ({"rate": math.nan}, "/events_per_second"),
        ({"rate": math.inf}, "/events_per_second"),
        ({"burst": 0}, "/burst"),
        ({"burst": 2**31}, "/burst"),
        ({"scopes": ("platform:admin",)}, "/scopes"),
        ({"scopes": ("events:write", "events:fly")}, "/scopes"),
        ({"scopes": ()}, "/scopes"),
    ],
)
async def test_what_can_not_be_is_refused_by_name_and_leaves_nothing(
    auth_engine: AsyncEngine, settings: GatewaySettings, changes: dict[str, Any], pointer: str
) -> None:
    before = await list_tenants(auth_engine)
    with pytest.raises(InvalidError) as refusal:
        await create_tenant(auth_engine, settings, **({"name": "acme", "plan": "free"} | changes))
    assert [fault.pointer for fault in refusal.value.faults] == [pointer]
    assert await list_tenants(auth_engine) == before


async def test_an_unknown_plan_is_answered_with_those_that_there_are(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    with pytest.raises(InvalidError) as refusal:
        await create_tenant(auth_engine, settings, "acme", "gold")
    assert "free, standard, enterprise" in refusal.value.faults[0].detail


async def test_an_unknown_tenant_is_not_found(auth_engine: AsyncEngine) -> None:
    with pytest.raises(NotFoundError):
        await show(auth_engine, uuid.uuid4())


async def test_the_list_is_in_order_of_age_and_leaves_the_platform_out(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    made = [(await create_tenant(auth_engine, settings, "same name", "free")).tenant_id for _ in range(3)]
    listed = [tenant.tenant_id for tenant in await list_tenants(auth_engine)]
    assert [tenant_id for tenant_id in listed if tenant_id in made] == made
    assert PLATFORM_TENANT_ID not in listed


async def test_a_secret_is_in_no_representation_of_what_was_created(
    auth_engine: AsyncEngine, settings: GatewaySettings
) -> None:
    created = await create_tenant(auth_engine, settings, "acme", "free")
    assert created.client_secret not in repr(created)
