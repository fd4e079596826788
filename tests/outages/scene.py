"""Two providers and thousands of connections, in a house whose days pass in seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from vault.wiring import clock

FAR, NEAR = "far", "near"
"""The provider that has a bad day, and one that has not."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Scene:
    """Everything of one campaign."""

    def __init__(self, house: House, simulator: SimulatorProcess) -> None:
        self.house, self.simulator, self.passed = house, simulator, 0.0
        self._read = 0
        self._told: Counter[tuple[str, str]] = Counter()

    def connect(self, provider: str, count: int) -> list[UUID]:
        """Hand over so many grants, each with an hour of life."""
        granted = self.simulator.grant_many(provider, count, prefix=f"{provider}-")
        vault = self.house.vault

        def store(answer: dict[str, Any]) -> UUID:
            made = vault.store_oauth(
                provider, owner=answer["account"], access_token=answer["access_token"],
                refresh_token=answer["refresh_token"], account=answer["account"],
            )  # fmt: skip
            return made.connection

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(store, granted))
        self.house.sql(
            "UPDATE evergrant.oauth_grant SET expires_at = now() + interval '1 hour', refreshed_at = now()"
            " WHERE connection_id = ANY(%s)", (made,),
        )  # fmt: skip
        self.house.sql(
            "UPDATE evergrant.schedule SET next_at = now() + interval '50 minutes' * random()"
            " WHERE connection_id = ANY(%s)", (made,),
        )  # fmt: skip
        return made

    def step(self, by: timedelta) -> None:
        """Let time pass everywhere, then refresh what is due."""
        self.house.pass_time(by)
        self.passed += by.total_seconds()
        self.house.worker.refresh_scan()

    def requests(self, provider: str) -> Counter[str]:
        """Count what the provider's journal says of token requests, by what became of them."""
        assert self.simulator.log is not None  # the scene gave it one
        with Path(self.simulator.log).open() as journal:
            journal.seek(self._read)
            for line in journal:
                if line.endswith("\n"):
                    event = json.loads(line)
                    self._told[event.get("provider", ""), event["event"]] += 1
                    self._read += len(line.encode())
        return Counter({event: number for (whose, event), number in self._told.items() if whose == provider})

    def statuses(self, connections: Sequence[UUID]) -> Counter[str]:
        """Count connections by status."""
        rows = self.house.sql(
            "SELECT status, count(*) AS number FROM evergrant.oauth_grant WHERE connection_id = ANY(%s) GROUP BY 1",
            ([*connections],),
        )
        return Counter({row["status"]: row["number"] for row in rows})

    def late(self, provider: str) -> timedelta:
        """How long the oldest due row of a provider has been waiting."""
        [row] = self.house.sql(
            "SELECT COALESCE(max(now() - next_at), interval '0') AS late FROM evergrant.schedule"
            " WHERE client = %s AND next_at <= now()", (provider,),
        )  # fmt: skip
        late: timedelta = row["late"]
        return late


@contextmanager
def scene(database_url: str, home: Path, **house: Any) -> Iterator[Scene]:
    """Set the scene; the house's own time is this process's, and passes only with its steps besides."""
    with SimulatorProcess(home / "journal.jsonl") as simulator:
        built = House(database_url, simulator, home, **house)
        rows = []
        for provider in (FAR, NEAR):
            uris = {each: simulator.uri(provider, each) for each in ("authorize", "token", "revoke")}
            rows.append("\n".join([f"[{provider}]", *(f'{each}_uri = "{uri}"' for each, uri in uris.items())]))
            simulator.configure(provider)
            built.environment |= {
                f"VAULT_CLIENT_{provider.upper()}_ID": "evergrant",
                f"VAULT_CLIENT_{provider.upper()}_SECRET": "cnry-cs-simulator",
            }
        (home / "providers.toml").write_text("\n".join(rows) + "\n")
        built.environment = {k: v for k, v in built.environment.items() if not k.startswith("VAULT_CLIENT_ACME")}
        made = Scene(built, simulator)
        with _passing(made):
            try:
                yield made
            finally:
                built.close()


@contextmanager
def _passing(scene: Scene) -> Iterator[None]:
    """Have monotonic time run as fast as the scene's."""
    scene.passed, true = 0.0, vars(clock)["time"]
    vars(clock)["time"] = SimpleNamespace(clock_gettime=lambda which: true.clock_gettime(which) + scene.passed)
    try:
        yield
    finally:
        vars(clock)["time"] = true
