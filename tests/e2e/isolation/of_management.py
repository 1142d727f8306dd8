"""Tokens, clients, secrets, usage and audit logs of somebody else; and what is the platform's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.e2e.isolation.names import Names
from tests.e2e.isolation.probes import HOSTILE, Probe, Scenario, whose
from tests.system import MadeTenant


def oauth_token(names: Names, stranger: MadeTenant) -> Iterator[Probe]:
    grant = {"grant_type": "client_credentials"}
    for secret in ("guess", stranger.client_secret):
        yield "POST", "/oauth/token", {"data": grant, "auth": (names.client_id, secret)}
        yield "POST", "/oauth/token", {"data": {**grant, "client_id": names.client_id, "client_secret": secret}}
    own = (stranger.client_id, stranger.client_secret)
    yield "POST", "/oauth/token", {"data": {**grant, "client_id": names.client_id}, "auth": own}
    yield "POST", "/oauth/token", {"data": {**grant, "scope": "platform:admin"}, "auth": own}
    yield "POST", "/oauth/token", {"data": {**grant, "scope": names.text}, "auth": own}
    assertion = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": names.token,
    }
    yield "POST", "/oauth/token", {"data": grant | assertion}


def of_a_token(path: str) -> Scenario:
    """Revocation or introspection of a token that is not the stranger's."""

    def probes(names: Names, stranger: MadeTenant) -> Iterator[Probe]:
        own = (stranger.client_id, stranger.client_secret)
        yield "POST", path, {"data": {"token": names.token}, "auth": own}
        yield "POST", path, {"data": {"token": names.token, "token_type_hint": "access_token"}, "auth": own}
        yield "POST", path, {"data": {"token": names.token, "client_id": names.client_id}, "auth": own}
        yield "POST", path, {"data": {"token": names.token}, "auth": (names.client_id, "guess")}

    return probes


def paged(path: str, cursor: str, **filters: str) -> Scenario:
    """A list of the stranger's own, asked with the victim's cursor (by the name of the member) and names."""

    def probes(names: Names, _: MadeTenant) -> Iterator[Probe]:
        yield "GET", path, {}
        yield "GET", path, {"params": {"limit": "1", "cursor": getattr(names, cursor)}}
        for parameter, member in filters.items():
            yield "GET", path, {"params": {parameter: getattr(names, member)}}
        for parameter in ("tenant_id", "tenantId", "tenant"):
            yield "GET", path, {"params": {parameter: names.tenant_id}}
        for text in HOSTILE:
            yield "GET", path, {"params": {"cursor": text}}

    return probes


def usage(names: Names, _: MadeTenant) -> Iterator[Probe]:
    path = "/api/v1/usage"
    yield "GET", path, {"params": {"client_id": names.client_id}}
    yield "GET", path, {"params": {"tenant_id": names.tenant_id}}
    yield "GET", path, {"params": [("client_id", "mine"), ("client_id", names.client_id)]}
    for text in HOSTILE:
        yield "GET", path, {"params": {"client_id": text}}
        yield "GET", path, {"params": {"interval": text}}


def make_client(names: Names, _: MadeTenant) -> Iterator[Probe]:
    path = "/api/v1/clients"
    yield "POST", path, {"json": {"name": names.given}}
    for member, value in whose(names):
        yield "POST", path, {"json": {"name": "mine", member: value}}
    yield "POST", path, {"json": {"name": "mine", "scopes": ["platform:admin"]}}


def one_client(method: str, further: str = "", **body: Any) -> Scenario:
    """A route below one client, which is the victim's."""

    def probes(names: Names, stranger: MadeTenant) -> Iterator[Probe]:
        sent = {} if method in {"GET", "DELETE"} else {"json": body}
        tail = further.format(secret_id=names.secret_id)
        yield method, f"/api/v1/clients/{names.client_id}{tail}", sent
        yield method, f"/api/v1/clients/{names.client_id}{tail}", {**sent, "params": {"tenant_id": names.tenant_id}}
        yield method, f"/api/v1/clients/{quote(names.client_id + '/', safe='')}{tail}", sent
        if names.secret_id in tail:
            # The victim's secret below the stranger's own client.
            yield method, f"/api/v1/clients/{stranger.client_id}{tail}", sent

    return probes


def one_letter(method: str, further: str = "", **body: Any) -> Scenario:
    """A route below one dead letter, which is the victim's."""

    def probes(names: Names, _: MadeTenant) -> Iterator[Probe]:
        sent = {"json": body} if method == "PATCH" else {}
        path = f"/api/v1/dead-letters/{names.dead_letter_id}{further}"
        yield method, path, sent
        yield method, path, {**sent, "params": {"tenant_id": names.tenant_id}}

    return probes


def erase(names: Names, _: MadeTenant) -> Iterator[Probe]:
    """The victim's user, whom the stranger's own tenant does not have."""
    route = "/api/v1/users/"
    yield "DELETE", route + names.text, {}
    yield "DELETE", route + names.text, {"params": {"tenant_id": names.tenant_id}}
    for text in HOSTILE:
        yield "DELETE", route + quote(text, safe=""), {}


def start_replay(names: Names, _: MadeTenant) -> Iterator[Probe]:
    path = "/api/v1/replays"
    yield "POST", path, {"json": {"target": "ndjson", "user_id": names.given}}
    for target in ("index", "kafka", "ndjson"):
        yield "POST", path, {"json": {"target": target, "event_type": names.text, "dry_run": True}}
    for text in HOSTILE:
        yield "POST", path, {"json": {"target": "ndjson", "user_id": text, "dry_run": True}}
    for member, value in whose(names):
        yield "POST", path, {"json": {"target": "ndjson", "dry_run": True, member: value}}


def one_replay(method: str, further: str = "") -> Scenario:
    """A route below one replay, which is the victim's."""

    def probes(names: Names, _: MadeTenant) -> Iterator[Probe]:
        path = f"/api/v1/replays/{names.replay_id}{further}"
        yield method, path, {}
        yield method, path, {"params": {"tenant_id": names.tenant_id}}
        yield method, path, {"params": {"after": names.text}}

    return probes


def one_erasure(names: Names, _: MadeTenant) -> Iterator[Probe]:
    path = f"/api/v1/erasures/{names.erasure_id}"
    yield "GET", path, {}
    yield "GET", path, {"params": {"tenant_id": names.tenant_id}}


def platform(method: str, path: str, body: dict[str, Any] | None = None) -> Scenario:
    """A route of the platform, with names in its path: not for tenants, whatever is named."""

    def probes(names: Names, stranger: MadeTenant) -> Iterator[Probe]:
        sent = {} if body is None else {"json": body}
        for tenant_id in (names.tenant_id, stranger.tenant_id):
            target = path.format(tenant_id=tenant_id, client_id=names.client_id, plan_id=names.text)
            yield method, target, sent
        yield method, target, {**sent, "params": {"limit": "1", "cursor": names.clients_cursor}}

    return probes
