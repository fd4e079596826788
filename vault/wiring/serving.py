"""What stands behind the HTTP face, beside what apps ask for."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from functools import cached_property

from vault.quotas import SharedQuota
from vault.services.api_keys import KeyKeeping
from vault.services.callers import Callers
from vault.services.told_reads import ReadLog
from vault.settings import Settings
from vault.store.api_keys import PostgresApiKeys
from vault.store.engine import Database
from vault.store.flows import PostgresFlows
from vault.wiring.clock import monotonic


class ServingWiring:
    """Keys, flows, rates and the log of reads; opens nothing by itself."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self._keys, self.flows = PostgresApiKeys(database), PostgresFlows(database)
        self.key_keeping = KeyKeeping(self._keys, new_id=uuid.uuid4, new_token=_new_token)

    @cached_property
    def callers(self) -> Callers:
        """Who is asking."""
        life = timedelta(seconds=self.settings.http_key_cache_s)
        return Callers(self._keys, self.flows, life=life, monotonic=monotonic, new_token=_new_token)

    @cached_property
    def quota(self) -> SharedQuota:
        """How often."""
        return SharedQuota(self.settings.redis_url, monotonic)

    @cached_property
    def reads(self) -> ReadLog:
        """What was read."""
        return ReadLog(self._keys, self._keys, clock=lambda: datetime.now(UTC), monotonic=monotonic)

    def close(self) -> None:
        """Tell of every read; let go of connections."""
        made = vars(self)
        if "reads" in made:
            self.reads.close()
        if "quota" in made:
            self.quota.close()


def _new_token() -> str:
    return secrets.token_urlsafe(32)
