"""Telling in time of what ends: thirty and seven days before, as the policy says, and when it has; each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from vault.credentials.kinds import Kind
from vault.credentials.policies import WARNINGS, Policy, due, warnings
from vault.engine.values import Values
from vault.events import EventType, Fact
from vault.model import Credential
from vault.ports import CredentialStore, GrantEnd, GrantEndStore, Look, PolicyStore

BATCH: Final = 200
PATIENCE: Final = timedelta(minutes=50)
"""While a change of policies is rolled out, workers differ: they do not undo each other's work more often than this."""
SELDOM: Final = timedelta(days=1)
"""An end that refreshes put off is not looked at more often: many providers put it off by hours, at each refresh."""


class Expiring:
    """The use case behind ``vault.expiry_scan``. Any number may run at a time."""

    def __init__(
        self,
        store: CredentialStore,
        grants: GrantEndStore,
        policies: PolicyStore,
        values: Values,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._grants, self._policies = store, grants, policies
        self._values, self._monotonic = values, monotonic

    def run(self, budget: timedelta) -> int:
        """Tell of every end that has come near; what is told follows from what is due, not from what is stored.

        Returns:
            How many credentials and grants were told of. With more left than the budget allows the next run goes on.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        until, told = self._monotonic() + budget.total_seconds(), 0
        self._date_anew(until - budget.total_seconds() / 2)
        while self._monotonic() < until and (found := self._store.to_be_warned_of(BATCH)):
            now = self._store.now()
            for each in found:
                told += self._tell(each, now)
        while self._monotonic() < until:
            looked, warned = self._grants.look(BATCH, self._look)
            told += warned
            if not looked:
                break
        return told

    def _date_anew(self, until: float) -> None:
        """Give credentials the dates of policies that were changed since they got theirs."""
        digest = self._values.digest
        place = self._policies.place(digest, PATIENCE)
        while place is not None and self._monotonic() < until:
            now, found = self._store.now(), self._policies.active(place, BATCH)
            for each in found:
                if not self._values.is_dated(each, now):
                    self._store.change_credential(each, self._values.dated_again(each, now))
            place = found[-1].id if len(found) == BATCH else None
            self._policies.reached(digest, place)

    def _tell(self, seen: Credential, now: datetime) -> bool:
        policy = self._values.policy(seen)
        following = due(policy, seen.rotated_at or now, seen.expires_at, now)
        return self._store.warned(seen, following.warn_at, list(_facts(seen, policy, now)))

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
