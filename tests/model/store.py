"""What each transaction of the store does to the world, as ``vault.store`` does it: whole, or not at all."""

from __future__ import annotations

from tests.model.provider import Mode, is_accepted, revoke
from tests.model.rules import Decisions
from tests.model.state import FREE, Held, Row, State, Taken, Worker
from vault.lineage import Place
from vault.model import Status

SUSPECT = 1
ENDED = (Status.NEEDS_RECONNECT, Status.DISCONNECTED)


def is_scheduled(state: State) -> bool:
    """Whether the row will be claimed some time; a healthy one whose rounds are over is not, which ends the story."""
    row = state.row
    if row.due is None or row.lease > 0 or row.status in ENDED or row.token is None:
        return False
    return state.rounds > 0 or row.status is not Status.ACTIVE or row.intent == row.token


def is_due(state: State) -> bool:
    """Whether the scan would claim the row now."""
    return state.row.due is not None and state.row.due <= 0 and is_scheduled(state)


def is_askable(state: State) -> bool:
    """Whether somebody who needs a token could have the row claimed ahead of its time."""
    row = state.row
    return not is_due(state) and is_scheduled(state) and row.status is Status.ACTIVE and row.attempt < SUSPECT


def claim(decisions: Decisions, state: State) -> tuple[State, Taken]:
    """S2: lease, epoch, intent."""
    row = state.row
    assert row.token is not None
    assert row.due is not None
    doubt = row.intent_at if row.intent == row.token else None
    attempt = min(row.attempt + 1, decisions.numbers.quarantine_after + 2)
    put_off = row.attempt >= decisions.numbers.quarantine_after
    candidate = any(c.parent == row.token for c in row.candidates)
    taken = Taken(
        row.token, row.consent, row.status, row.expires, doubt, attempt, candidate, claimed=0, lease=decisions.lease
    )
    row = row._replace(
        lease=decisions.lease,
        attempt=attempt,
        intent=row.token,
        intent_at=0 if doubt is None else doubt,
        due=decisions.quarantine if put_off else row.due if not decisions.rules.claims_fall_due else min(row.due, 0),
    )
    return outdated(state._replace(row=row), epoch=True), taken


def settle(decisions: Decisions, state: State, held: Held) -> tuple[State, bool]:
    """S5, the fast path: store under our own claim, or not at all."""
    row = state.row
    if not held.epoch and decisions.rules.settles_by_epoch:
        return state, False
    row = row._replace(lease=FREE, due=_due(decisions, held), attempt=0, intent=None, intent_at=0)
    fits = row.token == held.parent and held.version and row.consent == held.consent
    if not fits or row.status is Status.DISCONNECTED:
        return state._replace(row=row), False
    return _put(decisions, state._replace(row=row), held), True


def settle_late(
    decisions: Decisions, mode: Mode, state: State, held: Held, *, holding: bool = False
) -> tuple[State, Place]:
    """S5 for what did not fit, under the row's lock; ``holding``: the lease is our own."""
    place = decisions.place(held, state.row, holding=holding, known=bool(state.stored >> held.token & 1))
    if place is Place.ROW:
        return _reschedule(decisions, _put(decisions, state, held), held), place
    if place is Place.CANDIDATE:
        return _keep_candidate(decisions, state, held), place
    if place is Place.REVOKE:
        families = revoke(mode, state.tokens, state.families, held.token)
        return state._replace(families=families), place
    return state, place


def end(state: State, worker: Worker) -> State:
    """S6: a verdict, by epoch."""
    taken, verdict, row = worker.taken, worker.end, state.row
    assert taken is not None
    assert verdict is not None
    if not taken.epoch:
        return state
    clear = verdict.unspent and taken.doubt is None
    row = row._replace(
        lease=FREE,
        due=0 if any(c.parent == row.intent for c in row.candidates) else verdict.wait,
        attempt=row.attempt if verdict.status is Status.QUARANTINED else 0,
        intent=None if clear else row.intent,
        intent_at=0 if clear else row.intent_at,
    )
    if row.consent == taken.consent and row.status is not Status.DISCONNECTED:
        row = row._replace(status=verdict.status)
    return state._replace(row=row)


def condemn(decisions: Decisions, state: State, taken: Taken, *, spooled: bool) -> tuple[State, bool]:
    """S7: dead, if that is conclusive under the row's lock."""
    row = state.row
    if not decisions.is_conclusive(taken, row, candidates=bool(row.candidates), spooled=spooled):
        return state, False
    return state._replace(row=row._replace(status=Status.NEEDS_RECONNECT, due=None, lease=FREE, attempt=0)), True


def adopt(decisions: Decisions, state: State, taken: Taken) -> tuple[State, bool]:
    """Put the newest candidate into the row, under our claim."""
    row = state.row
    if not row.candidates or not taken.epoch or not taken.version or row.consent != taken.consent:
        return state, False
    newest, *others = row.candidates
    state = state._replace(row=row._replace(candidates=tuple(others)))
    after = _reschedule(decisions, _put(decisions, state, newest), newest)
    if newest.parent != taken.parent:  # of another lineage: whether it lives is seen by using it
        after = after._replace(row=after.row._replace(due=0), rounds=max(after.rounds, 1))
    return after, True


def reconnect(decisions: Decisions, state: State, token: int) -> State:
    """A new consent takes the old one's place."""
    row = Row(Status.ACTIVE, state.row.consent + 1, token, decisions.life, decisions.next, FREE)
    state = state._replace(row=row, stored=state.stored | 1 << token)
    return outdated(state, epoch=True, version=True)


def disconnect(decisions: Decisions, mode: Mode, state: State) -> State:
    """Secrets go, and the provider is told."""
    row = state.row
    families = state.families
    if row.token is not None:
        families = revoke(mode, state.tokens, families, row.token)
    for candidate in row.candidates if decisions.rules.revokes_candidates else ():
        families = revoke(mode, state.tokens, families, candidate.token)
    row = Row(Status.DISCONNECTED, row.consent, None, 0, None, FREE)
    return outdated(state._replace(row=row, families=families), epoch=True, version=True)


def outdated(state: State, *, epoch: bool = False, version: bool = False) -> State:
    """The row's epoch or version moved on: what was made under the old one no longer is under the row's."""

    def held(h: Held) -> Held:
        return h._replace(epoch=h.epoch and not epoch, version=h.version and not version)

    def worker(w: Worker) -> Worker:
        t = w.taken
        if t is None and w.held is None and not w.orphans:
            return w
        if t is not None:
            t = t._replace(epoch=t.epoch and not epoch, version=t.version and not version)
        return w._replace(taken=t, held=w.held and held(w.held), orphans=tuple(map(held, w.orphans)))

    row = state.row
    if row.candidates:
        row = row._replace(candidates=tuple(map(held, row.candidates)))
    return state._replace(row=row, workers=tuple(map(worker, state.workers)))


def holds_a_live_token(mode: Mode, state: State) -> bool:
    """Whether the row's refresh token would be accepted."""
    token = state.row.token
    return token is not None and is_accepted(mode, state.tokens, state.families, token)


def _put(decisions: Decisions, state: State, held: Held) -> State:
    row = state.row._replace(status=Status.ACTIVE, token=held.token, expires=held.expires)
    if decisions.rules.forgets_stored:
        row = row._replace(candidates=tuple(c for c in row.candidates if c.token != held.token))
    state = state._replace(row=row, stored=state.stored | 1 << held.token, rounds=max(0, state.rounds - 1))
    return outdated(state, version=True)


def _reschedule(decisions: Decisions, state: State, held: Held) -> State:
    row = state.row._replace(lease=FREE, due=_due(decisions, held), attempt=0, intent=None, intent_at=0)
    return outdated(state._replace(row=row), epoch=True)


def _due(decisions: Decisions, held: Held) -> int:
    return max(held.expires - decisions.life + decisions.next, 0)


def _keep_candidate(decisions: Decisions, state: State, held: Held) -> State:
    row = state.row
    if row.status is Status.NEEDS_RECONNECT and decisions.rules.revives:
        row = row._replace(status=Status.IN_DOUBT)
    if all(c.token != held.token for c in row.candidates):
        kept = (held._replace(epoch=False), *row.candidates)
        row = row._replace(candidates=tuple(sorted(kept, key=lambda c: -c.expires)))
    return state._replace(row=row._replace(due=min(row.due or 0, 0)))
