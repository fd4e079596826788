"""What is left to be done for connections that have ended, and rows that have had their day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from vault.claims import Revocation


class RevocationStore(Protocol):
    """Tokens that a provider must be told to forget."""

    def take_revocations(self, limit: int, lease: timedelta) -> list[Revocation]:
        """Due ones, each counted as tried and put off by ``lease``, and by twice as much after each further try."""

    def end_revocation(self, revocation: Revocation, outcome: str) -> None:
        """Forget one, with an audit row that says how it ended."""


class CleanupStore(Protocol):
    """Rows that have had their day."""

    def sweep(self, *, dry_run: bool) -> Mapping[str, int]:
        """Remove them, or only count them; returns how many of what."""
