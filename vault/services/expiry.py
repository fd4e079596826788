"""Telling in time of what ends: thirty and seven days before, as the policy says, and when it has; each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from vault.credentials.kinds import Kind
from vault.credentials.policies import WARNINGS, Policy, due, warnings
from vault.engine.values import Values
from vault.events import EventType, Fact
from vault.model import Credential
from vault.ports import CredentialDates, GrantEnd, GrantEndStore, Look, PolicyStore

BATCH: Final = 200
PATIENCE: Final = timedelta(minutes=50)
"""While a change of policies is rolled out, workers differ: they do not undo each other's work more often than this."""
SELDOM: Final = timedelta(days=1)
"""An end that refreshes put off is not looked at more often: many providers put it off by hours, at each refresh."""


class ExpiryTally(NamedTuple):
    """What one scan did."""

    told: int
    """Warnings, and ends that have come, told for the first time."""
    dated: int
    """Credentials that got new dates, their policies having changed."""
    more: bool
    """There may be more to do than the budget allowed."""


class Expiring:
    """The use case behind ``vault.expiry_scan``. Any number may run at a time."""

    def __init__(
        self,
        dates: CredentialDates,
        grants: GrantEndStore,
        policies: PolicyStore,
        values: Values,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._dates, self._grants, self._policies = dates, grants, policies
        self._values, self._monotonic = values, monotonic

    def run(self, budget: timedelta) -> ExpiryTally:
        """Tell of every end that has come near; what it costs follows from what is due, not from what is stored.

        First credentials get the dates of policies that have changed since they got theirs.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        now = self._monotonic()
        until, told = now + budget.total_seconds(), 0
        dated, more = self._date_anew(now + budget.total_seconds() / 2)
        for look in (partial(self._dates.look, BATCH, self._decide), partial(self._grants.look, BATCH, self._look)):
            looked = 1
            while looked and self._monotonic() < until:
                looked, warned = look()
                told += warned
            more |= bool(looked)
        return ExpiryTally(told, dated, more)

    def _date_anew(self, until: float) -> tuple[int, bool]:
        digest, total = self._values.digest, 0
        place = self._policies.place(digest, PATIENCE)
        while place is not None and self._monotonic() < until:
            changed, place = self._dates.date_anew(place, BATCH, self._values.dated_by_policy)
            self._policies.reached(digest, place)
            total += changed
        return total, place is not None

    def _decide(self, seen: Credential, now: datetime) -> tuple[Credential, list[Fact]]:
        policy = self._values.policy(seen)
        dated = seen._replace(**due(policy, seen.rotated_at, seen.expires_at, now)._asdict())
        return dated, list(_facts(dated, policy, now))

    def _look(self, end: GrantEnd, now: datetime) -> Look:
        assert end.ends_at is not None  # the store forgets those itself
        if end.ends_at <= now:  # what came of it the next refresh finds out
            return Look(now + SELDOM)
        policy = self._values.policy_for(end.tenant, end.provider, Kind.REFRESH_TOKEN)
        following = min(at for at in warnings(policy, None, end.ends_at) if at > now)
        if end.ends_at > end.seen_at:
            return Look(max(following, now + SELDOM))
        return Look(following, None if end.new else _days(policy, end.ends_at - now))


def _facts(of: Credential, policy: Policy, now: datetime) -> Iterator[Fact]:
    """What is to be told of a credential now; what was told before has the same key."""
    if of.expires_at is not None and of.expires_at <= now:
        yield _fact(of, EventType.CREDENTIAL_EXPIRED, of.expires_at, 0)
    elif of.expires_at is not None and (days := _days(policy, of.expires_at - now)) is not None:
        yield _fact(of, EventType.CREDENTIAL_EXPIRING, of.expires_at, days)
    if of.rotate_at is not None and not policy.automatic:
        days = 0 if of.rotate_at <= now else _days(policy, of.rotate_at - now)
        if days is not None:
            yield _fact(of, EventType.ROTATION_DUE, of.rotate_at, days)


def _days(policy: Policy, left: timedelta) -> int | None:
    """The nearest warning whose time has come, in days before the end; None: none yet."""
    return min((each.days for each in {*WARNINGS, policy.warn} if timedelta(0) < left <= each), default=None)


def _fact(of: Credential, kind: EventType, end: datetime, days: int) -> Fact:
    key = f"{kind}:{of.id}:{of.version}:{int(end.timestamp())}:{days}"
    said = {
        "credential_id": of.id, "kind": of.kind, "owner": of.owner, "provider": of.provider, "name": of.name,
        "version": of.version, "at": end.isoformat(), "days": days,
    }  # fmt: skip
    return Fact(of.tenant, kind, key, said, of.connection_id, of.id)
