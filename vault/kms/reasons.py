"""Why a KMS does not give a key: one word each, the same for every service, and never text from outside."""

from __future__ import annotations

from typing import Final

from vault.errors import KeyUnavailable

TRANSIENT: Final = frozenset({"throttled", "unavailable", "timeout", "no_token", "not_yet_valid"})
"""These pass without anybody acting. ``no_token``: nobody gave us what says who we are; why cannot be told.

All others want somebody to look at the key or the rights on it: denied, disabled, expired, not_found, refused, and
not_held, when a wrapping is under another key than ours.
"""


def key_unavailable(kek_id: str, reason: str) -> KeyUnavailable:
    """Return the error that says so."""
    return KeyUnavailable(kek_id, reason, transient=reason in TRANSIENT)


def by_status(status: int) -> str:
    """Say what an HTTP status means where the service says nothing more."""
    if status == 429:
        return "throttled"
    if status in (401, 403):
        return "denied"
    if status == 404:
        return "not_found"
    # 408 and 412 are asked to be tried again; a redirect, which we do not follow, leads to a server that is not ours.
    return "refused" if 400 <= status < 500 and status not in (408, 412) else "unavailable"
