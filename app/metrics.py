"""Every metric's name, type and meaning, in one place. Counts happen where the thing happens."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

INGESTED = Counter("sluice_ingest_events_total", "Events by what became of them at the gateway.", ["outcome"])
ACCEPTED = INGESTED.labels("accepted")
REJECTED = INGESTED.labels("rejected")
THROTTLED = INGESTED.labels("throttled")
UNKNOWN = INGESTED.labels("unknown")

INGEST_SECONDS = Histogram(
    "sluice_ingest_duration_seconds",
    "Time from the request's headers to its answer, for events that were accepted.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LIMITER_CALLS = Counter("sluice_limiter_calls_total", "Calls of the token bucket script.")
LIMITER_FALLBACK = Counter(
    "sluice_limiter_fallback_total", "Requests that were limited by this process alone, because Redis did not answer."
)
USAGE_UNWRITTEN = Counter(
    "sluice_usage_unwritten_total", "Rejected and throttled events that were left out of usage: too many were waiting."
)
RECORDS_PUBLISHED = Counter("sluice_records_published_total", "Kafka records acknowledged by all in-sync replicas.")
PENDING_BYTES = Gauge("sluice_publish_pending_bytes", "Bytes waiting for Kafka in this process.")

THROTTLED_REQUESTS = Counter(
    "sluice_throttled_requests_total", "Requests that a limit of token, admin or query routes refused.", ["limit"]
)
REQUESTS = Counter(
    "sluice_http_requests_total", "Answers by method, route and status class.", ["method", "route", "status"]
)
REQUEST_SECONDS = Histogram("sluice_http_request_duration_seconds", "Time to answer, ingest apart.", ["route"])

WORKER_RECORDS = Counter("sluice_worker_records_total", "Kafka records handled.", ["worker"])
WORKER_EVENTS = Counter("sluice_worker_events_total", "Events by what a worker did with them.", ["worker", "outcome"])
WORKER_BATCH_SECONDS = Histogram("sluice_worker_batch_duration_seconds", "Time to handle one batch.", ["worker"])
WORKER_RETRIES = Counter("sluice_worker_retries_total", "Batches that were tried again, by cause.", ["worker", "cause"])
DEAD_LETTERS = Counter("sluice_dead_letters_total", "Dead letters written, by worker and reason.", ["worker", "reason"])
DEAD_LETTER_RETRIES = Counter(
    "sluice_dead_letter_retries_total", "Dead letters that were tried again, by outcome.", ["outcome"]
)
DEAD_LETTERS_OPEN = Gauge("sluice_dead_letters_open", "Dead letters that nothing was done about yet.")
QUOTA_NOTICES = Counter(
    "sluice_quota_notices_total", "Tenants that reached a share of their monthly quota, by percent.", ["percent"]
)
WORKER_FRESHNESS = Histogram(
    "sluice_worker_freshness_seconds",
    "Time from the gateway closing a record to this worker having handled it.",
    ["worker"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300),
)
MAINTAIN_REMOVED = Counter(
    "sluice_maintain_removed_total",
    "Rows, documents and keys that were removed, by reason and place.",
    ["reason", "place"],
)
DELETIONS_OPEN = Gauge("sluice_tenant_deletions_open", "Tenants that are still being deleted.")
ERASURES_OPEN = Gauge("sluice_erasures_open", "Users who are still being erased.")
REPLAYED = Counter("sluice_replayed_events_total", "Events that were sent again, by target.", ["target"])
