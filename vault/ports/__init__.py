"""Every seam of Evergrant. Adapters satisfy these structurally; ``wiring`` is where mypy proves it.

All of them raise ``vault.errors`` only. An adapter that talks to a server has bounded time-outs of its own.
"""

from vault.ports.audit import AnchoredPlace, AuditStore, Ends, Unlinked
from vault.ports.callers import ApiKeyStore, Flow, FlowStore, Quota, ReadCount, ReadStore, Ticket
from vault.ports.clients import ClientStore, KnownClients, StoredClient
from vault.ports.connections import ConnectAttempt, ConnectionStore, NewGrant, SealedMetadata, TokenReader
from vault.ports.credentials import Change, CredentialStore, Dates, Found, SealedVersion, Wanted
from vault.ports.destruction import DestructionStore, KeyAuditStore, OpenAudit, Retired, SealedValue, Shredded
from vault.ports.expiry import CredentialDates, GrantEnd, GrantEndStore, Look, PolicyStore
from vault.ports.grant_views import GrantViews, SealedRefreshToken
from vault.ports.keys import Keks, KeyStore, Kms, TenantKek, TenantKeks, TenantKeyRecord, WrappedKey
from vault.ports.migration import (
    Adopted,
    Adoption,
    MigrationRuns,
    MigrationStore,
    Moved,
    Source,
    SourceRow,
    StoredGrant,
)
from vault.ports.outbox import EndpointStore, OutboxStore
from vault.ports.providers import CodeExchange, Gate, Providers, TokenEndpoint, Transport
from vault.ports.refresh import Doorbell, Orphan, RefreshStore, Spool
from vault.ports.rotation import (
    DataKeyRotationStore,
    ReplacedRow,
    RewrapStore,
    SealedRow,
    StoredCount,
    TenantKeyRotationStore,
)
from vault.ports.rotations import RotationRow, RotationStore
from vault.ports.sessions import (
    Introspector,
    SealedSessionMetadata,
    SessionRow,
    SessionStore,
    TokenHash,
    ValidationTallies,
)
from vault.ports.standing import ConditionStore, Miscounted, SignStore, StatisticsStore, Sweep
from vault.ports.upkeep import CleanupStore, RevocationStore

__all__ = [
    "Adopted",
    "Adoption",
    "AnchoredPlace",
    "ApiKeyStore",
    "AuditStore",
    "Change",
    "CleanupStore",
    "ClientStore",
    "CodeExchange",
    "ConditionStore",
    "ConnectAttempt",
    "ConnectionStore",
    "CredentialDates",
    "CredentialStore",
    "DataKeyRotationStore",
    "Dates",
    "DestructionStore",
    "Doorbell",
    "EndpointStore",
    "Ends",
    "Flow",
    "FlowStore",
    "Found",
    "Gate",
    "GrantEnd",
    "GrantEndStore",
    "GrantViews",
    "Introspector",
    "Keks",
    "KeyAuditStore",
    "KeyStore",
    "Kms",
    "KnownClients",
    "Look",
    "MigrationRuns",
    "MigrationStore",
    "Miscounted",
    "Moved",
    "NewGrant",
    "OpenAudit",
    "Orphan",
    "OutboxStore",
    "PolicyStore",
    "Providers",
    "Quota",
    "ReadCount",
    "ReadStore",
    "RefreshStore",
    "ReplacedRow",
    "Retired",
    "RevocationStore",
    "RewrapStore",
    "RotationRow",
    "RotationStore",
    "SealedMetadata",
    "SealedRefreshToken",
    "SealedRow",
    "SealedSessionMetadata",
    "SealedValue",
    "SealedVersion",
    "SessionRow",
    "SessionStore",
    "Shredded",
    "SignStore",
    "Source",
    "SourceRow",
    "Spool",
    "StatisticsStore",
    "StoredClient",
    "StoredCount",
    "StoredGrant",
    "Sweep",
    "TenantKek",
    "TenantKeks",
    "TenantKeyRecord",
    "TenantKeyRotationStore",
    "Ticket",
    "TokenEndpoint",
    "TokenHash",
    "TokenReader",
    "Transport",
    "Unlinked",
    "ValidationTallies",
    "Wanted",
    "WrappedKey",
]
