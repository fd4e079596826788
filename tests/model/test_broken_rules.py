"""The model has teeth: each rule, broken on purpose, is caught, and by the promise it is there for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.model.explore import explore
from tests.model.rules import Rules
from tests.model.settings import IDEMPOTENT, STRICT, STRICT_WITHOUT_PENALTY, grace
from tests.model.state import Faults
from tests.model.world import Setting
from vault import lineage, policy
from vault.claims import Claim, Kept, Lineage, Verdict
from vault.lineage import Place
from vault.policy import Decision, RefreshPolicy, Timing
from vault.provider import Provider, Rotation

SLEEP = Faults(2, crash=1, pause=1, lost=1)
OWNER = Faults(2, crash=1, pause=1, owner=1)
CHANGED_MIND = Setting(STRICT, Faults(2, pause=1, owner=1), rounds=1)
STRICT_SLEEP = Setting(STRICT, SLEEP)
STRICT_OWNER = Setting(STRICT, OWNER)
MILD_SLEEP = Setting(STRICT_WITHOUT_PENALTY, SLEEP)
SLEEPY = Setting(IDEMPOTENT, SLEEP, forgiving=True)
WIDE_SLEEP = Setting(grace(1800), SLEEP, forgiving=True)


def _always_row(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    return Place.ROW


def _any_consent(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    return lineage.place(kept if row is None else kept._replace(consent=row.consent), row, known=known)


def _over_a_lease(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    return lineage.place(kept, None if row is None else row._replace(leased=False), known=known)


def _no_memory(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    return lineage.place(kept, row, known=False)


def _no_candidates(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    place = lineage.place(kept, row, known=known)
    return Place.DROP if place is Place.CANDIDATE else place


def _no_revocation(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    place = lineage.place(kept, row, known=known)
    return Place.DROP if place is Place.REVOKE else place


def _whatever_we_hold(
    verdict: Verdict, row: Lineage | None, *, candidates: bool, spooled: bool, client_id: str
) -> bool:
    return lineage.is_conclusive(verdict, row, candidates=False, spooled=spooled, client_id=client_id)


def _whatever_the_row(
    verdict: Verdict, row: Lineage | None, *, candidates: bool, spooled: bool, client_id: str
) -> bool:
    return not candidates and not spooled


def _replay_always_safe(numbers: RefreshPolicy, provider: Provider, claim: Claim) -> Decision:
    return policy.after_claim(numbers, replace(provider, rotation=Rotation.NONE), claim)


def _no_doubt(numbers: RefreshPolicy, provider: Provider, claim: Claim) -> Decision:
    return policy.after_claim(numbers, provider, claim._replace(doubt_since=None))


def _lease_always_suffices(numbers: RefreshPolicy, provider: Provider, left: timedelta) -> bool:
    return True


def _lease_as_long_as_the_window(numbers: RefreshPolicy, provider: Provider) -> Timing:
    return Timing(numbers.deadline, provider.replay_window)


AHEAD = Setting(grace(1800), Faults(2, crash=1, asked=1), forgiving=True)
COMES_BACK = Setting(STRICT, Faults(2, crash=1, lost=1), rounds=3, shared_disk=False)
NARROW = Setting(grace(60), Faults(1, crash=1), forgiving=True)

BROKEN = [
    ("every late answer goes into the row", STRICT_OWNER, Rules(place=_always_row), "I1"),
    ("the older consent wins too", CHANGED_MIND, Rules(place=_any_consent), "I1"),
    ("a late answer is stored over a lease", WIDE_SLEEP, Rules(place=_over_a_lease), "I2"),
    ("the fast path does not look at the epoch", WIDE_SLEEP, Rules(settles_by_epoch=False), "I2"),
    ("the lease is not checked before sending", SLEEPY, Rules(lease_suffices=_lease_always_suffices), "I2"),
    ("a token that has had its turn is kept for another", COMES_BACK, Rules(place=_no_memory), "I2"),
    ("a late answer is thrown away", MILD_SLEEP, Rules(place=_no_candidates), "I4"),
    ("a rejection counts although a candidate is kept", MILD_SLEEP, Rules(is_conclusive=_whatever_we_hold), "I4"),
    ("a rejection counts whatever has become of the row", STRICT_OWNER, Rules(is_conclusive=_whatever_the_row), "I6"),
    ("an answer in a sleeper's spool is not looked for", STRICT_SLEEP, Rules(heeds_spool=False), "I4"),
    ("a strict provider is asked again at once", STRICT_SLEEP, Rules(after_claim=_replay_always_safe), "I8"),
    ("a doubt is forgotten", STRICT_SLEEP, Rules(after_claim=_no_doubt), "I8"),
    ("a stored answer stays a candidate", MILD_SLEEP, Rules(forgets_stored=False), "I3"),
    ("answers are not spooled", STRICT_SLEEP, Rules(spools=False), "I4"),
    ("a claim ahead of time is looked at when it had been due", AHEAD, Rules(claims_fall_due=False), "I5"),
    ("a lease fills the replay window", NARROW, Rules(timing=_lease_as_long_as_the_window), "I5"),
    ("a late answer is not revoked", STRICT_OWNER, Rules(place=_no_revocation), "I6"),
    ("candidates are not revoked", STRICT_OWNER, Rules(revokes_candidates=False), "I6"),
]


@pytest.mark.parametrize(("setting", "rules", "invariant"), [pytest.param(*b[1:], id=b[0]) for b in BROKEN])
def test_a_broken_rule_is_caught(setting: Setting, rules: Rules, invariant: str) -> None:
    report = explore(setting, rules)
    assert report.violation is not None, f"nobody noticed: {report}"
    assert report.violation.invariant == invariant, str(report)
