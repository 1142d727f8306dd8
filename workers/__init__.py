"""Consumers of `events.raw`: the loop that knows no domain, and one module a worker."""
