"""What each runtime role is meant to hold on each relation, by name: a grant that is not here fails a test.

`select (a, b)` is held on these columns only, sorted by name.
"""

from __future__ import annotations

_CLIENT = "burst, client_id, events_per_second, jwks, name, networks, scopes, tenant_id"
# Not when: that is PostgreSQL's to say.
_AUDITED = "action, actor, actor_kind, address, detail, request_id, subject, tenant_id"
_CHANGEABLE_OF_CLIENT = "burst, events_per_second, jwks, name, networks, revoked_at, scopes"
_READ_OF_CLIENT = "burst, client_id, created_at, events_per_second, jwks, name, networks, revoked_at, scopes, tenant_id"
ALL = {"select", "insert", "update", "delete"}

APP: dict[str, set[str]] = {
    "events": {"select"},
    "aggregated_events": {"select"},
    "event_count_by_day": {"select"},
    "oauth_clients": {f"select ({_READ_OF_CLIENT})", f"insert ({_CLIENT})", f"update ({_CHANGEABLE_OF_CLIENT})"},
    # Hashes can be written, never read.
    "client_secrets": {
        "select (client_id, created_at, expires_at, secret_id, tenant_id)",
        "insert (client_id, expires_at, secret_hash, secret_id, tenant_id)",
        "update (expires_at)",
        "delete",
    },
    "client_uses": {"select"},
    "usage": {"select"},
    "monthly_usage": {"select"},
    "quota_notices": {"select"},
    "audit_log": {"select", f"insert ({_AUDITED})"},
}
WORKER: dict[str, set[str]] = {
    "events": {"select", "insert", "delete"},
    "aggregated_events": ALL,
    "dead_letters": {"select", "insert", "delete"},
    "stream_offsets": {"select", "insert", "update"},
    "tenants": {"select (plan_id, status, tenant_id)", "update (fence)"},
    "plans": {"select"},
    # What is exact is the store worker's, what is best effort the gateway's.
    "usage": {
        "select",
        "insert (bytes, client_id, duplicates, hour, stored, tenant_id)",
        "update (bytes, duplicates, stored)",
        "delete",
    },
    "monthly_usage": ALL,
    "quota_notices": {"select", "insert", "delete"},
    "tenant_deletions": {"select (deleted, tenant_id)", "update (deleted)"},
}
AUTH: dict[str, set[str]] = {
    "plans": ALL,
    "control_version": {"select"},
    "tenants": {"select", "insert", "update"},
    "oauth_clients": ALL,
    "client_secrets": ALL,
    "client_uses": ALL,
    "client_assertions": ALL,
    "signing_keys": ALL,
    "token_revocations": {"select", "insert", "delete"},
    "usage": {
        "select",
        "insert (client_id, hour, rejected, tenant_id, throttled)",
        "update (rejected, throttled)",
    },
    "monthly_usage": {"select"},
    "quota_notices": {"select"},
    "audit_log": {"select", f"insert ({_AUDITED})"},
    "tenant_deletions": {"select", "insert", "update"},
}

GRANTED = {
    (role, table): privileges
    for role, tables in (("sluice_app", APP), ("sluice_worker", WORKER), ("sluice_auth", AUTH))
    for table, privileges in tables.items()
}
