"""bcrypt, for what must be slow to guess: ``TokenHash``."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 72
"""Bytes that bcrypt looks at; whatever comes after makes no difference to it."""


class BcryptHash:
    """``TokenHash`` by bcrypt. Thread-safe; threads hash side by side."""

    def __init__(self, rounds: int) -> None:
        """Nothing is hashed yet.

        Args:
            rounds: The logarithm of the work: one more takes twice as long. Hashes tell by themselves what they took.
        """
        import bcrypt  # whoever has no sessions need not load it

        self._bcrypt, self._rounds = bcrypt, rounds

    def hash(self, text: bytes) -> bytes:
        """See ``TokenHash.hash``. Raises ``ValueError``: the text is longer than bcrypt can see."""
        if len(text) > LONGEST or b"\0" in text:
            raise ValueError(f"bcrypt takes {LONGEST} bytes at most, none of them zero")
        return self._bcrypt.hashpw(text, self._bcrypt.gensalt(self._rounds))

    def fits(self, text: bytes, hashed: bytes) -> bool:
        """See ``TokenHash.fits``; a hash that is none fits nothing."""
        try:
            return self._bcrypt.checkpw(text, hashed)
        except ValueError:
            return False
