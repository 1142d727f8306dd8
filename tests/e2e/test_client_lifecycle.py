"""A client's life over HTTP alone, as a security team would try it: narrow, used, rotated, moved, revoked."""

from __future__ import annotations

from typing import Any

from tests.integration.tenants.managing import CLIENTS, made, token_answer
from tests.system import System, until

EVENT = {"event_type": "paid"}


async def test_a_narrowed_client_is_used_rotated_and_revoked(system: System) -> None:
    async with system.client(await system.tenant(rate=1000, burst=1000)) as admin, system.client() as http:
        client = await made(admin, scopes=["events:write"], networks=["127.0.0.1/32"], events_per_second=0.01, burst=3)
        client_id = client["client_id"]

        async def token(secret: str) -> dict[str, str]:
            answer = await token_answer(system, client_id, secret)
            assert answer.status_code == 200, answer.text
            assert answer.json()["scope"] == "events:write"
            return {"Authorization": f"Bearer {answer.json()['access_token']}"}

        # It sends within its own bucket, and does nothing else.
        first = await token(client["client_secret"])
        sent = [(await http.post("/api/v1/events", json=EVENT, headers=first)).status_code for _ in range(5)]
        assert sent == [202, 202, 202, 429, 429]
        assert (await admin.post("/api/v1/events", json=EVENT)).status_code == 202
        assert (await http.get("/api/v1/events/count", headers=first)).status_code == 403
        assert (await http.get(CLIENTS, headers=first)).status_code == 403
        wider = await token_answer(system, client_id, client["client_secret"], scope="events:read")
        assert wider.json()["error"] == "invalid_scope"

        # Rotated: both secrets, then only the new one; which one is used is to be seen.
        rotated = await admin.post(f"{CLIENTS}/{client_id}/secrets", json={"old_expires_in": 3})
        second = await token(rotated.json()["client_secret"])

        async def last_used() -> list[str | None]:
            shown: dict[str, Any] = (await admin.get(f"{CLIENTS}/{client_id}")).json()
            return [secret["last_used_at"] for secret in shown["secrets"]]

        new_used, old_used = await until(last_used, lambda seen: None not in seen)
        assert new_used is not None
        assert old_used is not None
        assert new_used > old_used
        await token(client["client_secret"])

        async def with_the_old_secret() -> int:
            return (await token_answer(system, client_id, client["client_secret"])).status_code

        await until(with_the_old_secret, lambda status: status == 401, seconds=10)
        await token(rotated.json()["client_secret"])
        assert (await http.post("/api/v1/events", json=EVENT, headers=second)).status_code == 429

        # Moved to a network that it is not in, then back: its tokens of before are refused and admitted.
        where = f"{CLIENTS}/{client_id}"
        assert (await admin.patch(where, json={"networks": ["192.0.2.0/24"]})).status_code == 200
        assert (await http.post("/api/v1/events", json=EVENT, headers=second)).status_code == 403
        assert (await token_answer(system, client_id, rotated.json()["client_secret"])).status_code == 401
        back: dict[str, Any] = {"networks": [], "events_per_second": None, "burst": None}
        assert (await admin.patch(where, json=back)).status_code == 200
        assert (await http.post("/api/v1/events", json=EVENT, headers=second)).status_code == 202

        # Revoked: its secret and its tokens.
        assert (await admin.delete(where)).status_code == 204
        assert (await http.post("/api/v1/events", json=EVENT, headers=second)).status_code == 401
        assert (await token_answer(system, client_id, rotated.json()["client_secret"])).status_code == 401

        log = (await admin.get("/api/v1/audit")).json()["entries"]
        assert [entry["action"] for entry in log if entry["subject"] == client_id] == [
            "client.revoked",
            "client.changed",
            "client.changed",
            "client.secret_added",
            "client.created",
        ]
