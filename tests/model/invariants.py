"""What must hold: some at every step, some whenever nothing is left to happen."""

from __future__ import annotations

from tests.model.provider import Mode, accepted
from tests.model.rules import Decisions
from tests.model.state import Family, Phase, State, Violation, Worker
from tests.model.store import holds_a_live_token
from vault.model import Status
from vault.provider import Rotation

INVARIANTS = {
    "I1": "every stored token was issued for this consent",
    "I2": "no refresh token is sent after its successor was stored",
    "I3": "a connection that is alive at the provider and well here holds a token the provider accepts",
    "I4": "needs_reconnect only where no live refresh token is in our hands, and a lost answer says why",
    "I5": "with a provider that accepts the old token again, nothing is ever lost",
    "I6": "the newer consent wins; what arrives for a disconnected connection is revoked",
    "I7": "every story ends: active, needs_reconnect or disconnected, in nobody's hands",
    "I8": "a live access token is not killed by our own replay",
}


def before_sending(state: State, token: int) -> None:
    """I2, at the moment of sending."""
    for child, known in enumerate(state.tokens):
        if known.parent == token and state.stored >> child & 1:
            raise Violation("I2", f"T{token} is sent although its successor T{child} has been stored")


def after_answer(
    decisions: Decisions, mode: Mode, before: State, after: State, *, forgiving: bool, blind: bool
) -> None:
    """I4, I5 and I8, at the moment a presented token has killed its family."""
    for consent, (was, now) in enumerate(zip(before.families, after.families, strict=True), 1):
        if was is now or now is not Family.REUSED:
            continue
        if consent != before.row.consent or before.row.status is Status.DISCONNECTED:
            continue
        if forgiving:
            raise Violation("I5", "our own replay has ended a grant")
        for token in accepted(mode, before.tokens, before.families, consent):
            if not blind and not before.lost >> token & 1 and not _overslept(before, token):
                raise Violation("I4", f"a replay has ended the grant while its live token T{token} was in our hands")
        left = before.row.expires
        if left > 0 and decisions.last_try(left) > 0:
            raise Violation("I8", f"a replay has killed an access token with {left // 1_000_000} s of life left")


def at_every_step(mode: Mode, state: State, *, forgiving: bool) -> None:
    """I1, I3, I5, I6: true of every state there is."""
    row = state.row
    if row.token is not None and state.tokens[row.token].consent != row.consent:
        raise Violation("I1", f"T{row.token} of another consent is stored under consent {row.consent}")
    if row.status is Status.DISCONNECTED and row.token is not None:
        raise Violation("I6", "a disconnected connection holds a refresh token")
    if row.token is None and row.status is not Status.DISCONNECTED:
        raise Violation("I6", f"a disconnected connection has become {row.status.value}")
    family = state.families[row.consent - 1]
    if row.status is Status.NEEDS_RECONNECT and forgiving and family is not Family.KILLED:
        raise Violation("I5", "a grant is given up that the provider would have gone on with")
    quiet = row.lease <= 0 and row.intent is None and row.status is Status.ACTIVE
    if quiet and family is Family.ALIVE and not holds_a_live_token(mode, state):
        raise Violation("I3", f"the row is well, but the provider no longer takes its T{row.token}")


def at_the_end(mode: Mode, state: State) -> None:
    """I3, I4, I6, I7: true wherever nothing is left to happen."""
    row = state.row
    family = state.families[row.consent - 1]
    if row.lease > 0 or row.status in (Status.IN_DOUBT, Status.QUARANTINED):
        raise Violation("I7", f"nothing more happens, and the row is {row.status.value}")
    if any(w.phase is not Phase.IDLE or w.orphans for w in state.workers):
        raise Violation("I7", "nothing more happens, and a worker or a spool still holds something")
    live = [t for t in accepted(mode, state.tokens, state.families, row.consent) if not state.lost >> t & 1]
    if row.status is Status.NEEDS_RECONNECT:
        if live:
            raise Violation("I4", f"needs_reconnect, while live tokens were never lost: {_names(live)}")
        if family is Family.ALIVE and not state.lost:
            raise Violation("I4", "needs_reconnect without a lost answer")
    if row.status is Status.DISCONNECTED and live:
        raise Violation("I6", f"disconnected, and never revoked: {_names(live)}")
    if row.status is Status.ACTIVE and family is Family.ALIVE and not holds_a_live_token(mode, state):
        raise Violation("I3", f"the row ends well, but the provider no longer takes its T{row.token}")


def is_forgiving(mode: Mode) -> bool:
    """Whether the provider's rotation alone promises that nothing can be lost."""
    return mode.rotation in (Rotation.NONE, Rotation.IDEMPOTENT, Rotation.UNTIL_SUCCESSOR_USED)


def is_overslept(mode: Mode, state: State) -> bool:
    """Whether a live answer is in the hands of a worker that has lost its lease over it."""
    return any(_overslept(state, t) for t in accepted(mode, state.tokens, state.families, state.row.consent))


def _overslept(state: State, token: int) -> bool:
    """Whether the only worker that has this answer has lost its lease over it: no rule can tell it from a dead one."""
    return any(w.answer == token and w.phase is Phase.ANSWERED and _lapsed(w) for w in state.workers)


def _lapsed(worker: Worker) -> bool:
    return worker.taken is not None and (worker.taken.lease <= 0 or not worker.taken.epoch)


def _names(tokens: list[int]) -> str:
    return ", ".join(f"T{token}" for token in tokens)
