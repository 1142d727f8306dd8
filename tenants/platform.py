"""The platform's own tenant: it holds the administrators' clients, and dead letters that belong to nobody."""

from uuid import UUID

PLATFORM_TENANT_ID = UUID(int=0)
