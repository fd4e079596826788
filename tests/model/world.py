"""What can happen next: the steps of two workers, the network, the provider and the owner, and all that can fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import NamedTuple

from tests.model import invariants, store
from tests.model.clock import Clock
from tests.model.provider import Mode, present
from tests.model.rules import SECOND, Decisions, Rules
from tests.model.state import FREE, End, Family, Faults, Held, Phase, Row, State, Taken, Token, Worker
from vault.model import Status
from vault.outcome import Ambiguous, Dead, NotSent, Outcome, Throttled
from vault.policy import RefreshPolicy, Step
from vault.provider import Provider

PAUSABLE = frozenset(Phase) - {Phase.IDLE, Phase.PLACED, Phase.DOWN}
_LOST = Ambiguous("timeout")
_DEAD = Dead("invalid_grant")
_TURNED_AWAY: tuple[tuple[str, Outcome], ...] = (
    ("cannot connect", NotSent("connect")),
    ("is told to slow down", Throttled("429")),
)


class Setting(NamedTuple):
    """One world to explore."""

    mode: Mode
    faults: Faults
    rounds: int = 2
    forgiving: bool = False
    """Nothing may be lost here."""
    shared_disk: bool = True
    lingering: bool = False
    """A request may reach the provider after its sender has given up, until its lease is over."""
    shares: tuple[float, ...] = (0.0,)
    """Draws of the jitter."""
    numbers: RefreshPolicy = RefreshPolicy()


class Move(NamedTuple):
    """One thing that happens."""

    what: str
    fault: bool
    state: State


class World:
    """The rules of one setting."""

    def __init__(self, setting: Setting, rules: Rules) -> None:
        self.setting = setting
        self.mode = mode = setting.mode
        window = timedelta(microseconds=mode.window)
        provider = Provider("p", "", "", rotation=mode.rotation, replay_window=window)
        self.decisions = Decisions(rules, setting.numbers, provider)
        self.clock = Clock.of(mode, self.decisions.scan, setting.shared_disk)

    def start(self) -> State:
        """A connection whose first refresh is due."""
        life_left = self.decisions.life - self.decisions.next
        row = Row(Status.ACTIVE, 1, 0, life_left, 0, FREE)
        workers = (Worker(), Worker())
        return State(
            row, workers, (Token(1, None),), (Family.ALIVE,), self.setting.rounds, self.setting.faults, stored=1
        )

    def moves(self, state: State) -> Iterator[Move]:
        """Everything that can happen next."""
        for i, worker in enumerate(state.workers):
            if i and worker == state.workers[0]:
                continue  # the two are alike: what one does, the other could
            yield from self._worker(state, i, worker)
        yield from self._late_requests(state)
        if state.faults.total:
            yield from self._outside(state)
        span = self.clock.ticks(state)
        if span:
            yield Move(f"{span / SECOND:g} s pass", False, self.clock.passed(state, span))

    # ------------------------------------------------------------------------------------------------------- workers

    def _worker(self, state: State, i: int, w: Worker) -> Iterator[Move]:
        name = "AB"[i]
        if w.phase is Phase.DOWN:
            yield Move(f"{name} starts anew", False, _with(state, i, Worker(orphans=w.orphans)))
            return
        if w.phase is Phase.SENT:
            yield from self._provider(state, i, w)
        if w.paused:
            yield Move(f"{name} wakes up", False, _with(state, i, w._replace(paused=False)))
            return
        yield from self._step(state, i, w, name)
        if state.faults.total and w.phase is not Phase.IDLE:
            yield from self._mishaps(state, i, w, name)

    def _mishaps(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        if w.phase in PAUSABLE and (paid := _pay(state, "pause")):
            yield Move(f"{name} is paused", True, _with(paid, i, w._replace(paused=True)))
        if paid := _pay(state, "crash"):
            yield Move(f"{name} is killed", True, self._killed(paid, i, w))
        if (w.held or w.orphans) and (paid := _pay(state, "disk")):
            yield Move(f"{name}'s machine is lost with its disk", True, self._killed(paid, i, w, disk=True))

    def _killed(self, state: State, i: int, w: Worker, *, disk: bool = False) -> State:
        orphans, lost = w.orphans, state.lost
        if w.held is not None and self.decisions.rules.spools:
            orphans = (*orphans, w.held)
        if disk:
            for held in orphans:
                lost |= _bit(held.token, held.parent)
            orphans = ()
        if w.phase is Phase.ANSWERED and w.answer is not None and w.taken is not None:
            lost |= _bit(w.answer, w.taken.parent)
        if w.phase is Phase.SENT and self.setting.lingering and w.taken is not None:
            state = _linger(state, w.taken)
        return _with(state._replace(lost=lost), i, Worker(Phase.DOWN, orphans=orphans))

    def _step(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        match w.phase:
            case Phase.IDLE:
                yield from self._idle(state, i, w, name)
            case Phase.CLAIMED:
                yield from self._claimed(state, i, w, name)
            case Phase.SENT:
                if w.until >= 0 and (paid := _pay(state, "lost")):
                    if self.setting.lingering and w.taken is not None:
                        paid = _linger(paid, w.taken)
                    yield from self._outcome(paid, i, w, _LOST, f"{name}'s request is lost", fault=True)
            case Phase.ANSWERED:
                yield from self._answered(state, i, w, name)
            case Phase.SPOOLED | Phase.LATE:
                yield from self._settle(state, i, w, name)
            case Phase.PLACED:
                yield Move(f"{name} marks its spool record done", False, _with(state, i, _rested(w)))
            case _:
                yield from self._end(state, i, w, name)

    def _idle(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        for j, other in enumerate(state.workers):
            if other.orphans and (i == j or self.setting.shared_disk):
                held, *rest = other.orphans
                found = _with(state, j, other._replace(orphans=tuple(rest)))
                mine = found.workers[i]._replace(phase=Phase.LATE, held=held)
                yield Move(f"{name} finds T{held.token} in a dead process's spool", False, _with(found, i, mine))
        due = store.is_due(state)
        paid = _pay(state, "asked") if store.is_askable(state) else None
        if due or paid:
            after, taken = store.claim(self.decisions, paid or state)
            said = f"{name} claims{' ahead of time' if paid else ''} T{taken.parent}{_doubt(taken)}"
            blind = taken.doubt is not None and self._is_blind(after, i)
            mine = after.workers[i]._replace(phase=Phase.CLAIMED, taken=taken, blind=blind)
            yield Move(said, bool(paid), _with(after, i, mine))

    def _claimed(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        taken = w.taken
        assert taken is not None
        step, end = self.decisions.after_claim(taken)
        if step is Step.ADOPT:
            yield Move(
                f"{name} will adopt a candidate", False, _with(state, i, w._replace(phase=Phase.ADOPTING, blind=False))
            )
        elif end is not None:
            yield Move(f"{name} decides to wait: {_said(end)}", False, _with(state, i, _ending(w, end)))
        elif found := self._overlooked(state, i, taken):
            for held in found:
                state, _ = store.settle_late(self.decisions, self.mode, state, held, holding=taken.epoch)
            mine = _ending(state.workers[i], self.decisions.give_back(taken))
            yield Move(f"{name} brings home what lies in spools: {_tokens(found)}", False, _with(state, i, mine))
        elif self._appeared(state, taken):
            back = self.decisions.give_back(taken)
            yield Move(f"{name} sees a candidate that was not there before", False, _with(state, i, _ending(w, back)))
        elif not self.decisions.may_send(taken):
            back = self.decisions.give_back(taken)
            yield Move(f"{name}'s lease is too short; it gives back", False, _with(state, i, _ending(w, back)))
        else:
            yield from self._send(state, i, w, taken, name)

    def _send(self, state: State, i: int, w: Worker, taken: Taken, name: str) -> Iterator[Move]:
        if paid := _pay(state, "refused"):
            for how, outcome in _TURNED_AWAY:
                yield from self._outcome(paid, i, w, outcome, f"{name} {how}", fault=True)
        invariants.before_sending(state, taken.parent)
        blind = w.blind or self._is_blind(state, i)
        sent = w._replace(phase=Phase.SENT, until=self.decisions.deadline, blind=blind)
        yield Move(f"{name} sends T{taken.parent}", False, _with(state, i, sent))

    def _provider(self, state: State, i: int, w: Worker) -> Iterator[Move]:
        assert w.taken is not None
        after, token = self._present(state, w.taken.parent, blind=w.blind)
        said = "invalid_grant" if token is None else f"T{token}"
        mine = w._replace(phase=Phase.ANSWERED, answer=token, blind=False)
        yield Move(f"the provider answers {'AB'[i]}: {said}", False, _with(after, i, mine))

    def _answered(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        taken, token = w.taken, w.answer
        assert taken is not None
        if paid := _pay(state, "lost"):
            lost = 0 if token is None else _bit(token, taken.parent)
            gone = paid._replace(lost=paid.lost | lost)
            yield from self._outcome(gone, i, w, _LOST, f"the answer to {name} is lost", fault=True)
        if token is None:
            yield from self._outcome(state, i, w, _DEAD, f"{name} reads invalid_grant", fault=False)
            return
        expires = self.decisions.life - self.decisions.deadline + max(w.until, 0)
        held = Held(token, taken.parent, taken.consent, taken.epoch, taken.version, expires)
        mine = Worker(Phase.SPOOLED, held=held, orphans=w.orphans)
        how = "spools" if self.decisions.rules.spools else "keeps"
        yield Move(f"{name} {how} T{token}", False, _with(state, i, mine))

    def _settle(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        assert w.held is not None
        if w.phase is Phase.SPOOLED:
            after, stored = store.settle(self.decisions, state, w.held)
            said, then = (f"stores T{w.held.token}", Phase.PLACED) if stored else ("finds the row moved", Phase.LATE)
        else:
            after, place = store.settle_late(self.decisions, self.mode, state, w.held)
            said, then = f"settles the late T{w.held.token}: {place.value}", Phase.PLACED
        yield from self._committed(state, after, i, then, f"{name} {said}")

    def _end(self, state: State, i: int, w: Worker, name: str) -> Iterator[Move]:
        taken = w.taken
        assert taken is not None
        if w.phase is Phase.ENDING:
            after = store.end(state, w)
            yield from self._committed(state, after, i, Phase.IDLE, f"{name} ends its claim")
            return
        if w.phase is Phase.CONDEMNING:
            spooled = bool(self._in_spools(state, i))
            after, done = store.condemn(self.decisions, state, taken, spooled=spooled)
            said, otherwise = "gives the grant up", w._replace(phase=Phase.ADOPTING)
        else:
            after, done = store.adopt(self.decisions, state, taken)
            said, otherwise = f"adopts T{after.row.token}", _ending(w, self.decisions.look_again(taken))
        if done:
            yield from self._committed(state, after, i, Phase.IDLE, f"{name} {said}")
        else:
            why = "finds that not conclusive" if w.phase is Phase.CONDEMNING else "has nothing to adopt"
            yield Move(f"{name} {why}", False, _with(state, i, otherwise))

    def _committed(self, before: State, after: State, i: int, then: Phase, said: str) -> Iterator[Move]:
        """A transaction went through, and the worker knows it, or not."""
        known = after.workers[i]
        rested = _rested(known) if then is Phase.IDLE else known._replace(phase=then)
        yield Move(said, False, _with(after, i, rested))
        if before is not after and (paid := _pay(after, "unsure")):
            yield Move(f"{said}, and does not learn it", True, paid)

    def _outcome(self, state: State, i: int, w: Worker, outcome: Outcome, said: str, *, fault: bool) -> Iterator[Move]:
        assert w.taken is not None
        for share in self.setting.shares:
            end = self.decisions.after_outcome(w.taken, outcome, share)
            mine = _ending(w, end)._replace(until=0, answer=None)
            yield Move(f"{said}: {_said(end)}", fault, _with(state, i, mine))

    def _is_blind(self, state: State, i: int) -> bool:
        """Whether a live answer lies where this worker cannot know of it: with a sleeper, or on another machine."""
        if invariants.is_overslept(self.mode, state):
            return True
        elsewhere = () if self.setting.shared_disk else state.workers[1 - i : 2 - i]
        return any(w.orphans or (w.held is not None and not w.held.epoch) for w in elsewhere)

    def _appeared(self, state: State, taken: Taken) -> bool:
        """Whether an answer to this very refresh token was kept as a candidate after the claim."""
        if taken.doubt is None or taken.candidate or not self.decisions.rules.heeds_spool:
            return False
        return taken.epoch and any(c.parent == taken.parent for c in state.row.candidates)

    def _overlooked(self, state: State, i: int, taken: Taken) -> list[Held]:
        """Answers to this very refresh token in spools within reach, whose processes have not brought them home."""
        if taken.doubt is None or taken.candidate or not self.decisions.rules.heeds_spool:
            return []
        found = self._in_spools(state, i)
        return [h for h in found if h.parent == taken.parent and h.version and h.consent == taken.consent]

    def _in_spools(self, state: State, i: int) -> list[Held]:
        if not self.decisions.rules.spools:
            return []
        within_reach = state.workers if self.setting.shared_disk else (state.workers[i],)
        return [h for w in within_reach for h in ((w.held,) if w.held else ()) + w.orphans]

    # ------------------------------------------------------------------------------------------------ everybody else

    def _present(self, state: State, token: int, *, blind: bool) -> tuple[State, int | None]:
        answer = present(self.mode, state.tokens, state.families, token)
        after = state._replace(tokens=answer.tokens, families=answer.families)
        invariants.after_answer(self.decisions, self.mode, state, after, forgiving=self.setting.forgiving, blind=blind)
        return after, answer.token

    def _late_requests(self, state: State) -> Iterator[Move]:
        for k, (token, _) in enumerate(state.lingering):
            rest = state.lingering[:k] + state.lingering[k + 1 :]
            after, answer = self._present(state._replace(lingering=rest), token, blind=False)
            if answer is not None:
                after = after._replace(lost=after.lost | _bit(answer, token))
            said = "invalid_grant" if answer is None else f"T{answer}"
            yield Move(f"T{token}, long given up, reaches the provider: {said}", False, after)

    def _outside(self, state: State) -> Iterator[Move]:
        row = state.row
        if paid := _pay(state, "owner"):
            new = len(state.tokens)
            grown = paid._replace(
                tokens=(*paid.tokens, Token(row.consent + 1, None)), families=(*paid.families, Family.ALIVE)
            )
            yield Move(f"the owner reconnects: T{new}", True, store.reconnect(self.decisions, grown, new))
            if row.status is not Status.DISCONNECTED:
                yield Move("the owner disconnects", True, store.disconnect(self.decisions, self.mode, paid))
        if state.families[row.consent - 1] is Family.ALIVE and (paid := _pay(state, "killed")):
            ended = (*paid.families[: row.consent - 1], Family.KILLED, *paid.families[row.consent :])
            yield Move("the grant is ended at the provider", True, paid._replace(families=ended))


def _pay(state: State, fault: str) -> State | None:
    """The same state with one fault less to come; None when there is none left."""
    left = _less(state.faults, fault)
    return None if left is None else state._replace(faults=left)


@cache
def _less(faults: Faults, fault: str) -> Faults | None:
    left: int = getattr(faults, fault)
    return faults._replace(**{fault: left - 1, "total": faults.total - 1}) if left and faults.total else None


def _with(state: State, i: int, worker: Worker) -> State:
    return state._replace(workers=(*state.workers[:i], worker, *state.workers[i + 1 :]))


def _rested(worker: Worker) -> Worker:
    return Worker(orphans=worker.orphans)


def _ending(worker: Worker, end: End) -> Worker:
    phase = Phase.CONDEMNING if end.conclusive and end.status is Status.NEEDS_RECONNECT else Phase.ENDING
    return worker._replace(phase=phase, end=None if phase is Phase.CONDEMNING else end, blind=False)


def _linger(state: State, taken: Taken) -> State:
    if taken.lease <= 0:
        return state
    return state._replace(lingering=tuple(sorted((*state.lingering, (taken.parent, taken.lease)))))


def _bit(token: int, parent: int) -> int:
    return 0 if token == parent else 1 << token


def _tokens(found: list[Held]) -> str:
    return ", ".join(f"T{held.token}" for held in found)


def _doubt(taken: Taken) -> str:
    return "" if taken.doubt is None else f", in doubt for {-taken.doubt / SECOND:g} s"


def _said(end: End) -> str:
    return end.status.value if end.wait is None else f"{end.status.value}, again in {end.wait / SECOND:g} s"
