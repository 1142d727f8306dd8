"""Two questions that differ in their names only, and what their answers tell apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from tests.e2e.isolation.names import Names, Victim
from tests.e2e.isolation.probes import Probe

# What differs between any two answers, and between any two things that were just made.
_NEW_MEMBERS = ("request_id", "took_ms", "access_token")
_NEW_WHEN_MADE = (
    "event_id", "client_id", "secret_id", "client_secret", "tenant_id", "created_at", "expires_at", "erasure_id",
    "replay_id", "requested_at",     "user_hash", "cut_at",
)  # fmt: skip
_NEW_HEADERS = {"date", "x-request-id", "ratelimit", "content-length"}
_MADE = {201, 202}


@dataclass(frozen=True)
class Asked:
    """A probe with a victim's names, and its answer beside that with other names."""

    probe: Probe
    answers: tuple[httpx.Response, httpx.Response]
    differ: bool

    def leaks(self, victim: Victim) -> Iterator[str]:
        """What the answers tell of the victim."""
        where = f"{self.probe[0]} {self.probe[1]} {self.probe[2]}"
        if self.differ:
            yield f"{where}: " + " / ".join(f"{answer.status_code} {answer.text[:500]}" for answer in self.answers)
        yield from (f"{where} shows {text}" for text in shown(self.answers[0], victim, self.probe))


async def ask(client: httpx.AsyncClient, probe: Probe) -> httpx.Response:
    """The answer to a probe; OAuth's endpoints are sent no token, because clients authenticate there."""
    method, path, further = probe
    sent = {name: value for name, value in further.items() if name != "auth"}
    request = client.build_request(method, path, **sent)
    if path.startswith("/oauth/"):
        del request.headers["authorization"]
    answer = await client.send(request, auth=further.get("auth"))
    assert answer.status_code < 500, f"{method} {path} {further}: {answer.text}"
    assert answer.status_code != 429, "to be refused for being quick hides whatever would be told"
    return answer


async def compared(client: httpx.AsyncClient, known: Probe, unknown: Probe, one: Names, other: Names) -> Asked:
    """Both probes asked, again if the answers differ, because a busy system may change between the two."""
    for _ in range(4):
        answers = await ask(client, known), await ask(client, unknown)
        if _neutral(answers[0], known, one) == _neutral(answers[1], unknown, other):
            return Asked(known, answers, differ=False)
    return Asked(known, answers, differ=True)


def shown(answer: httpx.Response, victim: Victim, probe: Probe) -> list[str]:
    """What an answer holds of the victim's that was not in the question."""
    question = question_of(probe)
    whole = answer.text + str(answer.headers)
    # What strangers have given to things of their own is in their answers by right.
    secret = {*victim.content, *victim.hidden, *victim.names.values()} - {victim.names.given}
    return [text for text in secret if text in whole and text not in question]


def question_of(probe: Probe) -> str:
    return json.dumps(probe, default=lambda value: value.decode())


def _neutral(answer: httpx.Response, probe: Probe, names: Names) -> tuple[int, str, str]:
    """Status, body and headers without what is always new, the names of the question made neutral."""
    made = answer.status_code in _MADE
    members = (*_NEW_MEMBERS, *_NEW_WHEN_MADE) if made else _NEW_MEMBERS
    dropped = _NEW_HEADERS | {"location"} if made else _NEW_HEADERS
    question, body = question_of(probe), answer.text
    headers = json.dumps({name: value for name, value in answer.headers.items() if name not in dropped})
    for number, value in enumerate(names.values()):
        for spelt in {value, quote(value, safe="")} if value in question else ():
            body, headers = body.replace(spelt, f"NAME{number}"), headers.replace(spelt, f"NAME{number}")
    return answer.status_code, re.sub(rf'"({"|".join(members)})":\s*("[^"]*"|[\d.]+)', r'"\1":0', body), headers
