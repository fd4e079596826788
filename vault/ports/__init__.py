"""Every seam of Evergrant. Adapters satisfy these structurally; ``wiring`` is where mypy proves it.

All of them raise ``vault.errors`` only. An adapter that talks to a server has bounded time-outs of its own.
"""

from vault.ports.connections import ConnectAttempt, ConnectionStore, NewGrant, SealedMetadata, TokenReader
from vault.ports.keys import KeyStore, Kms, RotationStore, SealedRow, StoredCount, TenantKeyRecord, WrappedKey
from vault.ports.providers import CodeExchange, Gate, Providers, TokenEndpoint, Transport
from vault.ports.refresh import Doorbell, Orphan, RefreshStore, Spool
from vault.ports.upkeep import CleanupStore, RevocationStore

__all__ = [
    "CleanupStore",
    "CodeExchange",
    "ConnectAttempt",
    "ConnectionStore",
    "Doorbell",
    "Gate",
    "KeyStore",
    "Kms",
    "NewGrant",
    "Orphan",
    "Providers",
    "RefreshStore",
    "RevocationStore",
    "RotationStore",
    "SealedMetadata",
    "SealedRow",
    "Spool",
    "StoredCount",
    "TenantKeyRecord",
    "TokenEndpoint",
    "TokenReader",
    "Transport",
    "WrappedKey",
]
