"""Rotating a client's secrets on a running system: two at once, when the old one ends, and removing one."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tenants.clients.view import SECRETS_SHOWN
from tests.integration.tenants.managing import CLIENTS, made, pointers, token_answer
from tests.system import System, until

if TYPE_CHECKING:
    import httpx


async def rotated(http: httpx.AsyncClient, client: dict[str, Any], **body: int) -> dict[str, Any]:
    answer = await http.post(f"{CLIENTS}/{client['client_id']}/secrets", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    told: dict[str, Any] = answer.json()
    return told


async def works(system: System, client: dict[str, Any], secret: dict[str, Any]) -> bool:
    answer = await token_answer(system, client["client_id"], secret["client_secret"])
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


async def shown(http: httpx.AsyncClient, client: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The client's secrets as it shows them, by id."""
    listed = (await http.get(f"{CLIENTS}/{client['client_id']}")).json()["secrets"]
    return {secret["secret_id"]: secret for secret in listed}


def of(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


async def test_after_a_rotation_both_secrets_work_and_the_old_one_ends_in_a_day(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        new = await rotated(http, client)
        assert await works(system, client, client)
        assert await works(system, client, new)
        secrets = await shown(http, client)
        assert new["client_secret"] not in str(secrets)
    old_id = client["secrets"][0]["secret_id"]
    assert secrets.keys() == {old_id, new["secret_id"]}
    assert secrets[new["secret_id"]]["expires_at"] is None
    assert of(secrets[old_id]["expires_at"]) - of(new["created_at"]) < timedelta(days=1, seconds=2)
    assert of(secrets[old_id]["expires_at"]) - of(new["created_at"]) >= timedelta(days=1)


async def test_the_old_secret_ends_when_it_was_said_and_the_new_one_goes_on(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        new = await rotated(http, client, oldExpiresIn=2)
        assert await works(system, client, client)

        async def old_works() -> bool:
            return await works(system, client, client)

        await until(old_works, lambda answer: not answer, seconds=10)
        ended = (await shown(http, client))[client["secrets"][0]["secret_id"]]["expires_at"]
        assert of(ended) <= datetime.now(UTC)
        assert await works(system, client, new)


async def test_with_zero_every_older_secret_ends_at_once(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        second = await rotated(http, client)
        third = await rotated(http, client, old_expires_in=0)
        assert [await works(system, client, secret) for secret in (client, second, third)] == [False, False, True]


async def test_a_third_secret_is_refused_with_the_ids_of_those_that_may_go(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        second = await rotated(http, client)
        refused = await http.post(f"{CLIENTS}/{client['client_id']}/secrets", json={})
        assert refused.status_code == 409
        for secret_id in (client["secrets"][0]["secret_id"], second["secret_id"]):
            assert secret_id in refused.json()["detail"]
        old = f"{CLIENTS}/{client['client_id']}/secrets/{client['secrets'][0]['secret_id']}"
        assert (await http.delete(old)).status_code == 204
        assert not await works(system, client, client)
        third = await rotated(http, client)
        assert await works(system, client, second)
        assert await works(system, client, third)


async def test_rotations_at_the_same_moment_never_leave_three_valid_secrets(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        path = f"{CLIENTS}/{client['client_id']}/secrets"
        answers = await asyncio.gather(*(http.post(path, json={}) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
        assert len(await shown(http, client)) == 2


async def test_a_later_rotation_does_not_prolong_an_end_that_was_set_earlier(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        secret = f"{CLIENTS}/{client['client_id']}/secrets/{client['secrets'][0]['secret_id']}"
        soon = "2098-01-01T00:00:00Z"
        assert (await http.patch(secret, json={"expires_at": soon})).json()["expires_at"] == soon
        await rotated(http, client, old_expires_in=30 * 86_400)
        ends = (await shown(http, client))[client["secrets"][0]["secret_id"]]["expires_at"]
        assert of(ends) < datetime.now(UTC) + timedelta(days=31)
        near = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
        await http.patch(secret, json={"expiresAt": near})
        await http.delete(f"{CLIENTS}/{client['client_id']}/secrets/{(await rotate_id(http, client))}")
        await rotated(http, client)
        assert of((await shown(http, client))[client["secrets"][0]["secret_id"]]["expires_at"]) == of(near)


async def rotate_id(http: httpx.AsyncClient, client: dict[str, Any]) -> str:
    """The id of the client's newest secret."""
    return max((await shown(http, client)).values(), key=lambda secret: str(secret["created_at"]))["secret_id"]  # type: ignore[no-any-return]


async def test_the_end_of_a_secret_can_be_moved_and_taken_away_until_it_has_ended(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        await rotated(http, client, old_expires_in=3600)
        secret = f"{CLIENTS}/{client['client_id']}/secrets/{client['secrets'][0]['secret_id']}"
        moved = await http.patch(secret, json={"expires_at": "2090-01-01T08:00:00+08:00"})
        assert moved.json()["expires_at"] == "2090-01-01T00:00:00Z"
        assert (await http.patch(secret, json={"expires_at": None})).json()["expires_at"] is None
        entries = (await http.get("/api/v1/audit", params={"action": "client.secret_changed"})).json()["entries"]
        assert [entry["detail"]["expires_at"]["to"] for entry in entries] == [None, "2090-01-01T00:00:00Z"]
        await rotated(http, client, old_expires_in=0)
        assert (await http.patch(secret, json={"expires_at": None})).status_code == 409
        assert not await works(system, client, client)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "9999-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2090-01-01"}, "/expires_at"),
        ({"expires_at": "2090-01-01T00:00:00"}, "/expires_at"),
        ({"expires_at": 4_000_000_000}, "/expires_at"),
        ({"expires_at": None, "expiresAt": None}, "/expiresAt"),
        ({"expires_at": None, "secret_hash": ""}, "/secret_hash"),
    ],
)
async def test_an_end_that_can_not_be_is_refused_by_pointer(system: System, body: dict[str, Any], pointer: str) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        secret = f"{CLIENTS}/{client['client_id']}/secrets/{client['secrets'][0]['secret_id']}"
        told = pointers(await http.patch(secret, json=body))
        assert {found.replace("expiresAt", "expires_at") for found in told} == {pointer.replace("sAt", "s_at")}


@pytest.mark.parametrize("seconds", [-1, 30 * 86_400 + 1, 1.5, "60", None])
async def test_an_overlap_that_can_not_be_is_refused_and_adds_no_secret(system: System, seconds: Any) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        answer = await http.post(f"{CLIENTS}/{client['client_id']}/secrets", json={"old_expires_in": seconds})
        assert pointers(answer) == {"/old_expires_in"}
        assert len(await shown(http, client)) == 1


async def test_the_last_valid_secret_stays_unless_the_client_is_revoked(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        secret = f"{CLIENTS}/{client['client_id']}/secrets/{client['secrets'][0]['secret_id']}"
        assert (await http.delete(secret)).status_code == 409
        assert await works(system, client, client)
        await http.delete(f"{CLIENTS}/{client['client_id']}")
        assert (await http.delete(secret)).status_code == 204
        assert (await http.delete(secret)).status_code == 404
        assert await shown(http, client) == {}


async def test_each_secret_tells_when_it_was_last_used(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        new = await rotated(http, client)
        old_id = client["secrets"][0]["secret_id"]
        assert {secret["last_used_at"] for secret in (await shown(http, client)).values()} == {None}
        assert await works(system, client, client)

        async def last_used() -> dict[str, Any]:
            return {secret_id: secret["last_used_at"] for secret_id, secret in (await shown(http, client)).items()}

        used = await until(last_used, lambda seen: seen[old_id] is not None)
        assert used[new["secret_id"]] is None
        assert await works(system, client, new)
        used = await until(last_used, lambda seen: seen[new["secret_id"]] is not None)
        assert used[new["secret_id"]] > used[old_id]


async def test_of_many_secrets_the_valid_ones_and_the_newest_are_shown(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client = await made(http)
        made_later = [await rotated(http, client, old_expires_in=0) for _ in range(12)]
        secrets = await shown(http, client)
        assert list(secrets) == [secret["secret_id"] for secret in reversed(made_later[-10:])]
        gone = f"{CLIENTS}/{client['client_id']}/secrets/{uuid.uuid4()}"
        assert (await http.delete(gone)).status_code == 404


async def test_a_client_that_rotates_without_end_leaves_no_more_secrets_behind_than_are_shown(system: System) -> None:
    async with system.client(await system.tenant()) as http:
        client, other = await made(http), await made(http)
        new = [await rotated(http, client, old_expires_in=0) for _ in range(SECRETS_SHOWN + 3)]
        assert await works(system, client, new[-1])
        assert not await works(system, client, new[-2])
        assert await works(system, other, other)
        listed = await shown(http, client)
    kept = await system.fetch(
        "select secret_id::text as id from client_secrets where client_id = $1 order by created_at desc",
        client["client_id"],
    )
    assert [row["id"] for row in kept] == [secret["secret_id"] for secret in reversed(new)][: SECRETS_SHOWN + 1]
    assert list(listed) == [row["id"] for row in kept][:SECRETS_SHOWN]
