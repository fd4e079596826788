"""The decisions of ``vault.policy``, as an object that can be broken on purpose and asked in relative time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.model.state import End, Held, Row, Taken, brief
from vault import lineage, policy
from vault.claims import Claim, DataKeyRecord, Kept, Lineage, Verdict
from vault.lineage import Place
from vault.outcome import Outcome
from vault.policy import RefreshPolicy, Step
from vault.provider import Provider, Rotation

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = timedelta(hours=1)
"""Of every access token."""
SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)
_ID = UUID(int=1)
_KEY = DataKeyRecord(_ID, "t", "o", "p", "grant", "current", _ID, b"")
_EPOCH, _VERSION = 5, 7


@dataclass(frozen=True)
class Rules:
    """What the engine and the store ask; the defaults are what they really ask."""

    after_claim: Callable[[RefreshPolicy, Provider, Claim], policy.Decision] = policy.after_claim
    after_outcome: Callable[[RefreshPolicy, Provider, Claim, Outcome, datetime, float], Verdict] = policy.after_outcome
    place: Callable[..., Place] = lineage.place
    is_conclusive: Callable[..., bool] = lineage.is_conclusive
    lease_suffices: Callable[[RefreshPolicy, Provider, timedelta], bool] = policy.lease_suffices
    timing: Callable[[RefreshPolicy, Provider], policy.Timing] = policy.timing
    refresh_in: Callable[[RefreshPolicy, Provider, timedelta, float], timedelta] = policy.refresh_in
    settles_by_epoch: bool = True
    """The fast path stores only under the row's last claim."""
    spools: bool = True
    """An answer is on disk before anything else happens."""
    checks_spool: bool = True
    """A rejection is held against the spool."""
    heeds_spool: bool = True
    """In doubt, nothing is sent while an answer for the connection lies in a spool on this machine."""
    claims_fall_due: bool = True
    """A claim taken ahead of time leaves the row due, so that its doubt is found when its lease is over."""
    revives: bool = True
    """A candidate for a grant given up makes it claimable again."""
    forgets_stored: bool = True
    """What is put into the row is no candidate any more."""
    revokes_candidates: bool = True
    """Disconnecting hands candidates to revocation too."""


class Decisions:
    """Asks the rules about states of the model; equal questions are asked once."""

    def __init__(self, rules: Rules, numbers: RefreshPolicy, provider: Provider) -> None:
        self.rules = rules
        self.numbers = numbers
        self.provider = provider
        limits = rules.timing(numbers, provider)
        self.deadline = micros(limits.deadline)
        self.lease = micros(limits.lease)
        self.scan = micros(numbers.scan)
        self.quarantine = micros(numbers.quarantine_wait)
        self.life = micros(LIFE)
        self.next = micros(rules.refresh_in(numbers, provider, LIFE, 0.0))
        self._steps: dict[Taken, tuple[Step, End | None]] = {}
        self._ends: dict[tuple[Taken, Outcome, float], End] = {}

    def after_claim(self, taken: Taken) -> tuple[Step, End | None]:
        """What follows a claim, and the end it comes with."""
        known = self._steps.get(taken)
        if known is None:
            decision = self.rules.after_claim(self.numbers, self.provider, claim(taken))
            known = decision.step, None if decision.verdict is None else _end(decision.verdict)
            self._steps[taken] = known
        return known

    def may_send(self, taken: Taken) -> bool:
        """Whether the lease allows it."""
        return self.rules.lease_suffices(self.numbers, self.provider, taken.lease * _MICROSECOND)

    def after_outcome(self, taken: Taken, outcome: Outcome, share: float) -> End:
        """How a claim ends that brought no token."""
        question = taken, outcome, share
        known = self._ends.get(question)
        if known is None:
            known = _end(self.rules.after_outcome(self.numbers, self.provider, claim(taken), outcome, NOW, share))
            self._ends[question] = known
        return known

    def give_back(self, taken: Taken) -> End:
        """The end of a claim that was not acted on."""
        return _end(policy.give_back(claim(taken)))

    def look_again(self, taken: Taken) -> End:
        """The end of a claim that found nothing to adopt."""
        return _end(policy.look_again(self.numbers, claim(taken)))

    def place(self, held: Held, row: Row, *, holding: bool, known: bool) -> Place:
        """Where a late answer goes."""
        fragile = self.provider.rotation is Rotation.UNTIL_SUCCESSOR_USED
        lineage = _lineage(row)
        if holding:
            lineage = lineage._replace(leased=False)
        return self.rules.place(_kept(held)._replace(fragile=fragile), lineage, known=known)

    def is_conclusive(self, taken: Taken, row: Row, *, candidates: bool, spooled: bool) -> bool:
        """Whether a rejection proves that the grant is dead."""
        verdict = Verdict(claim(taken), "", taken.status, None, None, 1, unspent=True, conclusive=True)
        found = candidates, spooled and self.rules.checks_spool
        return self.rules.is_conclusive(
            verdict, _lineage(row), candidates=found[0], spooled=found[1], client_id=verdict.claim.client_id
        )

    def last_try(self, expires: int) -> int:
        """The instant after which a doubted refresh token of a strict provider may be risked."""
        return expires - min(60 * SECOND, self.life // 10)


def micros(duration: timedelta) -> int:
    """A duration in the model's unit."""
    return duration // _MICROSECOND


def claim(taken: Taken) -> Claim:
    """The claim as the policy sees it."""
    at = NOW + taken.claimed * _MICROSECOND
    expires = NOW + taken.expires * _MICROSECOND
    doubt = None if taken.doubt is None else NOW + taken.doubt * _MICROSECOND
    return Claim(
        connection_id=_ID,
        tenant="t",
        owner="o",
        provider="p",
        client="p",
        client_id="c",
        consent=taken.consent,
        status=taken.status,
        reason=None,
        version=_VERSION if taken.version else _VERSION - 1,
        parent_fp=_fingerprint(taken.parent),
        refresh_envelope=b"",
        expires_at=expires,
        refreshed_at=expires - LIFE,
        grant_ends_at=None,
        data_key=_KEY,
        epoch=_EPOCH if taken.epoch else _EPOCH - 1,
        attempt=taken.attempt,
        failures=0,
        doubt_since=doubt,
        candidate=taken.candidate,
        claimed_at=at,
        lease_until=NOW + taken.lease * _MICROSECOND,
        due_at=at,
        urgent=False,
    )


def _end(verdict: Verdict) -> End:
    return brief(verdict, 0 if verdict.wait is None else micros(verdict.wait))


def _fingerprint(token: int) -> bytes:
    return bytes([token])


def _kept(held: Held) -> Kept:
    return Kept(
        connection_id=_ID,
        tenant="t",
        epoch=_EPOCH if held.epoch else _EPOCH - 1,
        consent=held.consent,
        parent_fp=_fingerprint(held.parent),
        parent_version=_VERSION if held.version else _VERSION - 1,
        refresh_fp=_fingerprint(held.token),
        data_key_id=_ID,
        access_envelope=b"",
        refresh_envelope=b"",
        token_type="Bearer",
        scopes=None,
        sent_at=NOW,
        expires_at=NOW,
        next_at=NOW,
        grant_ends_at=None,
    )


def _lineage(row: Row) -> Lineage:
    token = None if row.token is None else _fingerprint(row.token)
    return Lineage(row.status, row.consent, token, _VERSION, row.lease > 0, _EPOCH)
