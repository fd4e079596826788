"""Registrations of webhooks as GitHub and Stripe keep them, changed over HTTP, and deliveries as these sign them.

    PATCH  /{provider}/github/repos/{owner}/{repo}/hooks/{id}/config   {"secret": …}: one secret at a time
    GET    /{provider}/github/repos/{owner}/{repo}/hooks/{id}
    POST   /{provider}/stripe/v1/webhook_endpoints                     makes one, with a secret, shown this once
    GET    /{provider}/stripe/v1/webhook_endpoints[/{id}]
    POST   /{provider}/stripe/v1/webhook_endpoints/{id}                changes url, enabled_events, disabled
    DELETE /{provider}/stripe/v1/webhook_endpoints/{id}

Both want `Authorization: Bearer` with the key given by control, or an access token the provider has issued. The journal
has a line `hook` for each change: `what` (`registered`, `changed`, `removed`), `shape`, `of`, `secret`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex, token_urlsafe
from typing import Any
from urllib.parse import parse_qs

from tests.simulator.calls import Call, Honest
from tests.simulator.journal import Journal
from tests.simulator.wire import write_answer

GITHUB, STRIPE = "github", "stripe"
SHAPES = (GITHUB, STRIPE)
ALL = "*"


@dataclass
class Endpoint:
    """A webhook endpoint at Stripe."""

    id: str
    url: str
    secret: str
    events: list[str]
    metadata: dict[str, str]
    status: str = "enabled"

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id, "object": "webhook_endpoint", "url": self.url, "enabled_events": self.events,
            "metadata": self.metadata, "status": self.status,
        }  # fmt: skip

    def wants(self, event: str) -> bool:
        return self.status == "enabled" and (ALL in self.events or event in self.events)


@dataclass
class Hooks:
    """What one provider has registered."""

    journal: Journal
    name: str
    key: str = ""
    github: dict[str, str] = field(default_factory=dict)
    """Secrets by ``owner/repo/id``."""
    stripe: dict[str, Endpoint] = field(default_factory=dict)
    keys: dict[str, tuple[bytes, Honest]] = field(default_factory=dict)
    """What was asked and answered with an idempotency key; these end after a day at Stripe, and on demand here."""

    def control(self, commands: dict[str, Any]) -> dict[str, Any]:
        """Obey `key`, `github` ({"o/r/1": secret}), `stripe` ([{"url", "events"}]), `forget_keys`; tell of all."""
        self.key = commands.get("key", self.key)
        for of, secret in commands.get(GITHUB, {}).items():
            self._github(of, secret)
        added = [self._endpoint(each["url"], each["events"], {}) for each in commands.get(STRIPE, [])]
        if commands.get("forget_keys"):
            self.keys.clear()
        here = [{"shape": GITHUB, "of": of, "secret": secret} for of, secret in self.github.items()]
        here += [{"shape": STRIPE, "of": e.id, "secret": e.secret, **e.shown()} for e in self.stripe.values()]
        return {"added": [{**each.shown(), "secret": each.secret} for each in added], "registered": here}

    def deliver(self, shape: str, of: str, now: float) -> list[dict[str, Any]]:
        """Sign an event as it would be delivered now: by the hook, or by every endpoint of the url that wants it."""
        body = json.dumps({"id": f"evt_{token_hex(8)}", "of": of})
        signed = self._github_delivery(of, body) if shape == GITHUB else self._stripe_deliveries(of, body, int(now))
        return [{"secret": secret, "headers": headers, "body": body} for secret, headers in signed]

    def _github_delivery(self, of: str, body: str) -> Iterator[tuple[str, dict[str, str]]]:
        secret = self.github[of]
        yield secret, {"X-Hub-Signature-256": f"sha256={_mac(secret, body)}", "X-GitHub-Event": "push"}

    def _stripe_deliveries(self, url: str, body: str, now: int) -> Iterator[tuple[str, dict[str, str]]]:
        for each in self.stripe.values():
            if each.url == url and each.wants("charge.succeeded"):
                yield each.secret, {"Stripe-Signature": f"t={now},v1={_mac(each.secret, f'{now}.{body}')}"}

    # -------------------------------------------------------------------------------------------------------- GitHub

    def answer_github(self, call: Call) -> Honest:
        path = call.head.path[2:]
        of = (
            "/".join((*path[1:3], path[4])) if len(path) in (5, 6) and path[0] == "repos" and path[3] == "hooks" else ""
        )
        if of not in self.github:
            return _error(404, "Not Found")
        if call.head.method == "PATCH" and path[5:] == ("config",):
            secret = json.loads(call.body)["secret"]
            return _said({"content_type": "json", "secret": "********"}, event=self._github(of, secret))
        if call.head.method == "GET" and len(path) == 5:
            return _said({"id": path[4], "active": True, "config": {"secret": "********"}})
        return _error(405, "Method Not Allowed")

    def _github(self, of: str, secret: str) -> int:
        self.github[of] = secret
        return self._record("changed", GITHUB, of, secret)

    # -------------------------------------------------------------------------------------------------------- Stripe

    def answer_stripe(self, call: Call) -> Honest:
        path, method = call.head.path[2:], call.head.method
        if path[:2] != ("v1", "webhook_endpoints") or len(path) > 3:
            return _error(404, "no such path")
        if len(path) == 2:
            return self._made(call) if method == "POST" else _said({"data": [e.shown() for e in self.stripe.values()]})
        endpoint = self.stripe.get(path[2])
        if endpoint is None:
            return _error(404, "no such webhook endpoint")
        if method == "DELETE":
            del self.stripe[endpoint.id]
            return _said(
                {"id": endpoint.id, "deleted": True}, self._record("removed", STRIPE, endpoint.id, endpoint.secret)
            )
        if method == "POST":
            form = parse_qs(call.body.decode())
            endpoint.events = form.get("enabled_events[]", endpoint.events)
            endpoint.status = {"true": "disabled", "false": "enabled"}.get(
                form.get("disabled", [""])[0], endpoint.status
            )
            return _said(endpoint.shown(), self._record("changed", STRIPE, endpoint.id, endpoint.secret))
        return _said(endpoint.shown())

    def _made(self, call: Call) -> Honest:
        key = call.head.headers.get("idempotency-key", "")
        if key in self.keys:
            before, answer = self.keys[key]
            return answer if before == call.body else _error(400, "idempotency_error")
        form = parse_qs(call.body.decode())
        if not form.get("url") or not form.get("enabled_events[]"):
            return _error(400, "url and enabled_events are required")
        metadata = {name[9:-1]: values[0] for name, values in form.items() if name.startswith("metadata[")}
        made = self._endpoint(form["url"][0], form["enabled_events[]"], metadata)
        answer = _said({**made.shown(), "secret": made.secret}, event=self.journal.last_id)
        if key:
            self.keys[key] = (call.body, answer)
        return answer

    def _endpoint(self, url: str, events: list[str], metadata: dict[str, str]) -> Endpoint:
        made = Endpoint(f"we_{token_hex(8)}", url, f"whsec_cnry-{token_urlsafe(24)}", events, metadata)
        self.stripe[made.id] = made
        self._record("registered", STRIPE, made.id, made.secret)
        return made

    def _record(self, what: str, shape: str, of: str, secret: str) -> int:
        return self.journal.event("hook", provider=self.name, what=what, shape=shape, of=of, secret=secret)


def _authorised(answer: Callable[[Hooks, Call], Honest]) -> Callable[[Call], Honest]:
    def check(call: Call) -> Honest:
        scheme, _, token = call.head.headers.get("authorization", "").partition(" ")
        hooks: Hooks = call.provider.hooks
        if scheme != "Bearer" or not token or (token != hooks.key and token not in call.provider.by_access_token):
            return _error(401, "Bad credentials")
        if "user-agent" not in call.head.headers:
            return _error(403, "a user agent is required")
        return answer(hooks, call)

    return check


ENDPOINTS = {GITHUB: _authorised(Hooks.answer_github), STRIPE: _authorised(Hooks.answer_stripe)}


def _mac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def _said(answer: dict[str, Any], event: int = 0) -> Honest:
    return Honest(write_answer(200, json.dumps(answer).encode()), event)


def _error(status: int, message: str) -> Honest:
    return Honest(write_answer(status, json.dumps({"message": message}).encode()))
