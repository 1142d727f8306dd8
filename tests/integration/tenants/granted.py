"""What each runtime role is meant to hold on each relation, by name: a grant that is not here fails a test.

`select (a, b)` is held on these columns only, sorted by name.
"""

from __future__ import annotations

_CLIENT = "burst, client_id, events_per_second, jwks, name, networks, scopes, tenant_id"
# Not when: that is PostgreSQL's to say.
_AUDITED = "action, actor, actor_kind, address, detail, request_id, subject, tenant_id"
_CHANGEABLE_OF_CLIENT = "burst, events_per_second, jwks, name, networks, revoked_at, scopes"
_READ_OF_CLIENT = "burst, client_id, created_at, events_per_second, jwks, name, networks, revoked_at, scopes, tenant_id"
_READ_OF_REPLAY = (
    "at_event_id, at_timestamp, attempts, due_at, ended_at, event_type, events_per_second, finished_at, moved_at, "
    "problem, rate, refused, replay_id, requested_at, sent, slot, started_at, state, target, tenant_id, total, "
    "total_estimated, user_id, webhook_url"
)
_REPLAY = (
    "ended_at, event_type, events_per_second, replay_id, requested_at, slot, started_at, target, tenant_id, total, "
    "total_estimated, user_id, webhook_secret, webhook_url"
)
_CHANGEABLE_OF_REPLAY = (
    "at_event_id, at_timestamp, attempts, due_at, finished_at, moved_at, problem, rate, sent, state, total, "
    "total_estimated, webhook_secret"
)
# A tenant decides what becomes of its dead letters, and can't change what they say went wrong.
_DECIDED_OF_LETTER = "changed_at, event_id, event_type, retry_payload, status, user_id"
_CHANGEABLE_OF_LETTER = (
    "attempts, changed_at, copied_at, detail, event_id, event_type, reason, retry_payload, status, user_id"
)
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
    "dead_letters": {"select", f"update ({_DECIDED_OF_LETTER})"},
    "replays": {f"select ({_READ_OF_REPLAY})", f"insert ({_REPLAY})", f"update ({_CHANGEABLE_OF_REPLAY})"},
    "erasures": {"select", "insert (tenant_id, user_hash, user_id)"},
    # To lock the row; the policy lets nothing of it be changed.
    "tenants": {"select (tenant_id)", "update (fence)"},
}
WORKER: dict[str, set[str]] = {
    "events": {"select", "insert", "delete"},
    "aggregated_events": ALL,
    "dead_letters": {"select", "insert", f"update ({_CHANGEABLE_OF_LETTER})", "delete"},
    "audit_log": {f"insert ({_AUDITED})"},
    "stream_offsets": {"select", "insert", "update"},
    "search_rebuilds": ALL,
    "tenants": {"select (plan_id, shards, status, tenant_id)", "update (fence)"},
    "plans": {"select"},
    # What is exact is the store worker's, what is best effort the gateway's.
    "usage": {
        "select",
        "insert (bytes, client_id, duplicates, hour, stored, tenant_id)",
        "update (bytes, duplicates, removed, removed_bytes, stored)",
        "delete",
    },
    "monthly_usage": ALL,
    "quota_notices": {"select", "insert", "delete"},
    "tenant_deletions": {"select (deleted, tenant_id)", "update (deleted)"},
    "erasures": {"select", "update (deleted, step)", "delete"},
}
AUTH: dict[str, set[str]] = {
    # Which are due, and not what is in them.
    "dead_letters": {"select (changed_at, copied_at, created_at, dead_letter_id, status, tenant_id, worker)"},
    "replays": ALL,
    "search_rebuilds": {"select"},
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
    # Not who.
    "erasures": {
        "select (cut_at, deleted, erasure_id, finished_at, kafka_until, problem, step, tenant_id, user_hash)",
        "insert (tenant_id, user_hash, user_id)",
        "update (finished_at, kafka_until, problem, step, user_id)",
    },
}

GRANTED = {
    (role, table): privileges
    for role, tables in (("sluice_app", APP), ("sluice_worker", WORKER), ("sluice_auth", AUTH))
    for table, privileges in tables.items()
}
