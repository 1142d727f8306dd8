"""The limits of token, admin and query routes over HTTP, on an API of their own whose limits are small."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deploy.local.servers import Endpoints
from tests.system import MadeTenant, System, until

COUNT = "/api/v1/events/count"
SEARCH = "/api/v1/events/search"
ADMIN = "/api/v1/clients"
PLATFORM = "/api/v1/admin/tenants"
QUOTA = 3
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Few requests an hour for a client, behind a proxy that is this machine."""
    limits = {f"{limit}_LIMIT": f"{QUOTA}/hour" for limit in ("TOKEN", "ADMIN", "QUERY", "FAILURE")}
    running = await System.create(
        endpoints, tmp_path_factory.mktemp("limited"), TRUSTED_PROXIES="127.0.0.0/8", **limits
    )
    try:
        await running.start("api")
        yield running
    finally:
        running.stop()


@pytest.fixture
def address() -> str:
    """One that no other test calls from."""
    number = next(_numbers)
    return f"198.51.{number // 250}.{number % 250 + 1}"


def from_(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def ask_for_token(system: System, tenant: MadeTenant, address: str, secret: str | None = None) -> httpx.Response:
    async with system.client() as client:
        return await client.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(tenant.client_id, secret or tenant.client_secret),
            headers=from_(address),
        )


async def token(system: System, tenant: MadeTenant, address: str) -> dict[str, str]:
    """Headers of a request of this tenant from this address."""
    answer = await ask_for_token(system, tenant, address)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"} | from_(address)


def fields(answer: httpx.Response) -> tuple[str, int, int, int]:
    """Policy, quota, what is left, seconds until the window ends; both headers have to be about the same policy."""
    policy = re.fullmatch(r'"(\w+)";q=(\d+);w=3600', answer.headers["RateLimit-Policy"])
    state = re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert policy is not None
    assert state is not None
    assert policy[1] == state[1]
    return policy[1], int(policy[2]), int(state[2]), int(state[3])


def refused(answer: httpx.Response, limit: str) -> dict[str, Any]:
    """The problem of a refusal, whose headers have to agree."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    name, quota, left, seconds = fields(answer)
    assert (name, quota, left) == (limit, QUOTA, 0)
    assert int(answer.headers["Retry-After"]) == seconds
    assert 3500 < seconds <= 3600
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == "urn:sluice:problem:rate-limited"
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    return problem


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [("GET", COUNT, "query"), ("GET", SEARCH, "query"), ("POST", SEARCH, "query"), ("GET", ADMIN, "admin")],
)
async def test_a_client_is_refused_when_it_has_sent_its_share_and_other_clients_and_addresses_are_not(
    limited: System, address: str, method: str, path: str, limit: str
) -> None:
    tenant, other = await limited.tenant(), await limited.tenant()
    ours = await token(limited, tenant, address)
    theirs = await token(limited, other, address)
    async with limited.client() as client:
        for left in reversed(range(QUOTA)):
            answer = await client.request(method, path, headers=ours)
            assert answer.status_code in {200, 415, 422}, answer.text
            assert fields(answer)[:3] == (limit, QUOTA, left)
        refused(await client.request(method, path, headers=ours), limit)
        assert fields(await client.request(method, path, headers=theirs))[2] == QUOTA - 1
        elsewhere = ours | from_(f"{address}, 203.0.113.{next(_numbers)}")
        assert fields(await client.request(method, path, headers=elsewhere))[2] == QUOTA - 1


async def test_refusals_for_want_of_a_scope_count_and_say_so(limited: System, address: str) -> None:
    ours = await token(limited, await limited.tenant(), address)
    async with limited.client() as client:
        for left in reversed(range(QUOTA)):
            answer = await client.get(PLATFORM, headers=ours)
            assert answer.status_code == 403
            assert fields(answer)[:3] == ("admin", QUOTA, left)
        refused(await client.get(PLATFORM, headers=ours), "admin")


async def test_input_that_is_not_valid_counts_and_says_so(limited: System, address: str) -> None:
    ours = await token(limited, await limited.tenant(), address)
    async with limited.client() as client:
        answer = await client.get(COUNT, params={"started_at": "never"}, headers=ours)
    assert answer.status_code == 422
    assert fields(answer)[:3] == ("query", QUOTA, QUOTA - 1)


async def test_sending_events_has_limits_of_its_own(limited: System, address: str) -> None:
    ours = await token(limited, await limited.tenant(), address)
    async with limited.client() as client:
        for _ in range(2 * QUOTA):
            answer = await client.post("/api/v1/events", json={"event_type": "a"}, headers=ours)
            assert answer.status_code == 202
            assert answer.headers["RateLimit"].startswith('"events"')


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke"])
async def test_a_client_gets_so_many_answers_where_it_authenticates(limited: System, address: str, path: str) -> None:
    tenant = await limited.tenant()
    auth = (tenant.client_id, tenant.client_secret)
    form = {"grant_type": "client_credentials"} if path == "/oauth/token" else {"token": "none"}
    async with limited.client() as client:
        for left in reversed(range(QUOTA)):
            answer = await client.post(path, data=form, auth=auth, headers=from_(address))
            assert answer.status_code == 200, answer.text
            assert fields(answer)[:3] == ("token", QUOTA, left)
        answer = await client.post(path, data=form, auth=auth, headers=from_(address))
    problem = refused(answer, "token")
    assert (problem["error"], problem["error_description"]) == ("temporarily_unavailable", problem["detail"])
    assert answer.headers["Cache-Control"] == "no-store"
    assert tenant.client_secret not in answer.text


async def test_guessing_secrets_from_one_address_is_stopped_and_the_right_secret_elsewhere_is_not(
    limited: System, address: str
) -> None:
    for _ in range(QUOTA):
        answer = await ask_for_token(limited, await limited.tenant(), address, secret="guess")
        assert answer.status_code == 401
        assert fields(answer)[0] == "token"
    tenant = await limited.tenant()
    refused(await ask_for_token(limited, tenant, address, secret="guess"), "failure")
    refused(await ask_for_token(limited, tenant, address), "failure")
    assert (await ask_for_token(limited, tenant, f"203.0.113.{next(_numbers)}")).status_code == 200


async def test_a_client_that_was_let_in_is_not_shut_out_by_others_behind_the_same_address(
    limited: System, address: str
) -> None:
    tenant, guessed = await limited.tenant(), await limited.tenant()
    assert (await ask_for_token(limited, tenant, address)).status_code == 200
    for _ in range(QUOTA):
        assert (await ask_for_token(limited, guessed, address, secret="guess")).status_code == 401
    refused(await ask_for_token(limited, guessed, address), "failure")
    assert (await ask_for_token(limited, tenant, address)).status_code == 200


async def test_requests_whose_token_does_not_hold_are_slowed_and_those_with_a_good_one_are_not(
    limited: System, address: str
) -> None:
    good = await token(limited, await limited.tenant(), address)
    bad = {"Authorization": "Bearer none"} | from_(address)
    async with limited.client() as client:
        for left in reversed(range(QUOTA)):
            answer = await client.get(COUNT, headers=bad)
            assert answer.status_code == 401
            assert fields(answer)[:3] == ("failure", QUOTA, left)
        answer = await client.get(COUNT, headers=bad)
        refused(answer, "failure")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await client.get(COUNT, headers=good)).status_code == 200


async def test_what_a_client_writes_before_the_proxy_does_not_make_it_another(limited: System, address: str) -> None:
    ours = await token(limited, await limited.tenant(), address)
    async with limited.client() as client:
        answers = [
            await client.get(COUNT, headers=ours | from_(f"203.0.113.{number}, {address}"))
            for number in range(QUOTA + 1)
        ]
    assert [answer.status_code for answer in answers] == [200] * QUOTA + [429]


async def test_without_a_trusted_proxy_forwarded_addresses_change_nothing_and_waiting_retry_after_helps(
    endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> None:
    system = await System.create(endpoints, tmp_path_factory.mktemp("untrusting"), QUERY_LIMIT="2/second")
    try:
        await system.start("api")
        async with system.client(await system.tenant()) as client:

            async def at_once() -> list[httpx.Response]:
                calls = (client.get(COUNT, headers=from_(f"203.0.113.{number}")) for number in range(20))
                return [answer for answer in await asyncio.gather(*calls) if answer.status_code == 429]

            late = await until(at_once, bool)
            await asyncio.sleep(max(int(answer.headers["Retry-After"]) for answer in late))
            assert (await client.get(COUNT)).status_code == 200
    finally:
        system.stop()
