"""Evergrant keeps other people's credentials alive and safe.

``Vault`` is for web apps, ``Maintenance`` for workers and operators; everything public is named here. Importing opens
nothing.
"""

from vault.api_keys import SCOPES, ApiKey
from vault.audit.chain import AuditCheck, AuditProblem, AuditProgress, Finding
from vault.audit.lines import anchor_line, read_anchors, row_fields
from vault.audit.rows import AuditAnchor, AuditRow
from vault.claims import Overdue
from vault.credentials.kinds import Kind as CredentialKind
from vault.credentials.policies import Policy as CredentialPolicy
from vault.credentials.rotators import Made, RotationRequest, Rotator
from vault.engine.drain import Tally
from vault.engine.sweep import Progress
from vault.errors import (
    ApiKeyRefused,
    CannotOpen,
    ConfigurationError,
    ConnectRefused,
    DestructionRefused,
    InvalidCredential,
    KeyUnavailable,
    MigrationBusy,
    QueueUnavailable,
    ReconnectRequired,
    RefreshPending,
    RotationBusy,
    RotationFailed,
    SchemaOutdated,
    SignatureInvalid,
    SourceUnavailable,
    StoreUnavailable,
    TokenRefused,
    TokenUnavailable,
    UnknownApiKey,
    UnknownClient,
    UnknownConnection,
    UnknownCredential,
    UnknownEndpoint,
    UnknownEvent,
    UnknownProvider,
    UnknownSession,
    ValidationUnavailable,
    VaultError,
    VersionConflict,
)
from vault.events import Delivery, Endpoint, Event, EventType
from vault.exposition import count_request, metrics_text, serve_metrics
from vault.facade import (
    ApiKeys,
    Audit,
    BasicAuth,
    ClientCertificate,
    Clients,
    Events,
    Keys,
    Maintenance,
    OAuthGrant,
    ProviderRow,
    ProviderSession,
    Registry,
    Serving,
    Vault,
)
from vault.jobs import (
    LANES,
    AuditChain,
    Cleanup,
    Deliver,
    ExpiryScan,
    FoldStatistics,
    HealthCheck,
    HealthCheckAll,
    Job,
    Migrate,
    Refresh,
    RefreshScan,
    Rewrap,
    RotateCredentials,
    RotateDataKeys,
    RotateTenantKeys,
)
from vault.migration.plan import Migration
from vault.migration.summary import MigrationSummary
from vault.model import Connection, Credential, CredentialValue, CredentialVersion, Status, Token, grant_id
from vault.ports import Flow, Miscounted, OpenAudit, Retired, Shredded, TenantKek, Ticket
from vault.secret import Secret
from vault.services.api_keys import NewApiKey
from vault.services.audit_export import AuditExport
from vault.services.clients import RegisteredClient
from vault.services.connect import ConnectStart
from vault.services.delivering import DeliveryTally
from vault.services.expiry import ExpiryTally
from vault.services.health import Health
from vault.services.rotation import KeyCount
from vault.settings import Settings
from vault.standing.condition import ConnectionHealth, HealthSummary, Need
from vault.standing.figures import Statistics, Validations
from vault.validation.outcome import TokenKind, Validation
from vault.validation.sessions import NewSession, Subscription, UserSession
from vault.webhooks import Style as WebhookStyle
from vault.webhooks import sign as sign_webhook
from vault.webhooks import verify as verify_webhook

__all__ = [
    "LANES",
    "SCOPES",
    "ApiKey",
    "ApiKeyRefused",
    "ApiKeys",
    "Audit",
    "AuditAnchor",
    "AuditChain",
    "AuditCheck",
    "AuditExport",
    "AuditProblem",
    "AuditProgress",
    "AuditRow",
    "BasicAuth",
    "CannotOpen",
    "Cleanup",
    "ClientCertificate",
    "Clients",
    "ConfigurationError",
    "ConnectRefused",
    "ConnectStart",
    "Connection",
    "ConnectionHealth",
    "Credential",
    "CredentialKind",
    "CredentialPolicy",
    "CredentialValue",
    "CredentialVersion",
    "Deliver",
    "Delivery",
    "DeliveryTally",
    "DestructionRefused",
    "Endpoint",
    "Event",
    "EventType",
    "Events",
    "ExpiryScan",
    "ExpiryTally",
    "Finding",
    "Flow",
    "FoldStatistics",
    "Health",
    "HealthCheck",
    "HealthCheckAll",
    "HealthSummary",
    "InvalidCredential",
    "Job",
    "KeyCount",
    "KeyUnavailable",
    "Keys",
    "Made",
    "Maintenance",
    "Migrate",
    "Migration",
    "MigrationBusy",
    "MigrationSummary",
    "Miscounted",
    "Need",
    "NewApiKey",
    "NewSession",
    "OAuthGrant",
    "OpenAudit",
    "Overdue",
    "Progress",
    "ProviderRow",
    "ProviderSession",
    "QueueUnavailable",
    "ReconnectRequired",
    "Refresh",
    "RefreshPending",
    "RefreshScan",
    "RegisteredClient",
    "Registry",
    "Retired",
    "Rewrap",
    "RotateCredentials",
    "RotateDataKeys",
    "RotateTenantKeys",
    "RotationBusy",
    "RotationFailed",
    "RotationRequest",
    "Rotator",
    "SchemaOutdated",
    "Secret",
    "Serving",
    "Settings",
    "Shredded",
    "SignatureInvalid",
    "SourceUnavailable",
    "Statistics",
    "Status",
    "StoreUnavailable",
    "Subscription",
    "Tally",
    "TenantKek",
    "Ticket",
    "Token",
    "TokenKind",
    "TokenRefused",
    "TokenUnavailable",
    "UnknownApiKey",
    "UnknownClient",
    "UnknownConnection",
    "UnknownCredential",
    "UnknownEndpoint",
    "UnknownEvent",
    "UnknownProvider",
    "UnknownSession",
    "UserSession",
    "Validation",
    "ValidationUnavailable",
    "Validations",
    "Vault",
    "VaultError",
    "VersionConflict",
    "WebhookStyle",
    "anchor_line",
    "count_request",
    "grant_id",
    "metrics_text",
    "read_anchors",
    "row_fields",
    "serve_metrics",
    "sign_webhook",
    "verify_webhook",
]
