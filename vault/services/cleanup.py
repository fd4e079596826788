"""Removing what has had its day."""

from __future__ import annotations

from collections.abc import Mapping

from vault.ports import CleanupStore


class Cleaning:
    """The use case behind ``vault.cleanup``."""

    def __init__(self, store: CleanupStore) -> None:
        self._store = store

    def run(self, *, dry_run: bool) -> Mapping[str, int]:
        """Remove outdated rows, or count them; returns how many of what."""
        return self._store.sweep(dry_run=dry_run)
