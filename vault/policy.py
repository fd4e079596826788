"""What to do, decided without doing it: pure functions from what is known to what follows.

The engine executes these decisions and the protocol's model enumerates them (``tests/model``), so what is proved
about one holds for the other. No clock, no database, no network; instants come in as values of the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from vault.claims import Claim, Verdict
from vault.model import Status
from vault.outcome import Ambiguous, Dead, Misconfigured, NotSent, Outcome, StepNeeded, Throttled, Unknown
from vault.provider import LONGEST_LIFE, Provider, Rotation
from vault.settings import Settings

ZERO = timedelta(0)

# ------------------------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """The numbers of refreshing; each with a default that is safe."""

    threshold: float = 0.9
    """Share of an access token's life after which a refresh is due."""
    margin: timedelta = timedelta(minutes=5)
    """Or this long before it ends, whichever is earlier."""
    spread: float = 0.1
    """Refreshes are spread over this share of the time before that instant, by a hash of the id."""
    deadline: timedelta = timedelta(seconds=10)
    """Total time for one POST, connecting included."""
    lease_factor: int = 3
    """A lease is this many deadlines."""
    scan: timedelta = timedelta(seconds=5)
    """How often due rows are looked for."""
    base: timedelta = timedelta(seconds=5)
    """First step of the backoff; full jitter, factor two."""
    cap: timedelta = timedelta(hours=1)
    """Longest step of the backoff."""
    fast_tries: int = 3
    """Failures that stay within the first step before the backoff grows."""
    operator_wait: timedelta = timedelta(minutes=30)
    """No retry sooner when our own registration was refused."""
    throttle_wait: timedelta = timedelta(seconds=60)
    """For a 429 that does not say how long."""
    quarantine_after: int = 3
    """Claims without an end before a connection is taken for poison."""
    quarantine_wait: timedelta = timedelta(hours=1)
    """Between the lonely tries of a quarantined connection."""
    unknown_limit: int = 5
    """Identical rejections nobody understands before a grant counts as dead, its access token being over too."""


def from_settings(settings: Settings) -> RefreshPolicy:
    """Return the numbers as they are set: this is where seconds become durations."""
    return RefreshPolicy(
        threshold=settings.refresh_threshold,
        margin=timedelta(seconds=settings.refresh_margin_s),
        deadline=timedelta(seconds=settings.request_deadline_s),
        scan=settings.scan_interval,
        base=timedelta(seconds=settings.refresh_retry_delay_s),
        cap=timedelta(seconds=settings.refresh_retry_cap_s),
        fast_tries=settings.refresh_fast_tries,
        quarantine_wait=timedelta(seconds=settings.quarantine_wait_s),
    )


WINDOW_SHARE = 0.9
"""Of a provider's replay window; the rest is for clocks, and for the time a request is on its way."""


class Timing(NamedTuple):
    """How long one POST may take, and how long its claim holds."""

    deadline: timedelta
    lease: timedelta


def timing(policy: RefreshPolicy, provider: Provider) -> Timing:
    """Deadline and lease for one provider.

    A lost answer can only be asked for again within the provider's replay window, so for such a provider a lease, a
    scan, and the deadline of the second request must fit into it: the deadline gives way, the factor between deadline
    and lease never does.
    """
    deadline = policy.deadline
    if provider.rotation is Rotation.GRACE and provider.replay_window > ZERO:
        room = (provider.replay_window * WINDOW_SHARE - policy.scan) / (policy.lease_factor + 1)
        deadline = min(deadline, max(room, timedelta(seconds=1)))
    return Timing(deadline, deadline * policy.lease_factor)


# ------------------------------------------------------------------------------------------------------------ when due


IDLE_SHARE = 0.8
"""Of the time after which a grant lapses when it lies idle; the rest is for outages."""


def refresh_in(
    policy: RefreshPolicy, provider: Provider, life: timedelta, share: float, idle: timedelta | None = None
) -> timedelta:
    """How long after an access token was issued its refresh is due.

    The earlier of 90 % of its life and five minutes before its end, minus jitter, but never before half of the life nor
    before the provider's earliest. ``share`` in [0, 1) comes from a hash of the connection's id. Where a grant lapses
    after lying ``idle``, it is kept alive, also at a provider who wants no token refreshed that nobody asks for.
    """
    if not provider.proactive:
        return max(idle * IDLE_SHARE if idle else LONGEST_LIFE, provider.earliest_refresh)
    due = min(life * policy.threshold, life - policy.margin)
    due = max(due, life / 2)
    due -= (due - life / 2) * min(policy.spread * share, 1.0)
    if idle is not None:
        due = min(due, idle * IDLE_SHARE)
    return max(due, provider.earliest_refresh, ZERO)


def is_long_enough(life: timedelta, left: timedelta, min_ttl: timedelta) -> bool:
    """Whether a token serves a caller who wants ``min_ttl`` of life.

    A token in the first half of its life always does: a refresh could hardly give more, and asking for one at every
    read of a token that never lives as long as the caller wishes would refresh it at every read.
    """
    return left > min_ttl or left > life / 2


def backoff(policy: RefreshPolicy, failures: int, share: float) -> timedelta:
    """Full jitter over an exponential step; the first few failures stay within the first step.

    ``share`` in [0, 1) is drawn at random; a tenth of the step is always waited, so that a retry is never at once.
    """
    doublings = min(max(0, failures - policy.fast_tries), 20)
    step = min(policy.cap, policy.base * float(1 << doublings))
    return step * (0.1 + 0.9 * share)


# ----------------------------------------------------------------------------------------------------------- S3: send?


class Step(Enum):
    """What follows a claim."""

    SEND = "send"
    ADOPT = "adopt"
    """An answer that descends from the row's refresh token is at hand: put it into the row instead of sending."""
    END = "end"


class Decision(NamedTuple):
    """A step; ``END`` comes with the verdict that ends the claim."""

    step: Step
    verdict: Verdict | None = None


SEND = Decision(Step.SEND)
ADOPT = Decision(Step.ADOPT)


def last_try_at(claim: Claim) -> datetime:
    """When a strict provider's old refresh token is tried after a lost answer: shortly before the access token ends.

    Sooner would risk a penalty (a family revoked, access token included) while the stored access token still serves.
    """
    return claim.expires_at - min(timedelta(minutes=1), claim.life / 10)


def replay_is_safe(provider: Provider, doubt_since: datetime, now: datetime, deadline: timedelta) -> bool:
    """Whether sending a refresh token again, first sent at ``doubt_since``, is within what the provider promises."""
    match provider.rotation:
        case Rotation.NONE | Rotation.IDEMPOTENT | Rotation.UNTIL_SUCCESSOR_USED:
            return True
        case Rotation.GRACE:
            return now + deadline <= doubt_since + provider.replay_window
        case Rotation.STRICT:
            return False


def after_claim(policy: RefreshPolicy, provider: Provider, claim: Claim) -> Decision:
    """Decide what to do with a row just claimed (S3, S6)."""
    if claim.parent_fp is None:
        return Decision(Step.END, _without_refresh_token(claim))
    early = claim.refreshed_at + provider.earliest_refresh - claim.claimed_at
    if provider.earliest_refresh and early > ZERO and not claim.candidate:
        return Decision(Step.END, give_back(claim)._replace(wait=early))
    if claim.attempt > policy.quarantine_after and claim.status is not Status.QUARANTINED:
        return Decision(Step.END, _quarantine(policy, provider, claim))
    if claim.candidate and provider.rotation is not Rotation.UNTIL_SUCCESSOR_USED:
        return ADOPT  # else a replay is safe, and may already have made the provider forget the candidate
    now = claim.claimed_at
    if claim.doubt_since is None or replay_is_safe(provider, claim.doubt_since, now, timing(policy, provider).deadline):
        return SEND
    wait = last_try_at(claim) - now
    if wait <= ZERO:
        return SEND
    return Decision(Step.END, _doubt(claim, "answer_lost", wait, claim.failures))


def send_within(policy: RefreshPolicy, provider: Provider, left: timedelta) -> timedelta:
    """S3: how long a POST may still be sent so that it ends, answered or not, well before anybody else claims the row.

    Args:
        policy: the numbers.
        provider: to whom it goes.
        left: what is left of the lease.

    Returns:
        Zero or less: not at all.
    """
    limits = timing(policy, provider)
    return left - limits.deadline - limits.lease / 10


def lease_suffices(policy: RefreshPolicy, provider: Provider, left: timedelta) -> bool:
    """S3: whether a POST may be sent now."""
    return send_within(policy, provider, left) >= ZERO


def give_back(claim: Claim) -> Verdict:
    """End a claim that was not acted on: due again at once, as if it had not been taken."""
    return Verdict(claim, "", claim.status, claim.reason, ZERO, claim.failures, unspent=True)


def look_again(policy: RefreshPolicy, claim: Claim) -> Verdict:
    """End a claim whose rejection was not conclusive: the row is read anew at the next scan."""
    status = Status.IN_DOUBT if claim.doubt_since else Status.ACTIVE
    return Verdict(claim, "", status, claim.reason, policy.scan, claim.failures + 1, unspent=False)


def unprepared(policy: RefreshPolicy, claim: Claim, reason: str, share: float) -> Verdict:
    """End a claim that could not be prepared (S1): no key, no spool. Nothing was spent; the grant is not to blame."""
    return _postpone(claim, reason, backoff(policy, claim.failures + 1, share))


def held_back(policy: RefreshPolicy, provider: Provider, claim: Claim, now: datetime, wait: timedelta) -> Verdict:
    """End a claim that was not acted on, its registration having to rest while others of its provider do not."""
    return give_back(claim)._replace(wait=_in_window(policy, provider, claim, now, wait))


def after_refused_secret(
    policy: RefreshPolicy, provider: Provider, claim: Claim, code: str, now: datetime, share: float
) -> Verdict:
    """End a claim whose POST showed a client secret that was refused, another one being at hand: soon again."""
    return _postpone(claim, code, _in_window(policy, provider, claim, now, backoff(policy, 1, share)))


def other_client(policy: RefreshPolicy, claim: Claim) -> Verdict:
    """End a claim that was rejected while asking as another client than the one that got the consent."""
    return _postpone(claim, "client_changed", policy.operator_wait)


def _without_refresh_token(claim: Claim) -> Verdict:
    left = claim.expires_at - claim.claimed_at
    if left > ZERO:
        return Verdict(claim, "", claim.status, claim.reason, left, claim.failures, unspent=True)
    return _reconnect(claim, "no_refresh_token")


def _quarantine(policy: RefreshPolicy, provider: Provider, claim: Claim) -> Verdict:
    wait = _in_window(policy, provider, claim, claim.claimed_at, policy.quarantine_wait)
    return Verdict(claim, "connection.quarantined", Status.QUARANTINED, "kills_its_worker", wait, claim.failures, False)


def _in_window(policy: RefreshPolicy, provider: Provider, claim: Claim, now: datetime, wait: timedelta) -> timedelta:
    """Shorten a wait so that a refresh token in doubt is sent again while its provider still takes it."""
    if provider.rotation is not Rotation.GRACE or claim.doubt_since is None:
        return wait
    ends = claim.doubt_since + provider.replay_window * WINDOW_SHARE
    left = ends - now - policy.scan - timing(policy, provider).deadline
    if not replay_is_safe(provider, claim.doubt_since, now, timing(policy, provider).deadline):
        return wait  # it is too late for that
    return min(wait, max(left, ZERO))


def _doubt(claim: Claim, reason: str, wait: timedelta, failures: int) -> Verdict:
    event = "" if (claim.status, claim.reason) == (Status.IN_DOUBT, reason) else "oauth.in_doubt"
    return Verdict(claim, event, Status.IN_DOUBT, reason, wait, failures, unspent=False)


def _reconnect(claim: Claim, reason: str) -> Verdict:
    return Verdict(
        claim, "connection.needs_reconnect", Status.NEEDS_RECONNECT, reason, None, claim.failures + 1, True, True
    )


def _postpone(claim: Claim, reason: str, wait: timedelta) -> Verdict:
    status = Status.IN_DOUBT if claim.doubt_since else Status.ACTIVE
    event = "" if claim.reason == reason else "oauth.postponed"
    return Verdict(claim, event, status, reason, wait, claim.failures + 1, unspent=True)


# --------------------------------------------------------------------------------------------------- S6, S7: no answer


def after_outcome(
    policy: RefreshPolicy, provider: Provider, claim: Claim, outcome: Outcome, now: datetime, share: float
) -> Verdict:
    """Decide how a claim ends that brought no token; ``share`` in [0, 1) is the jitter drawn for it.

    Raises:
        ValueError: for ``Refreshed``, which is not an end without a token.
    """
    wait = backoff(policy, claim.failures + 1, share)
    match outcome:
        case NotSent(cause):
            return _postpone(claim, cause, _in_window(policy, provider, claim, now, wait))
        case Throttled(cause, retry_after):
            wait = max(wait, retry_after or policy.throttle_wait)
            return _postpone(claim, cause, _in_window(policy, provider, claim, now, wait))
        case Misconfigured(code):
            wait = max(wait, policy.operator_wait)
            return _postpone(claim, code, _in_window(policy, provider, claim, now, wait))
        case Ambiguous(cause, retry_after):
            wait = _doubt_wait(policy, provider, claim, now, max(wait, retry_after or ZERO))
            return _doubt(claim, cause, wait, claim.failures + 1)
        case StepNeeded(code):
            return _reconnect(claim, code)
        case Dead(code):
            return _reconnect(claim, "answer_lost" if claim.doubt_since else code)
        case Unknown(code):
            return _unknown(policy, provider, claim, code, now, wait)
        case _:
            raise ValueError("an answer is kept, not judged")


def _unknown(
    policy: RefreshPolicy, provider: Provider, claim: Claim, code: str, now: datetime, wait: timedelta
) -> Verdict:
    identical = claim.failures + 1 if claim.reason == code else 1
    if identical >= policy.unknown_limit and claim.expires_at <= now:
        return _reconnect(claim, code)
    return _postpone(claim, code, _in_window(policy, provider, claim, now, wait))._replace(failures=identical)


def _doubt_wait(policy: RefreshPolicy, provider: Provider, claim: Claim, now: datetime, wait: timedelta) -> timedelta:
    """S6: at once where that is safe, inside the window, else shortly before the access token ends; then back off."""
    doubted = claim._replace(doubt_since=claim.doubt_since or claim.claimed_at)
    since = doubted.doubt_since or now
    if provider.rotation is Rotation.UNTIL_SUCCESSOR_USED:
        # The first request may still be on its way; processed after the second, it would undo what that one gave.
        return max(wait, claim.lease_until - now)
    if replay_is_safe(provider, since, now, timing(policy, provider).deadline):
        return _in_window(policy, provider, doubted, now, wait)
    return max(wait, last_try_at(claim) - now)
