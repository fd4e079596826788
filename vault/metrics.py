"""Every metric Evergrant exports, in one place. Labels take values from short fixed lists, never ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

kms_calls: Final = Counter("evergrant_kms_calls", "Calls to the KMS that holds the KEK.", ["operation", "outcome"])
"""operation: wrap, unwrap, describe; outcome: ok, error."""

kms_encrypt_seconds: Final = Histogram(
    "evergrant_kms_encrypt_duration_seconds", "How long the KMS took to wrap a key.", buckets=_SECONDS
)
kms_decrypt_seconds: Final = Histogram(
    "evergrant_kms_decrypt_duration_seconds", "How long the KMS took to unwrap a key.", buckets=_SECONDS
)
kms_encrypt_errors: Final = Counter("evergrant_kms_encrypt_errors", "Keys the KMS did not wrap.", ["cause"])
kms_decrypt_errors: Final = Counter("evergrant_kms_decrypt_errors", "Keys the KMS did not unwrap.", ["cause"])
"""cause: unavailable (it passes), refused (somebody must act), integrity (the ciphertext or its context is wrong)."""

key_cache: Final = Counter("evergrant_kms_key_cache", "Look-ups of a data key in this process's cache.", ["result"])
"""result: hit, miss. Hits are added in lots of up to 1,024, at the latest with the next miss."""

key_cache_size: Final = Gauge(
    "evergrant_kms_cache_size", "Data keys held unwrapped, in all processes together.", multiprocess_mode="livesum"
)

keys_kept: Final = Counter(
    "evergrant_kms_kept_keys", "Times a tenant key served beyond its life because its KMS gave no answer."
)

CACHE_HIT_RATE: Final = "evergrant_kms_cache_hit_rate"
"""Share of look-ups answered by the cache, of all processes since they began; made when metrics are read."""

late_answers: Final = Counter(
    "evergrant_refresh_late_answers", "Answers whose parent was not in the row any more, by where they went.", ["place"]
)
"""place: stored, row, candidate, revoke, drop, adopted."""

claims: Final = Counter("evergrant_refresh_claims", "Grants taken for refreshing.")

refreshes: Final = Counter("evergrant_refreshes", "Refreshes by how they ended.", ["outcome"])
"""outcome: stored, and the ends without an answer."""

client_secrets_refused: Final = Counter(
    "evergrant_client_secrets_refused", "Client secrets of ours that a provider refused.", ["instead"]
)
"""instead: other (the registration's other secret is used), nothing (there is none that would do)."""

gets: Final = Counter("evergrant_gets", "Tokens asked for.", ["outcome"])
"""outcome: fresh, stale, waited, pending, reconnect, unknown."""

validations: Final = Counter("evergrant_validations", "Tokens that were validated.", ["kind", "outcome"])
"""kind: session, bearer, connection; outcome: valid, unavailable, pending, reconnect, error, or why it was refused."""
introspections: Final = Counter(
    "evergrant_introspections", "Issuers asked about a token, by what they said.", ["outcome"]
)
"""outcome: active, inactive, unanswered."""

audit_linked: Final = Counter("evergrant_audit_linked", "Rows of the audit that were linked to their chains.")
event_deliveries: Final = Counter(
    "evergrant_event_deliveries", "Attempts to deliver an event, by how they ended.", ["outcome"]
)
"""outcome: delivered, retried, failed (it was the last), gone (410: the endpoint is disabled), unsent (no key)."""

events_overdue_seconds: Final = Gauge(
    "evergrant_events_overdue_seconds",
    "How long the oldest delivery in nobody's hands has been due, at the last health check.",
    multiprocess_mode="mostrecent",
)

overdue_seconds: Final = Gauge(
    "evergrant_refresh_overdue_seconds",
    "How long the oldest unclaimed refresh has been due, at the last health check.",
    multiprocess_mode="mostrecent",
)

audit_lag_seconds: Final = Gauge(
    "evergrant_audit_lag_seconds",
    "How long ago the oldest act was told that is not linked to its chain, at the last health check.",
    multiprocess_mode="mostrecent",
)

workers_alive: Final = Gauge(
    "evergrant_workers_alive",
    "Workers that gave a sign of life, at the last health check.",
    multiprocess_mode="mostrecent",
)

rotations_stuck: Final = Gauge(
    "evergrant_rotations_stuck",
    "Rotations of credentials that do not come on, at the last health check.",
    multiprocess_mode="mostrecent",
)

http_requests: Final = Counter("evergrant_http_requests", "Requests over HTTP.", ["endpoint", "status"])
"""endpoint: its template, or none; status: the code."""

http_seconds: Final = Histogram(
    "evergrant_http_request_duration_seconds", "How long answers over HTTP took.", ["endpoint"], buckets=_SECONDS
)
http_reads_untold: Final = Gauge(
    "evergrant_http_reads_untold",
    "Reads of tokens over HTTP that the audit is still to be told of.",
    multiprocess_mode="livesum",
)
http_limits_local: Final = Counter(
    "evergrant_http_limits_local", "Looks at a rate in which Redis had no say, as it was away."
)

doorbells: Final = Counter("evergrant_doorbells", "Messages to the workers, by what became of them.", ["outcome"])
"""outcome: sent, failed, dropped."""
