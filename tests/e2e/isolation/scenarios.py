"""What a stranger asks of each route about a victim: the table that every new route needs an entry in."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.isolation.names import Names
from tests.e2e.isolation.of_events import filtered, search_get, search_post, send_batch, send_event, timeline
from tests.e2e.isolation.of_management import (
    erase,
    make_client,
    oauth_token,
    of_a_token,
    one_client,
    one_erasure,
    one_letter,
    one_replay,
    paged,
    platform,
    start_replay,
    usage,
)
from tests.e2e.isolation.probes import Probe, Scenario
from tests.system import MadeTenant


def plain(method: str, path: str) -> Scenario:
    """A route that takes no names."""

    def probes(names: Names, _: MadeTenant) -> Iterator[Probe]:
        yield method, path, {}
        yield method, path, {"params": {"tenant_id": names.tenant_id}}

    return probes


_SECRET = "/secrets/{secret_id}"
_REPLAYS = "/api/v1/replays"
_LETTERS = "/api/v1/dead-letters"
_TENANT = "/api/v1/admin/tenants/{tenant_id}"
_CLIENT_OF_TENANT = f"{_TENANT}/clients/{{client_id}}"
_PLAN = "/api/v1/admin/plans/{plan_id}"

SCENARIOS: dict[tuple[str, str], Scenario] = {
    ("POST", "/oauth/token"): oauth_token,
    ("POST", "/oauth/revoke"): of_a_token("/oauth/revoke"),
    ("POST", "/oauth/introspect"): of_a_token("/oauth/introspect"),
    ("GET", "/.well-known/oauth-authorization-server"): plain("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/jwks.json"): plain("GET", "/.well-known/jwks.json"),
    ("GET", "/api/v1/health"): plain("GET", "/api/v1/health"),
    ("GET", "/api/v1/ready"): plain("GET", "/api/v1/ready"),
    ("GET", "/api/v1/events/count"): filtered("/api/v1/events/count"),
    ("GET", "/api/v1/events/trend"): filtered("/api/v1/events/trend", interval="daily"),
    ("GET", "/api/v1/events/stats"): filtered("/api/v1/events/stats"),
    ("GET", "/api/v1/events/user/{user_id}"): timeline,
    ("GET", "/api/v1/events/search"): search_get,
    ("POST", "/api/v1/events/search"): search_post,
    ("POST", "/api/v1/events"): send_event,
    ("POST", "/api/v1/events/batch"): send_batch,
    ("GET", "/api/v1/usage"): usage,
    ("GET", "/api/v1/limits"): plain("GET", "/api/v1/limits"),
    ("GET", "/api/v1/audit"): paged("/api/v1/audit", "audit_cursor", action="text", actor="client_id"),
    ("GET", "/api/v1/clients"): paged("/api/v1/clients", "clients_cursor", client_id="client_id"),
    ("POST", "/api/v1/clients"): make_client,
    ("GET", "/api/v1/clients/{client_id}"): one_client("GET"),
    ("PATCH", "/api/v1/clients/{client_id}"): one_client("PATCH", name="taken"),
    ("DELETE", "/api/v1/clients/{client_id}"): one_client("DELETE"),
    ("POST", "/api/v1/clients/{client_id}/secrets"): one_client("POST", "/secrets", old_expires_in=0),
    ("PATCH", "/api/v1/clients/{client_id}/secrets/{secret_id}"): one_client("PATCH", _SECRET, expires_at=None),
    ("DELETE", "/api/v1/clients/{client_id}/secrets/{secret_id}"): one_client("DELETE", _SECRET),
    ("GET", _LETTERS): paged(_LETTERS, "letters_cursor", status="text", reason="text", event_id="text"),
    # None of the stranger's own: what is done to one is no longer there for the next probe.
    ("POST", f"{_LETTERS}/retry"): plain("POST", f"{_LETTERS}/retry?started_at=2100-01-01"),
    ("POST", f"{_LETTERS}/discard"): plain("POST", f"{_LETTERS}/discard?started_at=2100-01-01"),
    ("GET", f"{_LETTERS}/{{dead_letter_id}}"): one_letter("GET"),
    ("PATCH", f"{_LETTERS}/{{dead_letter_id}}"): one_letter("PATCH", event_type="taken"),
    ("POST", f"{_LETTERS}/{{dead_letter_id}}/retry"): one_letter("POST", "/retry"),
    ("POST", f"{_LETTERS}/{{dead_letter_id}}/discard"): one_letter("POST", "/discard"),
    ("GET", _REPLAYS): paged(_REPLAYS, "replays_cursor", user_id="text"),
    ("POST", _REPLAYS): start_replay,
    ("GET", f"{_REPLAYS}/{{replay_id}}"): one_replay("GET"),
    ("GET", f"{_REPLAYS}/{{replay_id}}/events"): one_replay("GET", "/events"),
    ("POST", f"{_REPLAYS}/{{replay_id}}/pause"): one_replay("POST", "/pause"),
    ("POST", f"{_REPLAYS}/{{replay_id}}/resume"): one_replay("POST", "/resume"),
    ("POST", f"{_REPLAYS}/{{replay_id}}/cancel"): one_replay("POST", "/cancel"),
    ("DELETE", "/api/v1/users/{user_id}"): erase,
    ("GET", "/api/v1/erasures"): paged("/api/v1/erasures", "erasures_cursor", user_id="text"),
    ("GET", "/api/v1/erasures/{erasure_id}"): one_erasure,
    ("GET", "/api/v1/admin/tenants"): platform("GET", "/api/v1/admin/tenants"),
    ("POST", "/api/v1/admin/tenants"): platform("POST", "/api/v1/admin/tenants", {"name": "mine"}),
    ("GET", _TENANT): platform("GET", _TENANT),
    ("DELETE", _TENANT): platform("DELETE", _TENANT),
    ("PUT", f"{_TENANT}/plan"): platform("PUT", f"{_TENANT}/plan", {"plan": "free"}),
    ("POST", f"{_TENANT}/suspend"): platform("POST", f"{_TENANT}/suspend"),
    ("POST", f"{_TENANT}/resume"): platform("POST", f"{_TENANT}/resume"),
    ("GET", f"{_TENANT}/deletion"): platform("GET", f"{_TENANT}/deletion"),
    ("GET", f"{_TENANT}/usage"): platform("GET", f"{_TENANT}/usage"),
    ("GET", "/api/v1/admin/plans"): platform("GET", "/api/v1/admin/plans"),
    ("PUT", _PLAN): platform("PUT", _PLAN, {"events_per_second": 1, "burst": 1}),
    ("DELETE", _PLAN): platform("DELETE", _PLAN),
    ("GET", "/api/v1/admin/audit"): platform("GET", "/api/v1/admin/audit?tenant_id={tenant_id}"),
    ("POST", f"{_TENANT}/clients"): platform("POST", f"{_TENANT}/clients", {"name": "mine"}),
    ("DELETE", _CLIENT_OF_TENANT): platform("DELETE", _CLIENT_OF_TENANT),
}
