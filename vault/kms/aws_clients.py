"""Clients of AWS KMS, one for each region: bounded in time, made late, silent, not shared with a forked child."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Final, NamedTuple

from vault.forks import in_children
from vault.kms.aws_uri import REGION_MARK

CONNECT_TIMEOUT_S: Final = 2.0
"""Long enough for a lost first packet, which is sent again after 1 s (RFC 6298, section 2.1)."""
READ_TIMEOUT_S: Final = 3.0
"""Hundreds of times what KMS needs. Whoever waits longer for a key had better use what is left in the cache."""
ATTEMPTS: Final = 2
"""In all. The second try mends a connection that was closed while it lay idle; more would only make callers wait, since
whoever asks us has a backoff of their own. All in all 10 s, and at most 1 s between the two when we are throttled."""
POOL_SIZE: Final = 10
"""Connections kept to one region. Keys are cached for minutes: this is for the moment when they run out together."""
RENEWAL_S: Final = 5.0
"""Credentials that were refused are read anew so often at most: making a session and client costs 0.1 s of CPU."""

Call = Callable[..., Mapping[str, Any]]
"""One operation of KMS: takes AWS's parameters by name, gives AWS's answer."""

_TALKATIVE = ("botocore.auth", "botocore.endpoint", "botocore.parsers")
_calling: ContextVar[bool] = ContextVar("calling", default=False)


def _not_ours(_: logging.LogRecord) -> bool:
    return not _calling.get()


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep boto's debug log of our requests, which holds keys and credentials in clear, out of every log."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_not_ours)
    token = _calling.set(True)
    try:
        yield
    finally:
        _calling.reset(token)


class Client(NamedTuple):
    """What we ask of KMS in one region. Thread-safe."""

    encrypt: Call
    decrypt: Call
    describe_key: Call


class AwsClients:
    """Makes the client of a region when it is first asked for, with credentials from boto3's default chain."""

    def __init__(self, endpoint: str | None, monotonic: Callable[[], float]) -> None:
        """Nothing is opened yet, nor are credentials looked for: that may mean asking a service.

        Args:
            endpoint: Where to ask instead of AWS's own address, with ``{region}`` for the region.
            monotonic: Seconds of a clock that never goes back.
        """
        self._endpoint, self._monotonic = endpoint, monotonic
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = Lock()
        self._session: Any = None
        self._by_region: dict[str, Client] = {}
        self._renewed_at = -RENEWAL_S

    def client(self, region: str) -> Client:
        """Return the client of a region. Raises what boto3 raises."""
        return self._by_region.get(region) or self._make(region)

    def renew(self) -> None:
        """Read credentials anew at the next call, since those in use were refused or there were none."""
        with self._lock:
            now = self._monotonic()
            if now - self._renewed_at >= RENEWAL_S:
                self._session, self._by_region, self._renewed_at = None, {}, now

    def _make(self, region: str) -> Client:
        with self._lock:  # making clients of one session is not thread-safe
            made = self._by_region.get(region)
            if made is None:
                self._session = self._session or _session()
                endpoint = self._endpoint.replace(REGION_MARK, region) if self._endpoint else None
                kms = self._session.client("kms", region_name=region, endpoint_url=endpoint)
                made = self._by_region[region] = Client(kms.encrypt, kms.decrypt, kms.describe_key)
            return made


def default_region() -> str | None:
    """The region boto3 would take when nobody names one: from the environment or its configuration file."""
    import boto3

    return boto3.Session().region_name


def _session() -> Any:
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=POOL_SIZE, tcp_keepalive=True,
    )  # fmt: skip
    session = Session()
    session.set_default_client_config(config)  # for STS too, when it gives the credentials
    return boto3.Session(botocore_session=session)
