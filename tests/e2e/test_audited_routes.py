"""Every route that changes something in a tenant or the platform writes its audit entry; one without a scenario fails.

A scenario prepares what it needs and returns the request to make; the entry is found by that request's id.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tenants.platform import PLATFORM_TENANT_ID
from tests.integration.recovery.lettered import LETTERS, lettered, poisoned
from tests.integration.replays.pieces import REPLAYS, started
from tests.integration.tenants.managing import CLIENTS, administrator_of, made
from tests.system import MadeTenant, System

CHANGING = ("post", "put", "patch", "delete")
MANAGING = (["tenant:admin"], ["platform:admin"])
TENANTS = "/api/v1/admin/tenants"
PLANS = "/api/v1/admin/plans"
PLAN = {"events_per_second": 10, "burst": 20}


@dataclass(frozen=True)
class Change:
    """A request, and the action and subject that its entry is expected to name; in the platform's log or a tenant's.

    `subject` None: an id that only the answer tells.
    """

    action: str
    subject: str | None
    path: str
    body: dict[str, Any] | None = None
    of_platform: bool = False


@dataclass(frozen=True)
class Site:
    """A fresh tenant, and HTTP clients that speak for it and for the platform."""

    system: System
    tenant: MadeTenant
    http: httpx.AsyncClient
    platform: httpx.AsyncClient

    @property
    def tenant_path(self) -> str:
        return f"{TENANTS}/{self.tenant.tenant_id}"


async def make_client(_: Site) -> Change:
    return Change("client.created", None, CLIENTS, {"name": "made"})


async def change_client(site: Site) -> Change:
    client_id = (await made(site.http))["client_id"]
    return Change("client.changed", client_id, f"{CLIENTS}/{client_id}", {"name": "renamed"})


async def revoke_client(site: Site) -> Change:
    client_id = (await made(site.http))["client_id"]
    return Change("client.revoked", client_id, f"{CLIENTS}/{client_id}")


async def add_secret(site: Site) -> Change:
    client_id = (await made(site.http))["client_id"]
    return Change("client.secret_added", client_id, f"{CLIENTS}/{client_id}/secrets", {})


async def change_secret(site: Site) -> Change:
    client = await made(site.http)
    path = f"{CLIENTS}/{client['client_id']}/secrets/{client['secrets'][0]['secret_id']}"
    return Change("client.secret_changed", client["client_id"], path, {"expires_at": "2090-01-01T00:00:00Z"})


async def remove_secret(site: Site) -> Change:
    client = await made(site.http)
    path = f"{CLIENTS}/{client['client_id']}/secrets"
    assert (await site.http.post(path, json={})).status_code == 201
    return Change("client.secret_removed", client["client_id"], f"{path}/{client['secrets'][0]['secret_id']}")


async def retry_letter(site: Site) -> Change:
    letter_id = await lettered(site.system, site.tenant)
    return Change("dead_letter.retried", letter_id, f"{LETTERS}/{letter_id}/retry")


async def discard_letter(site: Site) -> Change:
    letter_id = await lettered(site.system, site.tenant)
    return Change("dead_letter.discarded", letter_id, f"{LETTERS}/{letter_id}/discard")


async def edit_letter(site: Site) -> Change:
    letter_id = await poisoned(site.system, site.tenant)
    return Change("dead_letter.edited", letter_id, f"{LETTERS}/{letter_id}", {"metadata": {}})


async def retry_letters(site: Site) -> Change:
    await lettered(site.system, site.tenant)
    return Change("dead_letters.retried", site.tenant.tenant_id, f"{LETTERS}/retry")


async def discard_letters(site: Site) -> Change:
    await lettered(site.system, site.tenant)
    return Change("dead_letters.discarded", site.tenant.tenant_id, f"{LETTERS}/discard")


async def start_replay(_: Site) -> Change:
    return Change("replay.created", None, REPLAYS, {"target": "webhook", "webhook_url": "https://example.com/hook"})


async def pause_replay(site: Site) -> Change:
    replay_id = (await started(site.http, "ndjson"))["replay_id"]
    return Change("replay.paused", replay_id, f"{REPLAYS}/{replay_id}/pause")


async def resume_replay(site: Site) -> Change:
    replay_id = (await started(site.http, "ndjson"))["replay_id"]
    assert (await site.http.post(f"{REPLAYS}/{replay_id}/pause")).status_code == 200
    return Change("replay.resumed", replay_id, f"{REPLAYS}/{replay_id}/resume")


async def cancel_replay(site: Site) -> Change:
    replay_id = (await started(site.http, "ndjson"))["replay_id"]
    return Change("replay.cancelled", replay_id, f"{REPLAYS}/{replay_id}/cancel")


async def erase_user(_: Site) -> Change:
    return Change("erasure.requested", None, "/api/v1/users/u1")


async def make_client_for_tenant(site: Site) -> Change:
    return Change("client.created", None, f"{site.tenant_path}/clients", {"name": "recovery"})


async def revoke_client_of_tenant(site: Site) -> Change:
    client_id = site.tenant.client_id
    return Change("client.revoked", client_id, f"{site.tenant_path}/clients/{client_id}")


async def make_tenant(_: Site) -> Change:
    return Change("tenant.created", None, TENANTS, {"name": "acme"})


async def change_plan(site: Site) -> Change:
    return Change("tenant.plan_changed", site.tenant.tenant_id, f"{site.tenant_path}/plan", {"plan": "free"})


async def suspend(site: Site) -> Change:
    return Change("tenant.suspended", site.tenant.tenant_id, f"{site.tenant_path}/suspend")


async def resume(site: Site) -> Change:
    assert (await site.platform.post(f"{site.tenant_path}/suspend")).status_code == 200
    return Change("tenant.resumed", site.tenant.tenant_id, f"{site.tenant_path}/resume")


async def delete_tenant(site: Site) -> Change:
    return Change("tenant.deletion_requested", site.tenant.tenant_id, site.tenant_path)


async def set_plan(_: Site) -> Change:
    plan_id = f"plan-{secrets.token_hex(4)}"
    return Change("plan.set", plan_id, f"{PLANS}/{plan_id}", PLAN, of_platform=True)


async def delete_plan(site: Site) -> Change:
    plan_id = f"plan-{secrets.token_hex(4)}"
    assert (await site.platform.put(f"{PLANS}/{plan_id}", json=PLAN)).status_code == 201
    return Change("plan.deleted", plan_id, f"{PLANS}/{plan_id}", of_platform=True)


SCENARIOS: dict[tuple[str, str], Callable[[Site], Awaitable[Change]]] = {
    ("POST", CLIENTS): make_client,
    ("PATCH", f"{CLIENTS}/{{client_id}}"): change_client,
    ("DELETE", f"{CLIENTS}/{{client_id}}"): revoke_client,
    ("POST", f"{CLIENTS}/{{client_id}}/secrets"): add_secret,
    ("PATCH", f"{CLIENTS}/{{client_id}}/secrets/{{secret_id}}"): change_secret,
    ("DELETE", f"{CLIENTS}/{{client_id}}/secrets/{{secret_id}}"): remove_secret,
    ("POST", f"{LETTERS}/{{dead_letter_id}}/retry"): retry_letter,
    ("POST", f"{LETTERS}/{{dead_letter_id}}/discard"): discard_letter,
    ("PATCH", f"{LETTERS}/{{dead_letter_id}}"): edit_letter,
    ("POST", f"{LETTERS}/retry"): retry_letters,
    ("POST", f"{LETTERS}/discard"): discard_letters,
    ("POST", REPLAYS): start_replay,
    ("POST", f"{REPLAYS}/{{replay_id}}/pause"): pause_replay,
    ("POST", f"{REPLAYS}/{{replay_id}}/resume"): resume_replay,
    ("POST", f"{REPLAYS}/{{replay_id}}/cancel"): cancel_replay,
    ("DELETE", "/api/v1/users/{user_id}"): erase_user,
    ("POST", f"{TENANTS}/{{tenant_id}}/clients"): make_client_for_tenant,
    ("DELETE", f"{TENANTS}/{{tenant_id}}/clients/{{client_id}}"): revoke_client_of_tenant,
    ("POST", TENANTS): make_tenant,
    ("PUT", f"{TENANTS}/{{tenant_id}}/plan"): change_plan,
    ("POST", f"{TENANTS}/{{tenant_id}}/suspend"): suspend,
    ("POST", f"{TENANTS}/{{tenant_id}}/resume"): resume,
    ("DELETE", f"{TENANTS}/{{tenant_id}}"): delete_tenant,
    ("PUT", f"{PLANS}/{{plan_id}}"): set_plan,
    ("DELETE", f"{PLANS}/{{plan_id}}"): delete_plan,
}


@pytest.fixture(scope="module")
async def administrator(system: System) -> MadeTenant:
    return await administrator_of(system)


async def test_every_managing_route_that_changes_something_has_a_scenario(system: System) -> None:
    async with system.client() as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    changing = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method in CHANGING and [*operation.get("security", [{}])[0].values()][:1] in [[scope] for scope in MANAGING]
    }
    assert changing == set(SCENARIOS), "each managing route that changes something needs a scenario in this module"


@pytest.mark.parametrize(("method", "path"), SCENARIOS, ids=lambda value: value.strip("/"))
async def test_a_change_writes_one_entry_with_who_and_from_where_and_no_secret(
    system: System, administrator: MadeTenant, method: str, path: str
) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as http, system.client(administrator) as platform:
        site = Site(system, tenant, http, platform)
        change = await SCENARIOS[method, path](site)
        by_platform = path.startswith("/api/v1/admin/")
        request_id = f"audited-{secrets.token_hex(8)}"
        answer = await (platform if by_platform else http).request(
            method, change.path, json=change.body, headers={"X-Request-Id": request_id}
        )
    assert answer.is_success, answer.text
    entries = await system.fetch("select * from audit_log where request_id = $1", request_id)
    (entry,) = [entry for entry in entries if entry["action"] == change.action]
    told = answer.json() if answer.content else {}
    assert entry["subject"] == (change.subject or told[f"{change.action.partition('.')[0]}_id"])
    expected = told["tenant_id"] if path == TENANTS else tenant.tenant_id
    assert str(entry["tenant_id"]) == (str(PLATFORM_TENANT_ID) if change.of_platform else expected)
    assert (entry["actor_kind"], entry["actor"]) == (
        ("platform", administrator.client_id) if by_platform else ("client", tenant.client_id)
    )
    assert str(entry["address"]) == "127.0.0.1"
    for secret in {"client_secret", "webhook_secret"} & set(told):
        assert told[secret] not in str([dict(entry) for entry in entries])


REFUSED: tuple[tuple[str, str, dict[str, Any] | None, int], ...] = (
    ("POST", CLIENTS, {"name": ""}, 422),
    ("PATCH", f"{CLIENTS}/{{client}}", {"scopes": ["platform:admin"]}, 422),
    ("PATCH", f"{CLIENTS}/{{client}}", {"scopes": ["events:read"]}, 409),
    ("PATCH", f"{CLIENTS}/slc_nobody", {"name": "a"}, 404),
    ("DELETE", f"{CLIENTS}/{{client}}", None, 409),
    ("POST", f"{TENANTS}/{{tenant}}/suspend", None, 403),
)


@pytest.mark.parametrize(("method", "path", "body", "status"), REFUSED)
async def test_what_is_refused_is_no_action(
    system: System, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    tenant = await system.tenant()
    request_id = f"refused-{secrets.token_hex(8)}"
    async with system.client(tenant) as http:
        named = path.format(client=tenant.client_id, tenant=tenant.tenant_id)
        answer = await http.request(method, named, json=body, headers={"X-Request-Id": request_id})
    assert answer.status_code == status, answer.text
    assert await system.fetch("select 1 from audit_log where request_id = $1", request_id) == []
