"""What the engine works with: the ports of a refresh, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vault.engine.sealing import Sealer
from vault.policy import RefreshPolicy
from vault.ports import Gate, Providers, RefreshStore, Spool, TokenEndpoint, Transport


class Tools(NamedTuple):
    """What a drain works with."""

    store: RefreshStore
    transport: Transport
    endpoint: TokenEndpoint
    spool: Spool
    gate: Gate
    sealer: Sealer
    providers: Providers
    policy: RefreshPolicy
    monotonic: Callable[[], float]
    jitter: Callable[[], float]
