"""Questions about the events of somebody else, and events sent in their name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.e2e.isolation.names import Names
from tests.e2e.isolation.probes import HOSTILE, Probe, Scenario, whose
from tests.system import MadeTenant

WIDE = {"started_at": "1970-01-01", "ended_at": "2100-01-01"}


def filtered(path: str, **always: str) -> Scenario:
    """A read route with each filter set to a name, twice, and to hostile values."""

    def probes(names: Names, _: MadeTenant) -> Iterator[Probe]:
        yield "GET", path, {"params": always}
        for parameter in ("event_type", "eventType", "name"):
            yield "GET", path, {"params": {**always, parameter: names.text}}
        for parameter in ("client_id", "clientId"):
            yield "GET", path, {"params": {**always, parameter: names.client_id}}
        for parameter in ("tenant_id", "tenantId", "tenant", "routing"):
            yield "GET", path, {"params": {**always, parameter: names.tenant_id}}
        yield "GET", path, {"params": [*always.items(), ("event_type", "mine"), ("event_type", names.text)]}
        yield "GET", path, {"params": [*always.items(), ("client_id", names.client_id), ("clientId", "mine")]}
        yield "GET", path, {"params": {**always, "cursor": names.timeline_cursor}}
        for text in HOSTILE:
            yield "GET", path, {"params": {**always, "event_type": text}}
            yield "GET", path, {"params": {**always, "client_id": text}}

    return probes


def timeline(names: Names, _: MadeTenant) -> Iterator[Probe]:
    route = "/api/v1/events/user/"
    yield "GET", route + names.text, {"params": WIDE}
    yield "GET", route + names.text, {"params": {**WIDE, "event_type": names.text}}
    yield "GET", route + names.text, {"params": {**WIDE, "limit": "1", "cursor": names.timeline_cursor}}
    for text in HOSTILE:
        yield "GET", route + quote(text, safe=""), {"params": WIDE}


def search_get(names: Names, stranger: MadeTenant) -> Iterator[Probe]:
    path = "/api/v1/events/search"
    yield from filtered(path)(names, stranger)
    for text in (names.text, f'"{names.text}"', f"tenant_id:{names.tenant_id}", *HOSTILE):
        yield "GET", path, {"params": {"q": text}}
    yield "GET", path, {"params": {"user_id": names.text, "sort": "newest"}}
    yield "GET", path, {"params": {"limit": "1", "sort": "newest", "cursor": names.search_cursor}}
    for sort in ("tenant_id", "_score", '{"_script":{}}', "timestamp:asc,tenant_id", names.text):
        yield "GET", path, {"params": {"sort": sort}}


def search_post(names: Names, _: MadeTenant) -> Iterator[Probe]:
    path = "/api/v1/events/search"
    bodies: tuple[dict[str, Any], ...] = (
        *({"q": text} for text in (names.text, f'"{names.text}"', *HOSTILE)),
        {"user_id": names.text},
        {"userId": names.text},
        {"event_type": names.text},
        {"client_id": names.client_id},
        {"tenant_id": names.tenant_id},
        {"tenantId": names.tenant_id},
        {"tenant_id": names.tenant_id, "tenantId": names.tenant_id},
        {"routing": names.tenant_id},
        {"preference": names.tenant_id},
        {"q": {"match_all": {}}},
        {"query": {"match_all": {}}},
        {"event_type": {"terms": [names.text]}},
        {"event_type": [names.text]},
        {"sort": [{"tenant_id": "asc"}]},
        {"sort": {"_script": {"type": "string", "script": "doc['tenant_id'].value"}}},
        {"limit": 1, "sort": "newest", "cursor": names.search_cursor},
        {"cursor": [names.text]},
        {"search_after": [names.text]},
        {"aggs": {"t": {"terms": {"field": "tenant_id"}}}},
        {"facets": ["tenant_id"]},
        {"index": "*"},
        {"runtime_mappings": {}},
        {"_source": ["tenant_id"]},
    )
    for body in bodies:
        yield "POST", path, {"json": body}
    twice = b'{"user_id": "mine", "user_id": "%b"}' % names.text.encode()
    yield "POST", path, {"content": twice, "headers": {"Content-Type": "application/json"}}
    yield "POST", path, {"json": {}, "params": {"tenant_id": names.tenant_id, "user_id": names.text}}


def send_event(names: Names, _: MadeTenant) -> Iterator[Probe]:
    # Its own event with the victim's ids: taken, and the victim's stays what it is.
    yield "POST", "/api/v1/events", {"json": {"event_type": "mine", "event_id": names.given, "user_id": "mine"}}
    for member, value in whose(names):
        yield "POST", "/api/v1/events", {"json": {"event_type": "mine", member: value}}
    yield "POST", "/api/v1/events", {"json": {"event_type": "mine"}, "params": {"tenant_id": names.tenant_id}}


def send_batch(names: Names, _: MadeTenant) -> Iterator[Probe]:
    yield "POST", "/api/v1/events/batch", {"json": [{"event_type": "mine", "event_id": names.given}]}
    for member, value in whose(names):
        yield "POST", "/api/v1/events/batch", {"json": {"events": [{"event_type": "mine"}], member: value}}
