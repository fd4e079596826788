"""Tokens that can be recognised anywhere: a canary prefix, then random characters.

Whoever finds `cnry-` in a log, a queue message or a dump has found a leak.
"""

from __future__ import annotations

import base64
import os

CANARY = "cnry-"
ACCESS_TOKEN_PREFIX = CANARY + "at-"
REFRESH_TOKEN_PREFIX = CANARY + "rt-"
CODE_PREFIX = CANARY + "code-"
CLIENT_SECRET_PREFIX = CANARY + "cs-"

_POOL_BYTES = 48 * 1024  # a multiple of three, so that base64 needs no padding


class Mint:
    """Makes tokens from a pool of operating-system randomness: one system call serves a thousand tokens."""

    def __init__(self) -> None:
        self._pool = ""
        self._at = 0

    def token(self, prefix: str, size: int = 64) -> str:
        """A fresh token: the prefix and `size` random URL-safe characters."""
        at = self._at
        end = at + size
        if end > len(self._pool):
            if size > _POOL_BYTES:
                return prefix + base64.urlsafe_b64encode(os.urandom(size)).decode()[:size]
            self._pool = base64.urlsafe_b64encode(os.urandom(_POOL_BYTES)).decode()
            at, end = 0, size
        self._at = end
        return prefix + self._pool[at:end]
