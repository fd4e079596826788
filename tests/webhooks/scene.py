"""What a campaign runs on: a vault, the simulated GitHub and Stripe, and a webhook in each of the scenes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.webhooks.plan import GITHUB, OWN, SCENES, STRIPE, UNDONE
from vault.registrars.data import BUILT_IN

KEY = "sk-cnry-webhooks"
EVENTS = ["charge.succeeded"]
FIRST = "whsec_Zmlyc3QgZmlyc3QgZmlyc3QgZmlyc3QgZmlyc3QgZmlyc3Q="


class Hook(NamedTuple):
    """One webhook."""

    scene: str
    id: UUID
    of: str
    """What its sender calls it; empty: we are the sender."""

    @property
    def shape(self) -> str:
        return self.scene.removesuffix(UNDONE)


class Scene:
    """Everything that is there before the first secret is rotated."""

    def __init__(self, database_url: str, home: Path) -> None:
        self.simulator = SimulatorProcess(home / "provider.jsonl")
        registrars = home / "registrars.toml"
        # Who lives for one rotation prepares statements for nobody.
        self.house = House(
            database_url, self.simulator, home, VAULT_REGISTRARS=str(registrars), VAULT_DATABASE_PREPARED="0"
        )
        self.far_side = self.house.far_side
        registrars.write_text(_registrars(f"{self.simulator.base_uri}/{self.far_side}"))
        self._connection = self.house.connect()
        self.simulator.hooks(self.far_side, key=KEY)
        self._key = str(self.house.vault.store_api_key(KEY))
        self.hooks = [self._add(number, scene) for number, scene in enumerate(SCENES)]

    @property
    def environment(self) -> Mapping[str, str]:
        return self.house.environment

    def close(self) -> None:
        self.house.close()
        self.simulator.close()

    def _add(self, number: int, scene: str) -> Hook:
        policy = {"rotator": f"registrar:{scene.replace(' ', '-')}", "keep": 40}
        store = self.house.vault.store_webhook_secret
        if scene == OWN:
            return Hook(scene, store(policy={"keep": 40}), "")
        if scene.startswith(GITHUB):
            of = f"acme/widgets/{number}"
            self.simulator.hooks(self.far_side, github={of: FIRST})
            tags = dict(zip(("owner", "repo", "hook_id"), of.split("/"), strict=True))
            return Hook(scene, store(FIRST, style=GITHUB, connection=self._connection, policy=policy, tags=tags), of)
        url = f"https://app.example.com/{number}"
        [made] = self.simulator.hooks(self.far_side, stripe=[{"url": url, "events": EVENTS}])["added"]
        tags = {"url": url, "events": ",".join(EVENTS), "endpoint_id": made["id"], "api_key": self._key}
        return Hook(scene, store(made["secret"], style=STRIPE, policy=policy, tags=tags), url)


def _registrars(base: str) -> str:
    """Ours, as they are but for the address; and the same again where the test of a new secret is refused."""
    text = BUILT_IN.read_text()
    undone = re.sub(r"^\[(github|stripe)", r"[\1-undone", text, flags=re.MULTILINE)
    undone = re.sub(r'(-undone\.test\]\nmethod = "GET"\npath = )"[^"]*"', r'\1"/nowhere"', undone)
    both = f"{text}\n{undone}"
    for shape in (GITHUB, STRIPE):
        both = re.sub(rf'(\[{shape}(?:-undone)?\]\nbase = )"[^"]*"', rf'\1"{base}/{shape}"', both)
    return both
