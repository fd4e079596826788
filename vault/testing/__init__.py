"""For tests: a vault that serves what it was given, and servers that start in a moment (``vault.testing.servers``)."""

from vault.testing.static import StaticVault

__all__ = ["StaticVault"]
