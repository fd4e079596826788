"""The writer: commits whatever has arrived, then again what has arrived meanwhile (natural group commit, no timer).

It holds answers through every database error until they are stored, or until the process gives them up to the spool,
where they already lie. Ends without an answer may be lost: the lease runs out and the row is looked at again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

import structlog

from vault import policy
from vault.claims import Claim, Kept, Verdict
from vault.engine.sealing import Sealer
from vault.errors import VaultError
from vault.lineage import Place
from vault.metrics import late_answers
from vault.model import Status
from vault.policy import RefreshPolicy
from vault.ports import RefreshStore, Spool

log = structlog.get_logger(__name__)

BATCH = 256
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


class Adoption(NamedTuple):
    """Ask for a candidate to be put into a claimed row."""

    claim: Claim


class Recovery(NamedTuple):
    """Ask for answers that others have left behind to be put into a claimed row, of which nothing has been sent."""

    claim: Claim
    answers: list[Kept]


class Condemnation(NamedTuple):
    """Ask for a grant to be declared dead, if that is conclusive."""

    verdict: Verdict
    client_id: str


Work = Kept | Verdict | Adoption | Recovery | Condemnation


class Writer:
    """One thread that settles work; ``put`` never blocks."""

    def __init__(
        self,
        store: RefreshStore,
        spool: Spool,
        sealer: Sealer,
        refresh_policy: RefreshPolicy,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._spool = spool
        self._sealer = sealer
        self._policy = refresh_policy
        self._monotonic = monotonic
        self._queue: SimpleQueue[tuple[Work, ...] | None] = SimpleQueue()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evergrant-writer", daemon=True)
        self.stored = 0
        self.unsettled = 0
        """Work given up; answers among it lie in the spool."""
        self.news = False
        """Something may have been stored that tenant admins are told of."""
        self._thread.start()

    def put(self, *works: Work) -> None:
        """Hand over work."""
        self._queue.put(works)

    def finish(self, patience: timedelta) -> bool:
        """Settle what is left and end; after ``patience`` give up what is not taken. True: all was settled."""
        self._queue.put(None)
        self._thread.join(patience.total_seconds())
        if self._thread.is_alive():
            self._given_up.set()
            self._thread.join()
        return self.unsettled == 0

    def _run(self) -> None:
        open_ended = True
        while open_ended:
            batch: list[Work] = []
            item = self._queue.get()
            while item is not None:
                batch.extend(item)
                if len(batch) >= BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            open_ended = item is not None
            if batch:
                self._settle(batch)

    def _settle(self, batch: Sequence[Work]) -> None:
        kept = [w for w in batch if isinstance(w, Kept)]
        verdicts = [w for w in batch if isinstance(w, Verdict)]
        if (kept or verdicts) and not self._persist(partial(self._together, kept, verdicts)):
            together: list[Work] = [*kept, *verdicts]
            for each in together:  # one of them cannot be stored: the others shall not share its fate
                self._alone(each)
        for work in batch:
            if isinstance(work, Adoption | Recovery | Condemnation):
                self._alone(work)

    def _alone(self, work: Work) -> None:
        match work:
            case Kept():
                act = partial(self._together, [work], ())
            case Verdict():
                act = partial(self._together, (), [work])
            case Adoption(claim):
                act = partial(self._adopt, claim)
            case Recovery():
                act = partial(self._recover, work)
            case Condemnation():
                act = partial(self._condemn, work)
        if not self._persist(act):
            self.unsettled += 1

    def _persist(self, act: Callable[[], None]) -> bool:
        """Do it until it is done; False: it never will be, or we were told to give up.

        Every act can be repeated: rows are compared with what the act expects of them.
        """
        pause = FIRST_PAUSE_S
        while True:
            try:
                act()
            except VaultError as error:
                log.warning("refresh.held", error=type(error).__name__)
                if not error.transient:
                    return False
            except Exception as error:  # noqa: BLE001  # whatever it is, answers of others are in our hands
                log.error("refresh.unsettled", error=type(error).__name__)  # a traceback shows locals
                return False
            else:
                return True
            self._spool.sync()
            if self._given_up.wait(pause):
                return False
            pause = min(LONGEST_PAUSE_S, pause * 2)

    def _together(self, kept: Sequence[Kept], verdicts: Sequence[Verdict]) -> None:
        settled = self._store.settle(kept, verdicts)
        self.stored += len(settled.stored)
        self.news |= any(each.recovered_from for each in kept) or any(_is_news(each) for each in verdicts)
        for answer in kept:
            if answer.connection_id not in settled.stored:
                self.stored += settle_late(self._store, answer) is Place.ROW
        self._spool.done(kept)

    def _adopt(self, claim: Claim) -> None:
        """Put the newest candidate that can be opened into the row; without one, the row is due again soon."""
        for candidate in self._store.candidates(claim.connection_id, claim.consent):
            resealed = self._sealer.reseal(candidate, claim.version + 1)
            if candidate.parent_fp != claim.parent_fp:  # of another lineage: whether it lives is seen by using it
                resealed = resealed._replace(next_at=claim.claimed_at)
            if self._store.adopt(claim, resealed):
                late_answers.labels("adopted").inc()
                return
        self._store.settle((), (policy.look_again(self._policy, claim),))

    def _recover(self, asked: Recovery) -> None:
        """Answers first, under our lease: whoever claims next finds them in the row or beside it."""
        claim = asked.claim
        for answer in asked.answers:
            self.stored += settle_late(self._store, answer, holding=claim.epoch) is Place.ROW
        self._store.settle((), (policy.give_back(claim),))

    def _condemn(self, asked: Condemnation) -> None:
        verdict, claim = asked.verdict, asked.verdict.claim
        if self._store.condemn(verdict, client_id=asked.client_id, spooled=self._spool.holds(claim.connection_id)):
            self.news = True
            return
        if asked.client_id != claim.client_id:
            self._store.settle((), (policy.other_client(self._policy, claim),))
        else:
            self._adopt(claim)


def _is_news(verdict: Verdict) -> bool:
    return verdict.status is Status.QUARANTINED


def settle_late(store: RefreshStore, kept: Kept, *, holding: int | None = None) -> Place:
    """Find the place of an answer that did not fit its row, and say so: late answers are rare and worth a line."""
    place = store.settle_late(kept, holding=holding)
    late_answers.labels(place.value).inc()
    log.info("refresh.late_answer", connection_id=str(kept.connection_id), place=place.value)
    return place
