"""Token buckets: how many events a tenant, and a client within it, may send now."""
