"""Evergrant keeps other people's credentials alive and safe.

``Vault`` is for web apps, ``Maintenance`` for workers and operators; everything public is named here. Importing opens
nothing.
"""

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
from vault.settings import Settings

__all__ = [
    "LANES",
    "CannotOpen",
    "Cleanup",
    "ConfigurationError",
    "ConnectRefused",
    "Connection",
    "HealthCheck",
    "Job",
    "KeyUnavailable",
    "Maintenance",
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
    "Token",
    "TokenUnavailable",
    "UnknownConnection",
    "UnknownProvider",
    "Vault",
    "VaultError",
]
