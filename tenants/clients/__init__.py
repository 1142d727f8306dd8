"""A tenant's clients, as the tenant and the platform manage them: rules, changes, views, endpoints."""
