"""What is asked about: a victim, whose every text only it has, and nobody, who has as many names of the same shapes."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from dataclasses import dataclass, fields
from typing import Any

import httpx

from tests.integration.recovery.lettered import lettered
from tests.system import MadeTenant, System, until

EVENTS = 4


@dataclass(frozen=True)
class Names:
    """`text` is an event's id, type and user and a word in its metadata; `given` is another's, for strangers to give
    to things of their own. `client_id` is of a second client, which has the secret `secret_id` and a token.
    """

    text: str
    given: str
    tenant_id: str
    client_id: str
    secret_id: str
    token: str
    search_cursor: str
    timeline_cursor: str
    clients_cursor: str
    audit_cursor: str
    dead_letter_id: str
    letters_cursor: str
    replay_id: str
    replays_cursor: str
    erasure_id: str
    erasures_cursor: str

    @classmethod
    def of_nobody(cls, like: Names) -> Names:
        """Names of the same shapes that nobody has; cursors and the token are altered in the middle."""
        return cls(
            text=new_text(),
            given=new_text(),
            tenant_id=str(uuid.uuid4()),
            client_id=f"slc_{secrets.token_hex(16)}",
            secret_id=str(uuid.uuid4()),
            token=_altered(like.token),
            search_cursor=_of_another_question(like.search_cursor),
            timeline_cursor=_altered(like.timeline_cursor),
            clients_cursor=_altered(like.clients_cursor),
            audit_cursor=_altered(like.audit_cursor),
            dead_letter_id=str(uuid.uuid4()),
            letters_cursor=_altered(like.letters_cursor),
            replay_id=str(uuid.uuid4()),
            replays_cursor=_altered(like.replays_cursor),
            erasure_id=str(uuid.uuid4()),
            erasures_cursor=_altered(like.erasures_cursor),
        )

    def values(self) -> list[str]:
        """Every name, as it may stand in an answer that repeats the question."""
        return [getattr(self, each.name) for each in fields(self)]


@dataclass(frozen=True)
class Victim:
    """A tenant that is asked about, and asks about the others. `content`: texts of its events, and secrets, which not
    even the platform sees. `hidden`: further texts that are in no other tenant's answers.
    """

    tenant: MadeTenant
    names: Names
    client_name: str
    content: tuple[str, ...]
    hidden: tuple[str, ...]


def new_text() -> str:
    return f"n{secrets.token_hex(8)}"


def _altered(text: str) -> str:
    middle = len(text) // 2
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


def _of_another_question(search_cursor: str) -> str:
    """A search's cursor says in clear for which question it is: told apart from a text that is no cursor at all."""
    form, digest, values = json.loads(base64.urlsafe_b64decode(search_cursor + "=="))
    text = json.dumps([form, _altered(digest), values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def make_victim(system: System) -> Victim:
    """A tenant with stored and searchable events, usage, a second client with secrets, dead letters, and entries in its
    audit log.
    """
    label, client_name, said, text, given = (new_text() for _ in range(5))
    tenant = await system.tenant(label)
    events = [
        {"event_type": text, "event_id": text, "user_id": text, "metadata": {"note": f"{text} {said}"}},
        {"event_type": text, "event_id": given, "user_id": text},
        {"event_type": said, "event_id": said, "user_id": text, "metadata": {said: [said]}},
    ]
    async with system.client(tenant) as client:
        await _checked(client.post("/api/v1/events/batch", json=events), 202)
        made = (await _checked(client.post("/api/v1/clients", json={"name": "first"}), 201)).json()
        second = MadeTenant(tenant.tenant_id, made["client_id"], made["client_secret"])
        async with system.client(second) as of_second:
            await _checked(of_second.post("/api/v1/events", json={"event_type": said}), 202)

        async def found() -> Any:
            return (await client.get("/api/v1/events/search")).json().get("total")

        await until(found, lambda total: total == EVENTS)
        wide = {"started_at": "1970-01-01", "ended_at": "2100-01-01", "limit": "1"}

        async def cursor(path: str, **parameters: str) -> str:
            return str((await _checked(client.get(path, params=parameters), 200)).json()["next_cursor"])

        letters = [await lettered(system, tenant, event_id=text, payload=said.encode()) for _ in range(2)]

        ordered = {"target": "ndjson", "event_type": said}
        replays = [
            (await _checked(client.post("/api/v1/replays", json=ordered), 201)).json()["replay_id"] for _ in range(2)
        ]
        erasures = [
            (await _checked(client.delete(f"/api/v1/users/{new_text()}"), 202)).json()["erasure_id"] for _ in range(2)
        ]
        await _checked(client.patch(f"/api/v1/clients/{second.client_id}", json={"name": client_name}), 200)
        names = Names(
            text=text,
            given=given,
            tenant_id=tenant.tenant_id,
            client_id=second.client_id,
            secret_id=made["secrets"][0]["secret_id"],
            token=await system.token(second),
            search_cursor=await cursor("/api/v1/events/search", limit="1", sort="newest"),
            timeline_cursor=await cursor(f"/api/v1/events/user/{text}", **wide),
            clients_cursor=await cursor("/api/v1/clients", limit="1"),
            audit_cursor=await cursor("/api/v1/audit", limit="1"),
            dead_letter_id=letters[0],
            letters_cursor=await cursor("/api/v1/dead-letters", limit="1"),
            replay_id=replays[0],
            replays_cursor=await cursor("/api/v1/replays", limit="1"),
            erasure_id=erasures[0],
            erasures_cursor=await cursor("/api/v1/erasures", limit="1"),
        )
        audit = (await _checked(client.get("/api/v1/audit"), 200)).json()["entries"]
    content = (said, text, given, names.token, tenant.client_secret, second.client_secret)
    entries = (entry["audit_id"] for entry in audit)
    return Victim(tenant, names, client_name, content, (label, client_name, tenant.client_id, *entries))


async def _checked(asking: Any, status: int) -> httpx.Response:
    answer: httpx.Response = await asking
    assert answer.status_code == status, answer.text
    return answer
