"""Every metric Evergrant exports, in one place. Labels take values from short fixed lists, never ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

kms_calls: Final = Counter("evergrant_kms_calls", "Calls to the KMS that holds the KEK.", ["operation", "outcome"])
"""operation: wrap, unwrap; outcome: ok, error."""

key_cache: Final = Counter("evergrant_kms_key_cache", "Look-ups of a data key in this process's cache.", ["result"])
"""result: hit, miss. Hits are added in lots of up to 1,024, at the latest with the next miss."""
