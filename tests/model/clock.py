"""Time jumps to the next instant at which something can become different, never over work that nothing hinders."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.provider import Mode
from tests.model.state import Held, Phase, Row, State, Taken, Token, Worker
from tests.model.store import is_due, is_scheduled
from vault.model import Status
from vault.provider import Rotation


class Clock(NamedTuple):
    """How long back an instant can be and still matter."""

    scan: int
    memory: int
    """Of first uses and first sends."""
    shared_disk: bool

    @classmethod
    def of(cls, mode: Mode, scan: int, shared_disk: bool) -> Clock:
        """Only a replay window needs a memory."""
        return cls(scan, mode.window + 1 if mode.rotation is Rotation.GRACE else 0, shared_disk)

    def ticks(self, state: State) -> int:
        """How far time may jump now; 0: not at all."""
        limit = self._limit(state)
        if limit == 0:
            return 0
        coming = [t for t in self._instants(state) if t > 0]
        if not coming:
            return 0
        nearest = min(coming)
        return nearest if limit is None else min(nearest, limit)

    def _limit(self, state: State) -> int | None:
        limits = [w.until for w in state.workers if w.phase is Phase.SENT]
        running = [w for w in state.workers if not w.paused and w.phase is not Phase.DOWN]
        if not running:
            return 0
        for worker in running:
            if worker.phase is Phase.ANSWERED:
                limits.append(max(worker.until, 0))
            elif worker.phase is Phase.IDLE:
                limits.extend(self._limits_of_idle(state, worker))
            elif worker.phase is not Phase.SENT:
                return 0
        return min(limits, default=None)

    def _limits_of_idle(self, state: State, worker: Worker) -> list[int]:
        within_reach = state.workers if self.shared_disk else (worker,)
        if any(w.orphans for w in within_reach):
            return [0]
        if is_due(state):
            assert state.row.due is not None
            return [max(0, max(state.row.due, state.row.lease) + self.scan)]
        return []

    def _instants(self, state: State) -> list[int]:
        row = state.row
        instants = [row.lease, *(until for _, until in state.lingering)]
        if is_scheduled(state):
            assert row.due is not None
            instants.append(row.due if row.due > 0 else max(row.due, row.lease) + self.scan)
        elif row.lease > 0 and row.due is not None:
            instants.append(row.due)
        instants += [w.until for w in state.workers if w.phase in (Phase.SENT, Phase.ANSWERED)]
        if row.token is not None and self.memory:
            used_at = state.tokens[row.token].used_at
            instants.append(0 if used_at is None else used_at + self.memory - 1)
        return instants

    def passed(self, state: State, span: int) -> State:
        """The same world, ``span`` later."""
        return state._replace(
            row=self._row(state.row, span),
            workers=tuple(self._worker(w, span) for w in state.workers),
            tokens=tuple(self._token(t, span) for t in state.tokens) if self.memory else state.tokens,
            lingering=tuple((t, until - span) for t, until in state.lingering if until > span),
        )

    def _row(self, row: Row, span: int) -> Row:
        return row._replace(
            expires=max(row.expires - span, 0),
            due=None if row.due is None else max(row.due - span, -self.scan),
            lease=max(row.lease - span, -self.scan),
            intent_at=max(row.intent_at - span, -self.memory),
            candidates=tuple(_held(c, span) for c in row.candidates),
        )

    def _worker(self, worker: Worker, span: int) -> Worker:
        if worker.taken is None and worker.held is None and not worker.orphans:
            return worker
        return worker._replace(
            taken=worker.taken and self._taken(worker.taken, span),
            until=max(worker.until - span, -1),
            held=worker.held and _held(worker.held, span),
            orphans=tuple(_held(h, span) for h in worker.orphans),
        )

    def _taken(self, taken: Taken, span: int) -> Taken:
        if not taken.epoch and taken.lease <= span:  # nothing but its lineage matters any more
            return Taken(taken.parent, taken.consent, Status.ACTIVE, 0, None, 1, False, 0, 0, False, taken.version)
        return taken._replace(
            expires=max(taken.expires - span, 0),
            doubt=None if taken.doubt is None else max(taken.doubt - span, -self.memory),
            claimed=max(taken.claimed - span, -self.memory),
            lease=max(taken.lease - span, 0),
        )

    def _token(self, token: Token, span: int) -> Token:
        if token.used_at is None:
            return token
        return token._replace(used_at=max(token.used_at - span, -self.memory))


def _held(held: Held, span: int) -> Held:
    return held._replace(expires=max(held.expires - span, 0))
