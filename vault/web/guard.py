"""Who may do what: the API key of a request, its scope and its rate; the tenant is the key's, whatever is asked for."""

from __future__ import annotations

from collections import OrderedDict
from threading import BoundedSemaphore, Lock
from typing import Annotated, Any, Final, NamedTuple

import structlog
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from vault import ApiKey, ApiKeyRefused, Vault
from vault.web import strangers
from vault.web.problems import Problem

TENANTS: Final = 1_000
"""Vaults at hand in one process; each remembers its connections' keys."""
MAY_WAIT: Final = 20
"""Reads that may wait for a refresh at a time: half of the threads that requests are served by."""
_bearer = HTTPBearer(auto_error=False, scheme_name="api_key", description="An API key: `egk_…`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


class Caller(NamedTuple):
    """Whoever asks: the key, and the vault of its tenant."""

    key: ApiKey
    vault: Vault


class House:
    """What one application serves: a vault, seen as each of its tenants."""

    def __init__(self, vault: Vault) -> None:
        self.vault, self.serving = vault, vault.serving
        self.may_wait = BoundedSemaphore(MAY_WAIT)
        self._lock, self._vaults = Lock(), OrderedDict[str, Vault]()

    def of(self, tenant: str) -> Vault:
        """Return the vault of a tenant."""
        found = self._vaults.get(tenant)
        if found is None:
            found = self.vault.for_tenant(tenant)
            with self._lock:
                self._vaults[tenant] = found
                if len(self._vaults) > TENANTS:
                    self._vaults.popitem(last=False)
        return found

    async def admit(
        self, request: Request, given: HTTPAuthorizationCredentials | None, scope: str, what: str
    ) -> Caller:
        """Return who asks, if it may; waits for nobody as long as key and rate are at hand.

        Raises:
            ApiKeyRefused: There is no key, or none that counts.
            Problem: Its scope does not allow this, or its rate is used up, or that of strangers at its address.
        """
        if given is None or given.scheme.lower() != "bearer":
            raise ApiKeyRefused("missing")
        key = self.serving.caller_at_hand(given.credentials)
        if key is None:
            if not self.serving.is_known(given.credentials):
                await strangers.count(self.serving, request)
            key = await run_in_threadpool(self.serving.caller, given.credentials)
        structlog.contextvars.bind_contextvars(api_key=str(key.id))
        if not key.allows(scope):
            raise Problem("scope", f"it takes the scope {scope}", reason=scope)
        if not self.serving.take_at_hand(key, what):
            wait = await run_in_threadpool(self.serving.take, key, what)
            if wait is not None:
                raise Problem("rate", reason=what, retry_after=wait)
        return Caller(key, self.of(key.tenant))


class Guard:
    """A dependency: lets a request through whose key has a scope, and counts it against a rate."""

    def __init__(self, scope: str, what: str = "others") -> None:
        self.scope, self.what = scope, what

    async def __call__(self, request: Request, given: Credentials) -> Caller:
        """Return who asks."""
        return await house_of(request).admit(request, given, self.scope, self.what)


async def by_address(request: Request) -> None:
    """A dependency of what needs no key and looks into the database: counts its callers by address."""
    await strangers.count(house_of(request).serving, request)


def house_of(request: Request) -> House:
    """What the application of a request serves."""
    state: Any = request.app.state
    found: House = state.house
    return found
