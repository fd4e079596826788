"""A KMS behind a circuit breaker, timed and counted.

Failures that pass (throttled, no answer) open the breaker: then nobody asks until the pause is over, and one caller
tries. Refusals are answers; they close it. So a KMS in trouble is not asked by every thread, each of which would wait
for its time-outs, and a KMS that is back is noticed within half a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Final, TypeVar

import structlog

from vault.errors import CannotOpen, KeyUnavailable
from vault.forks import in_children
from vault.metrics import kms_calls, kms_decrypt_errors, kms_decrypt_seconds, kms_encrypt_errors, kms_encrypt_seconds
from vault.ports import Kms, WrappedKey

log = structlog.get_logger(__name__)

TRIP_AFTER: Final = 5
"""Failures in a row that open the breaker ..."""
TRIP_AFTER_S: Final = 5.0
"""... or seconds waited for them: a KMS that does not answer holds up whoever asks, such as a worker with a thousand
refreshes of tenants whose keys it has, once for every tenant whose key it has not."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
"""Recovery is noticed within this."""
PROBE_LIFE_S: Final = 20.0
"""A probe of which nothing is heard for so long is not waited for."""

V = TypeVar("V")


class GuardedKms:
    """Asks a KMS, unless asking has just been in vain. Thread-safe."""

    def __init__(self, kms: Kms, monotonic: Callable[[], float]) -> None:
        self._kms, self._monotonic = kms, monotonic
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = Lock()
        self._failures, self._pauses, self._closed_until, self._probing = 0, 0, 0.0, False
        self._waited = 0.0
        self._failed_with: KeyUnavailable | None = None

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """See ``Kms.wrap``."""
        with kms_encrypt_seconds.time():
            return self._ask("wrap", partial(self._kms.wrap, key, context))

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """See ``Kms.unwrap``."""
        with kms_decrypt_seconds.time():
            return self._ask("unwrap", partial(self._kms.unwrap, wrapped, context))

    def describe(self) -> str:
        """See ``Kms.describe``."""
        return self._ask("describe", self._kms.describe)

    def holds(self, kek_id: str) -> bool:
        """See ``Kms.holds``."""
        return self._kms.holds(kek_id)

    def _ask(self, operation: str, question: Callable[[], V]) -> V:
        try:
            self._may_ask()
            answer = self._answered(question)
        except KeyUnavailable as error:
            _count(operation, "unavailable" if error.transient else "refused")
            raise
        except CannotOpen:
            _count(operation, "integrity")
            log.error("kms.integrity", operation=operation)  # damaged, moved or swapped at rest: somebody must look
            raise
        kms_calls.labels(operation, "ok").inc()
        return answer

    def _answered(self, question: Callable[[], V]) -> V:
        asked_at = self._monotonic()
        try:
            answer = question()
        except KeyUnavailable as error:
            self._heard(error if error.transient else None, self._monotonic() - asked_at)
            raise
        except CannotOpen:
            self._heard(None)
            raise
        self._heard(None)
        return answer

    def _may_ask(self) -> None:
        if not self._pauses:  # read without the lock: being late by one call harms nobody
            return
        with self._lock:
            now, error = self._monotonic(), self._failed_with
            if error is not None and now < self._closed_until:
                raise KeyUnavailable(error.key_id, error.reason, transient=True)
            self._closed_until, self._probing = now + PROBE_LIFE_S, True  # one asks, the others hear what was said last

    def _heard(self, error: KeyUnavailable | None, waited: float = 0.0) -> None:
        if error is None and not self._failures:
            return
        with self._lock:
            if error is None:
                self._failures, self._pauses, self._probing, self._failed_with = 0, 0, False, None
                self._waited = 0.0
                return
            self._failures, self._waited, self._failed_with = self._failures + 1, self._waited + waited, error
            enough = self._failures >= TRIP_AFTER or self._waited >= TRIP_AFTER_S
            if self._probing or (not self._pauses and enough):
                pause = FIRST_PAUSE_S * (1 << min(self._pauses, 16))
                self._closed_until = self._monotonic() + min(LONGEST_PAUSE_S, pause)
                self._pauses, self._probing = self._pauses + 1, False


def _count(operation: str, cause: str) -> None:
    kms_calls.labels(operation, "error").inc()
    if operation == "wrap":
        kms_encrypt_errors.labels(cause).inc()
    elif operation == "unwrap":
        kms_decrypt_errors.labels(cause).inc()
