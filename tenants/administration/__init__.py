"""The platform's side of tenants over HTTP: tenants, plans, usage and audit of all."""
