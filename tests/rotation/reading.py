"""A web app that asks for tokens at a steady pace, and looks at each."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from vault import Vault

THREADS = 4


@dataclass
class Reading:
    """What came of it."""

    seconds: float = 0.0
    reads: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Reads that ended with an error, by what it said."""
    changes: list[tuple[UUID, str]] = field(default_factory=list)
    """Tokens other than the one before, in the order in which they came for each connection. To be judged."""
    took: list[float] = field(default_factory=list)
    """Seconds a read took, each."""
    latest: float = 0.0
    """Seconds by which a read came too late, at most, as the reader was kept from running."""


class Readers:
    """Some threads, each with connections of its own, so that what it reads of one comes in order."""

    def __init__(self, environment: Mapping[str, str], known: dict[UUID, tuple[str, str]], rate: int) -> None:
        """Nothing is read yet.

        Args:
            environment: Of the vault.
            known: By connection its tenant, and its token when reading begins.
            rate: Reads a second, of all threads together.
        """
        self._vault = Vault.from_env(environment)
        self._every = THREADS / rate
        self._ended = threading.Event()
        self._result = Reading()
        self._lock = threading.Lock()
        ids = list(known)
        self._threads = [
            threading.Thread(target=self._read, args=(n, {each: known[each] for each in ids[n::THREADS]}), daemon=True)
            for n in range(THREADS)
        ]

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def close(self) -> Reading:
        """Stop; returns what came of it."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        self._result.seconds = time.monotonic() - self._began
        self._vault.close()
        return self._result

    def _read(self, number: int, known: dict[UUID, tuple[str, str]]) -> None:
        """Read at fixed instants: who comes late goes on at once, and misses none."""
        choose, ids, mine = random.Random(number), list(known), Reading()
        vaults = {tenant: self._vault.for_tenant(tenant) for tenant, _ in known.values()}
        due = self._began + self._every * number / THREADS
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            mine.latest = max(mine.latest, began - due)
            due += self._every
            each = choose.choice(ids)
            tenant, before = known[each]
            mine.reads += 1
            try:
                token = vaults[tenant].get(each).access_token.reveal()
            except Exception as error:  # noqa: BLE001  # whatever it is, the app got no token
                mine.failed[f"{type(error).__name__}: {error}"] += 1
                continue
            mine.took.append(time.monotonic() - began)
            if token != before:
                known[each] = (tenant, token)
                mine.changes.append((each, token))
        self._add(mine)

    def _add(self, mine: Reading) -> None:
        with self._lock:
            all_of_it = self._result
            all_of_it.reads += mine.reads
            all_of_it.failed += mine.failed
            all_of_it.changes += mine.changes
            all_of_it.took += mine.took
            all_of_it.latest = max(all_of_it.latest, mine.latest)
