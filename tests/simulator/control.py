"""Steering a simulator, the same way whether it runs in a thread here, in a process of its own, or elsewhere."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.simulator.oracle import Oracle


class Steering:
    """Speaks to the control interface of a running simulator. Not for two threads at once."""

    def __init__(self, base_uri: str, log: Path | None = None) -> None:
        """Attach to a running simulator.

        Args:
            base_uri: as its ready line says, for instance `http://127.0.0.1:8099`.
            log: its journal, for the oracle.
        """
        self.base_uri = base_uri
        self.log = log
        self._connection: http.client.HTTPConnection | None = None

    def uri(self, provider: str, endpoint: str) -> str:
        """The URI of an endpoint: `authorize`, `token`, `revoke`, `introspect`, `userinfo` or `api`."""
        return f"{self.base_uri}/{provider}/{endpoint}"

    def configure(self, provider: str, **members: Any) -> dict[str, Any]:
        """Change members of a provider's configuration, creating the provider if need be.

        Returns:
            The whole configuration.

        Raises:
            ValueError: the simulator does not know such a member or value.
        """
        answer = self._post(f"/_control/{provider}", members)
        config: dict[str, Any] = answer["config"]
        return config

    def add_fault(self, provider: str, kind: str, **members: Any) -> None:
        """Add a rule; members as in `faults.Fault`. A bare kind strikes every token request until cleared."""
        self._post(f"/_control/{provider}", {"add_faults": [{"kind": kind, **members}]})

    def clear_faults(self, provider: str) -> None:
        """Drop every rule of the provider."""
        self._post(f"/_control/{provider}", {"clear_faults": True})

    def kill_account(self, provider: str, account: str) -> int:
        """The person withdraws consent. Returns how many families died."""
        killed: int = self._post(f"/_control/{provider}", {"kill_account": account})["families_killed"]
        return killed

    def grant(self, provider: str, *accounts: str, scope: str | None = None) -> list[dict[str, Any]]:
        """Start a family for each account without a browser; returns the token answers, with `account`, `family`."""
        return self._grant(provider, {"accounts": list(accounts), "scope": scope})

    def grant_many(self, provider: str, count: int, prefix: str = "account-") -> list[dict[str, Any]]:
        """Start families for `prefix0`, `prefix1`, …; returns the token answers."""
        return self._grant(provider, {"count": count, "prefix": prefix})

    def hooks(self, provider: str, **commands: Any) -> dict[str, Any]:
        """Give commands about registrations of webhooks (`hooks.Hooks.control`); returns what is registered."""
        told: dict[str, Any] = self._post(f"/_control/{provider}", {"hooks": commands})["hooks"]
        return told

    def deliver(self, provider: str, shape: str, of: str) -> list[dict[str, Any]]:
        """Have an event signed as the provider would deliver it now, by each registration that gets it."""
        signed: list[dict[str, Any]] = self._post(f"/_control/{provider}", {"deliver": [shape, of]})["delivered"]
        return signed

    def advance(self, seconds: float) -> float:
        """Move the simulator's time forward; returns its new time, in epoch seconds."""
        now: float = self._post("/_control", {"advance": seconds})["now"]
        return now

    def now(self) -> float:
        """The simulator's time, in epoch seconds."""
        return self.advance(0.0)

    def oracle(self) -> Oracle:
        """An oracle that goes on reading this simulator's journal.

        Raises:
            ValueError: the journal's file is not known here.
        """
        if self.log is None:
            raise ValueError("attach with log=PATH to ask the oracle")
        return Oracle(self.log, clock=self.now)

    def close(self) -> None:
        """Close the control connection; the simulator runs on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        """Return the simulator, ready."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _grant(self, provider: str, to: dict[str, Any]) -> list[dict[str, Any]]:
        granted: list[dict[str, Any]] = self._post(f"/_control/{provider}", {"grant": to})["granted"]
        return granted

    def _post(self, path: str, members: dict[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            parts = urlsplit(self.base_uri)
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._connection.request("POST", path, json.dumps(members), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise ValueError(answer.get("error"))
        return answer
