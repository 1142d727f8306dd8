"""What a client may be allowed to do. Names are part of the API; the descriptions are shown to people in /docs.

Refuses to own who holds which: that is a client's row (`auth.clients`) and a token's claim (`auth.tokens`).
"""

from __future__ import annotations

EVENTS_WRITE = "events:write"
EVENTS_READ = "events:read"
TENANT_ADMIN = "tenant:admin"
PLATFORM_ADMIN = "platform:admin"

SCOPES = {
    EVENTS_WRITE: "Send events.",
    EVENTS_READ: "Read the tenant's events: timelines, counts, trends, statistics, search, export, live.",
    TENANT_ADMIN: "Manage the tenant: its clients, limits, usage, rules, webhooks, schemas, replays, erasure.",
    PLATFORM_ADMIN: "Manage tenants and plans. Only clients of the platform's own tenant can hold it.",
}

TENANT_SCOPES = (EVENTS_WRITE, EVENTS_READ, TENANT_ADMIN)
"""What a client of an ordinary tenant can hold; the first client of a new tenant holds all of it."""
