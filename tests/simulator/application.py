"""From a request to a reply: routing, trouble, and the control interface.

Control speaks JSON and is never disturbed:

    GET  /_control               {"now": …, "providers": […], "requests": …}
    POST /_control               {"advance": 3600} moves the simulator's time forward
    GET  /_control/{provider}    its configuration
    POST /_control/{provider}    any members of `ProviderConfig`, and the verbs `add_faults`, `clear_faults`,
                                 `kill_account`, `grant` ({"accounts": […]} or {"count": 1000, "prefix": "user-"}),
                                 `hooks` and `deliver` (see `hooks`); a provider not known yet is created
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.simulator import hooks
from tests.simulator.calls import Call, Endpoint
from tests.simulator.config import ProviderConfig
from tests.simulator.endpoints import ENDPOINTS
from tests.simulator.faults import UNPROCESSED, Fault
from tests.simulator.journal import Journal
from tests.simulator.loop import Reply
from tests.simulator.oracle import Oracle
from tests.simulator.provider import Provider
from tests.simulator.wire import Head, Request, write_answer

_A_LONG_TIME = 24 * 3600.0


class SimulatorApplication:
    """All providers behind one port."""

    def __init__(self, providers: dict[str, dict[str, Any]], log: Path | None, seed: int) -> None:
        """Create the providers.

        Args:
            providers: name to members of `ProviderConfig`.
            log: the journal's file, or None for memory. A file from an earlier life is continued: its families live on.
            seed: decides the faults and the jitter.
        """
        self._advanced = 0.0
        self._latest = 0.0
        self._seed = seed
        self.base_uri = ""
        self.journal = Journal(self.now, log)
        self.providers: dict[str, Provider] = {}
        self.requests = 0
        past = None if log is None or not log.exists() else Oracle(log)
        if past is not None:
            self.journal.last_id = past.last_id()
            self._advanced = max(0.0, past.last_at() - time.time())
        for name, members in providers.items():
            provider = self._create(name, members)
            if past is not None:
                provider.restore(past.families(name))
        self.journal.flush()

    def now(self) -> float:
        """The simulator's time: the wall clock plus whatever it was advanced by; it never goes back."""
        self._latest = now = max(self._latest, round(time.time() + self._advanced, 6))
        return now

    def answer(self, request: Request) -> Reply:
        """Process one request; see `loop.Application`."""
        self.requests += 1
        head = request.head
        if head.path[0] == "_control":
            return self._control(head, request.body)
        provider = self.providers.get(head.path[0])
        known = ENDPOINTS if len(head.path) == 2 or head.path[1] == ".well-known" else hooks.ENDPOINTS
        endpoint = known.get(head.path[1]) if len(head.path) > 1 else None
        if provider is None or endpoint is None:
            return Reply(write_answer(404, b'{"error":"no such provider or endpoint"}'))
        parameters = {} if head.path[1] in hooks.SHAPES else _parameters(request)
        call = Call(provider, head, parameters, self.requests, self.now(), self.base_uri, body=request.body)
        if provider.calm:
            return Reply(*endpoint(call))
        return self._troubled(endpoint, call)

    def commit(self) -> None:
        """See `loop.Application`."""
        self.journal.flush()

    def undelivered(self, event: int, reason: str) -> None:
        """See `loop.Application`."""
        self.journal.event("undelivered", of=event, reason=reason)

    def _troubled(self, endpoint: Endpoint, call: Call) -> Reply:
        provider = call.provider
        config = provider.config
        if config.outage != "off":
            self._unprocessed(call, f"outage_{config.outage}")
            if config.outage == "error":
                return Reply(write_answer(503, b'{"error":"temporarily_unavailable"}'))
            return Reply(b"", delay=_A_LONG_TIME if config.outage == "hang" else 0.0, ending="close")
        kind = call.head.method if call.head.path[1] in hooks.SHAPES else call.form.get("grant_type")
        fault = provider.plan.strike(call.head.path[1], _account(call), kind)
        if fault is None:
            reply = Reply(*endpoint(call))
        elif fault.kind in UNPROCESSED:
            self._unprocessed(call, fault.kind)
            reply = fault.replace()
        elif fault.kind == "slow_before":
            reply = Reply(b"", delay=fault.delay, resume=lambda: self._resume(endpoint, call))
        else:
            call.fault = fault
            reply = fault.disturb(*endpoint(call))
        reply.delay += config.latency + (config.jitter * provider.dice.random() if config.jitter else 0.0)
        return reply

    def _resume(self, endpoint: Endpoint, call: Call) -> Reply:
        call.now = self.now()
        return Reply(*endpoint(call))

    def _unprocessed(self, call: Call, fault: str) -> None:
        presented = call.form.get("refresh_token")
        family = call.provider.by_refresh_token.get(presented or "")
        self.journal.event(
            "unprocessed",
            request=call.number,
            provider=call.provider.name,
            endpoint=call.head.path[1],
            account=_account(call),
            family=None if family is None else family.id,
            presented=presented,
            fault=fault,
        )

    def _create(self, name: str, members: dict[str, Any]) -> Provider:
        config = ProviderConfig().patched(members)
        provider = self.providers[name] = Provider(name, config, self.journal, self.now, self._seed)
        provider.hooks = hooks.Hooks(self.journal, name)
        return provider

    def _control(self, head: Head, body: bytes) -> Reply:
        try:
            commands = json.loads(body) if body else {}
            answer = self._control_all(commands) if len(head.path) == 1 else self._control_one(head, commands)
        except (ValueError, TypeError, KeyError) as error:
            return Reply(write_answer(400, json.dumps({"error": repr(error)}).encode()))
        return Reply(write_answer(200, json.dumps(answer).encode()))

    def _control_all(self, commands: dict[str, Any]) -> dict[str, Any]:
        self._advanced += float(commands.get("advance", 0.0))
        return {"now": self.now(), "providers": sorted(self.providers), "requests": self.requests}

    def _control_one(self, head: Head, commands: dict[str, Any]) -> dict[str, Any]:
        name = head.path[1]
        provider = self.providers.get(name)
        if provider is None:
            if head.method == "GET":
                raise KeyError(name)
            provider = self._create(name, {})
        answer: dict[str, Any] = {}
        if commands.pop("clear_faults", False):
            provider.clear_faults()
        if "add_faults" in commands:
            provider.add_faults([Fault.from_dict(rule) for rule in commands.pop("add_faults")])
        if "kill_account" in commands:
            answer["families_killed"] = provider.kill_account(commands.pop("kill_account"))
        if "hooks" in commands:
            answer["hooks"] = provider.hooks.control(commands.pop("hooks"))
        if "deliver" in commands:
            answer["delivered"] = provider.hooks.deliver(*commands.pop("deliver"), self.now())
            return answer
        grant = commands.pop("grant", None)
        if commands:
            provider.configure(provider.config.patched(commands))
        if grant is not None:
            prefix = grant.get("prefix", "account-")
            accounts = grant.get("accounts") or [f"{prefix}{number}" for number in range(grant["count"])]
            answer["granted"] = provider.grant(accounts, grant.get("scope"))
        return answer | {"config": provider.config.to_dict()}


def _account(call: Call) -> str | None:
    provider, form = call.provider, call.form
    family = provider.by_refresh_token.get(form.get("refresh_token") or form.get("token") or "")
    if family is None:
        bearer = call.head.headers.get("authorization", "")[7:]
        family = provider.by_access_token.get(form.get("token") or bearer)
    if family is not None:
        return family.account
    code = provider.codes.get(form.get("code", ""))
    return code.account if code is not None else form.get("login_hint")


def _parameters(request: Request) -> dict[str, str]:
    if request.body[:1] == b"{" and "json" in request.head.headers.get("content-type", ""):
        return {name: str(value) for name, value in json.loads(request.body).items()}
    return request.form()
