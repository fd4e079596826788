"""What a campaign runs on: PostgreSQL, a provider that knows every token it gave, and owners under several tenants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from tests.benchmarks.stage import CLIENT_ID, PROVIDER, Stage
from tests.rotation.plan import Plan
from tests.simulator import SimulatorProcess
from vault.testing.servers import EmbeddedPostgres


class Grant(NamedTuple):
    """One connection, as it was made."""

    id: UUID
    tenant: str
    account: str
    """What the provider calls its owner."""
    access_token: str


class Scene:
    """Everything that is there before the first key is rotated."""

    def __init__(self, plan: Plan, postgres: EmbeddedPostgres, home: Path) -> None:
        self.plan = plan
        self.simulator = SimulatorProcess(home / "provider.jsonl")
        rotation = {"mode": "strict", "access_token_life": 36_000.0}
        secret = self.simulator.configure(PROVIDER, rotation=rotation)["client_secret"]
        self.stage = Stage(postgres, home, token_uris={PROVIDER: self.simulator.uri(PROVIDER, "token")})
        self.environment: Mapping[str, str] = {
            **self.stage.environment,
            "VAULT_ROTATION_RATE": "1000000",
            f"VAULT_CLIENT_{PROVIDER.upper()}_ID": CLIENT_ID,
            f"VAULT_CLIENT_{PROVIDER.upper()}_SECRET": secret,
        }
        self.grants = [grant for number in range(plan.tenants) for grant in self._populate(number)]

    def close(self) -> None:
        """End the provider."""
        self.simulator.close()

    def _populate(self, number: int) -> list[Grant]:
        """Connect the owners of one tenant; the provider has issued every token that is stored."""
        plan, tenant = self.plan, f"tenant-{number}"
        count = len(range(number, plan.connections, plan.tenants))
        answers = self.simulator.grant_many(PROVIDER, count, prefix=f"{tenant}/owner-")
        access = [answer["access_token"] for answer in answers]
        refresh = [answer["refresh_token"] for answer in answers]
        ids = self.stage.populate(count, tenants=(tenant,), access_tokens=access, refresh_tokens=refresh)
        return [
            Grant(connection_id, tenant, answer["account"], answer["access_token"])
            for connection_id, answer in zip(ids, answers, strict=True)
        ]
