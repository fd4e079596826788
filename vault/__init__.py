"""Evergrant keeps other people's credentials alive and safe.

``Vault`` is for web apps, ``Maintenance`` for workers and operators; everything public is named here. Importing opens
nothing.
"""

from vault.claims import Overdue
from vault.engine.drain import Tally
from vault.errors import (
    CannotOpen,
    ConfigurationError,
    ConnectRefused,
    KeyUnavailable,
    QueueUnavailable,
    ReconnectRequired,
    RefreshPending,
    SchemaOutdated,
    StoreUnavailable,
    TokenUnavailable,
    UnknownConnection,
    UnknownProvider,
    VaultError,
)
from vault.facade import Maintenance, Vault
from vault.jobs import LANES, Cleanup, HealthCheck, Job, Refresh, RefreshScan, Rewrap, RotateDataKeys
from vault.model import Connection, Status, Token
from vault.secret import Secret
from vault.services.connect import ConnectStart
from vault.services.health import Health
from vault.services.rotation import KeyCount, Progress
from vault.settings import Settings

__all__ = [
    "LANES",
    "CannotOpen",
    "Cleanup",
    "ConfigurationError",
    "ConnectRefused",
    "ConnectStart",
    "Connection",
    "Health",
    "HealthCheck",
    "Job",
    "KeyCount",
    "KeyUnavailable",
    "Maintenance",
    "Overdue",
    "Progress",
    "QueueUnavailable",
    "ReconnectRequired",
    "Refresh",
    "RefreshPending",
    "RefreshScan",
    "Rewrap",
    "RotateDataKeys",
    "SchemaOutdated",
    "Secret",
    "Settings",
    "Status",
    "StoreUnavailable",
    "Tally",
    "Token",
    "TokenUnavailable",
    "UnknownConnection",
    "UnknownProvider",
    "Vault",
    "VaultError",
]
