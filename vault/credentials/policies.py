"""How long a credential of each kind may serve, when to warn, and who rotates it; every number may be overridden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple

from vault.credentials.kinds import Kind

_DAY: Final = timedelta(days=1)
WARNINGS: Final = (timedelta(days=30), timedelta(days=7))
"""Whatever ends is warned of so long before, and once more as its policy says."""
BUILT_IN: Final = "built in"


class Policy(NamedTuple):
    """What holds for one credential."""

    max_age: timedelta | None
    """From the last rotation until the next; None: its kind has other rules (an access token is refreshed)."""
    warn: timedelta
    """Before the end, whichever end comes first."""
    automatic: bool
    """Rotated by us when its age is reached; otherwise somebody is told to do it."""
    overlap: timedelta
    """How long the value before goes on working after a rotation."""
    keep: int
    """Versions kept beside the current one."""
    recovery: timedelta
    """How long what was deleted can be brought back."""
    rotator: str = ""
    """Who rotates it; empty: nobody but you."""
    sources: Mapping[str, str] = {}
    """Where each number comes from: ``built in``, or the name of the rule."""


class Rule(NamedTuple):
    """Numbers that override others, for everything that fits. An empty word fits everything."""

    name: str
    tenant: str
    provider: str
    kind: str
    changes: Mapping[str, Any]
    """By field of ``Policy``: days as numbers where it is a duration."""

    @property
    def weight(self) -> int:
        """How special it is: a tenant's counts more than a provider's, and that more than a kind's."""
        return 4 * bool(self.tenant) + 2 * bool(self.provider) + bool(self.kind)

    def fits(self, tenant: str, provider: str, kind: str) -> bool:
        """Whether it is about such a credential."""
        mine, theirs = (self.tenant, self.provider, self.kind), (tenant, provider, kind)
        return all(not word or word == said for word, said in zip(mine, theirs, strict=True))


def _policy(days: float | None, warn: float, *, automatic: bool = False) -> Policy:
    age = None if days is None else days * _DAY
    return Policy(age, warn * _DAY, automatic, overlap=_DAY, keep=10, recovery=30 * _DAY)


DEFAULTS: Final[Mapping[Kind, Policy]] = {
    Kind.ACCESS_TOKEN: _policy(None, 0, automatic=True),
    Kind.REFRESH_TOKEN: _policy(90, 14),
    Kind.API_KEY: _policy(90, 14),
    Kind.USERNAME: _policy(None, 0),
    Kind.PASSWORD: _policy(90, 14),
    Kind.CERTIFICATE: _policy(365, 30),
    Kind.PRIVATE_KEY: _policy(None, 0),
    Kind.WEBHOOK_SECRET: _policy(180, 14, automatic=True)._replace(rotator="webhook"),
    Kind.CUSTOM: _policy(None, 14),
}
"""Requirement C3. A private key is rotated with its certificate, a name with its password."""
OURSELVES: Final = "evergrant"
"""The provider of what we sign with ourselves: our events to tenants' endpoints."""
OURS: Final = Rule(BUILT_IN, "", OURSELVES, str(Kind.WEBHOOK_SECRET), {"overlap": 7})
"""Whoever gets our events must be able to take a new secret over; a day is short for that."""
FIELDS: Final[Mapping[str, type]] = {
    "max_age": float, "warn": float, "automatic": bool, "overlap": float, "keep": int, "recovery": float,
    "rotator": str,
}  # fmt: skip
"""What a rule may change; the durations are in days."""
LONGEST_DAYS: Final = 36_600


def problems(changes: Mapping[str, object]) -> list[str]:
    """Say what is wrong with the changes of a rule."""
    found = []
    for field, value in changes.items():
        if field not in FIELDS:
            found.append(f"{field}: there is no such number; known: {', '.join(FIELDS)}")
        elif FIELDS[field] is bool:
            found += [] if isinstance(value, bool) else [f"{field}: must be true or false"]
        elif FIELDS[field] is str:
            found += [] if isinstance(value, str) and len(value) <= 200 else [f"{field}: must be a name"]
        elif field == "max_age" and value is None:
            continue
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_DAYS:
            found.append(f"{field}: must be a number from 0 to {LONGEST_DAYS}")
        elif field == "max_age" and not value:
            found.append("max_age: must be more than 0 days, or null for never")
        elif FIELDS[field] is int and (value != int(value) or value < 1):
            found.append(f"{field}: must be a whole number, 1 at least")
    return found


def resolve(tenant: str, provider: str, kind: Kind, rules: Iterable[Rule], own: Mapping[str, Any] | None) -> Policy:
    """Return what holds for a credential: the built-in numbers, overridden by rules that fit, the most special last.

    Args:
        tenant: Whose it is.
        provider: Whose door it opens.
        kind: What it is.
        rules: Any, in any order.
        own: The credential's own changes, which win over every rule.
    """
    policy = DEFAULTS[kind]
    sources = dict.fromkeys(FIELDS, BUILT_IN)
    fitting = [rule for rule in (OURS, *rules) if rule.fits(tenant, provider, kind)]
    fitting.sort(key=lambda rule: rule.weight)
    for name, changes in [*((rule.name, rule.changes) for rule in fitting), ("credential", own or {})]:
        policy = policy._replace(**{field: _value(field, value) for field, value in changes.items()})
        sources.update(dict.fromkeys(changes, name))
    return policy._replace(sources=sources)


def _value(field: str, value: Any) -> Any:
    if value is None or FIELDS[field] in (bool, str):
        return value
    return int(value) if FIELDS[field] is int else float(value) * _DAY


class Due(NamedTuple):
    """What is to happen to a credential next, by its policy."""

    rotate_at: datetime | None
    warn_at: datetime | None
    rotator: str
    """Who rotates it then; empty: nobody does by himself."""


def due(policy: Policy, rotated_at: datetime, expires_at: datetime | None, after: datetime) -> Due:
    """Return when a credential is to be rotated, and when the next warning comes after an instant."""
    rotate_at = None if policy.max_age is None else rotated_at + policy.max_age
    ahead = [at for at in warnings(policy, rotate_at, expires_at) if at > after]
    return Due(rotate_at, min(ahead, default=None), policy.rotator if policy.automatic else "")


def due_again(policy: Policy, rotated_at: datetime, expires_at: datetime | None, now: datetime) -> Due:
    """As ``due``, after its policy was changed: what should have been told before by now is told next."""
    found = due(policy, rotated_at, expires_at, now)
    late = any(at <= now for at in warnings(policy, found.rotate_at, expires_at))
    return found._replace(warn_at=now) if late else found


def digest(rules: Sequence[Rule]) -> bytes:
    """Tell one state of all policies from another."""
    rest = [(rule.tenant, rule.provider, rule.kind, sorted(rule.changes.items())) for rule in (OURS, *rules)]
    return sha256(repr((sorted(DEFAULTS.items()), WARNINGS, rest)).encode()).digest()


def warnings(policy: Policy, rotate_at: datetime | None, expires_at: datetime | None) -> list[datetime]:
    """Return the instants at which somebody is told of an end, before it and at it; one we see to is none."""
    ends = [expires_at] if policy.automatic or rotate_at is None else [expires_at, rotate_at]
    before = {*WARNINGS, policy.warn, timedelta(0)}
    return sorted({end - each for end in ends if end is not None for each in before})
