"""Every metric Evergrant exports, in one place. Labels take values from short fixed lists, never ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

kms_calls: Final = Counter("evergrant_kms_calls", "Calls to the KMS that holds the KEK.", ["operation", "outcome"])
"""operation: wrap, unwrap; outcome: ok, error."""

key_cache: Final = Counter("evergrant_kms_key_cache", "Look-ups of a data key in this process's cache.", ["result"])
"""result: hit, miss. Hits are added in lots of up to 1,024, at the latest with the next miss."""

late_answers: Final = Counter(
    "evergrant_refresh_late_answers", "Answers whose parent was not in the row any more, by where they went.", ["place"]
)
"""place: stored, row, candidate, revoke, drop, adopted."""

claims: Final = Counter("evergrant_refresh_claims", "Grants taken for refreshing.")

refreshes: Final = Counter("evergrant_refreshes", "Refreshes by how they ended.", ["outcome"])
"""outcome: stored, and the ends without an answer."""

gets: Final = Counter("evergrant_gets", "Tokens asked for.", ["outcome"])
"""outcome: fresh, stale, waited, pending, reconnect, unknown."""

overdue_seconds: Final = Gauge(
    "evergrant_refresh_overdue_seconds",
    "How long the oldest unclaimed refresh has been due, at the last health check.",
    multiprocess_mode="mostrecent",
)

doorbells: Final = Counter("evergrant_doorbells", "Messages to the workers, by what became of them.", ["outcome"])
"""outcome: sent, failed, dropped."""
