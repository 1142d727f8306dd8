"""A token of the platform manages tenants, and shows nothing of what they store."""

from __future__ import annotations

import httpx
import pytest_asyncio

from app.settings import OperatorSettings
from tenants.bootstrap import ensure_platform
from tests.e2e.isolation.asking import ask, question_of
from tests.e2e.isolation.names import Names, Victim, make_victim
from tests.e2e.isolation.scenarios import SCENARIOS
from tests.system import MadeTenant, System

ADMIN = "/api/v1/admin/"
OPEN = ("/oauth/", "/.well-known/", "/api/v1/health", "/api/v1/ready")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def victim(system: System) -> Victim:
    return await make_victim(system)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def administrator(system: System) -> MadeTenant:
    admin = (await ensure_platform(system.settings(OperatorSettings), None))["admin"]
    return MadeTenant("00000000-0000-0000-0000-000000000000", admin["client_id"], admin["client_secret"])


def content_in(answer: httpx.Response, victim: Victim, question: str) -> list[str]:
    whole = answer.text + str(answer.headers)
    return [text for text in victim.content if text in whole and text not in question]


async def test_the_platform_reads_about_tenants_but_nothing_that_they_store(
    system: System, administrator: MadeTenant, victim: Victim
) -> None:
    read = 0
    async with system.client(administrator) as client:
        for (method, path), scenario in SCENARIOS.items():
            if method == "GET" and path.startswith(ADMIN):
                for probe in scenario(victim.names, victim.tenant):
                    answer = await ask(client, probe)
                    read += answer.status_code == 200
                    assert content_in(answer, victim, question_of(probe)) == [], probe
    assert read > 5


async def test_the_platform_has_no_way_to_what_tenants_read_send_or_manage_themselves(
    system: System, administrator: MadeTenant, victim: Victim
) -> None:
    async with system.client(administrator) as client:
        for (_, path), scenario in SCENARIOS.items():
            if not path.startswith((ADMIN, *OPEN)):
                for probe in scenario(victim.names, victim.tenant):
                    answer = await ask(client, probe)
                    assert answer.status_code in {403, 404, 405, 307}, f"{probe}: {answer.text}"
                    assert content_in(answer, victim, question_of(probe)) == [], probe


async def test_what_the_platform_asks_of_a_tenant_that_does_not_exist_is_not_found(
    system: System, administrator: MadeTenant, victim: Victim
) -> None:
    nobody = Names.of_nobody(victim.names)
    stranger = MadeTenant(nobody.tenant_id, nobody.client_id, "none")
    async with system.client(administrator) as client:
        for (_, path), scenario in SCENARIOS.items():
            if "/tenants/{tenant_id}" in path:
                answer = await ask(client, next(scenario(nobody, stranger)))
                assert answer.status_code == 404, f"{path}: {answer.text}"
