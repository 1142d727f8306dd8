"""What a stranger adds to a request beside its token, to be taken for the victim."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.isolation.names import Names
from tests.e2e.isolation.probes import Probe


def headers(probe: Probe, names: Names) -> Probe:
    """Headers in which proxies and frameworks elsewhere pass on who somebody is, or another method or path."""
    claimed = {
        **dict.fromkeys(("X-Tenant-Id", "Tenant-Id", "X-Tenant", "X-Sluice-Tenant", "X-Org-Id"), names.tenant_id),
        "X-Client-Id": names.client_id,
        "X-Forwarded-User": names.client_id,
        "X-HTTP-Method-Override": "DELETE",
        "X-HTTP-Method": "DELETE",
        "X-Method-Override": "DELETE",
        "X-Original-URL": f"/api/v1/clients/{names.client_id}",
        "X-Rewrite-URL": f"/api/v1/clients/{names.client_id}",
        "X-Forwarded-Prefix": f"/{names.tenant_id}",
        "Forwarded": f"for=127.0.0.1;host={names.tenant_id}",
        "X-Access-Token": names.token,
    }
    method, path, further = probe
    return method, path, {**further, "headers": claimed | further.get("headers", {})}


def cookies(probe: Probe, names: Names) -> Probe:
    """Cookies, of which there are none here."""
    method, path, further = probe
    return method, path, {**further, "headers": {"Cookie": f"tenant_id={names.tenant_id}; access_token={names.token}"}}


def parameters(probe: Probe, names: Names) -> Probe:
    """Query parameters, in both spellings at once; the token is looked for in none (RFC 6750 section 2.3)."""
    method, path, further = probe
    asked = further.get("params", {})
    pairs = list(asked.items()) if isinstance(asked, dict) else list(asked)
    claimed = [("tenant_id", names.tenant_id), ("tenantId", names.tenant_id), ("access_token", names.token)]
    return method, path, {**further, "params": [*pairs, *claimed]}


TAMPERINGS: dict[str, Callable[[Probe, Names], Probe]] = {
    "headers": headers,
    "cookies": cookies,
    "parameters": parameters,
}
