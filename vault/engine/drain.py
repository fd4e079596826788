"""The drain: claims what is due, sends it, seals what comes back, until nothing is due or its time is over.

One thread drives the network and the sealing, one claims ahead, one commits. A slow provider fills its own quota and
nobody else's; a provider in trouble is not claimed for at all while its breaker is open.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never
from uuid import UUID

import structlog

from vault import policy
from vault.claims import Claim, Kept, Quota, Verdict
from vault.engine.sealing import Prepared
from vault.engine.supply import Supply, room_at
from vault.engine.tools import Tools
from vault.engine.writer import Adoption, Condemnation, Recovery, Work, Writer
from vault.errors import CannotOpen, KeyUnavailable, StoreUnavailable
from vault.metrics import refreshes
from vault.model import Status
from vault.outcome import (
    Ambiguous,
    Dead,
    Exchange,
    Misconfigured,
    NotSent,
    Outcome,
    Refreshed,
    StepNeeded,
    Throttled,
    TokenRequest,
    Unknown,
)
from vault.policy import Step
from vault.provider import Provider
from vault.secret import Secret

log = structlog.get_logger(__name__)

ZERO = timedelta(0)
POLL = timedelta(milliseconds=20)
"""Longest sleep on the network while something else may come up."""
BURST = 64
"""Sends begun between two looks at the network: a quick provider then answers the first before the last has left, which
keeps fewer connections open, and libcurl looks through all that are open for each request."""
GROUPS = 16
"""Into so many groups a full load of claims is divided after its process has died."""
SUSPECTS_FIRST = 0.5
"""How often suspects come before everything else: their windows may be closing, but one of them may kill us again."""
TOGETHER = 8
"""Answers sealed before they are written to the disk in one go: a millisecond's worth, less than they have waited for
each other to be read from the network."""
HOLD = timedelta(minutes=2)
"""How long answers are held against a database that is away, before they are left to the spool."""


class Sent(NamedTuple):
    """What is remembered of a POST while it is in flight."""

    claim: Claim
    provider: Provider
    spent: Secret
    prepared: Prepared
    sent_at: datetime


class Tally(NamedTuple):
    """What a drain did."""

    claimed: int
    refreshed: int
    outcomes: dict[str, int]
    settled: bool
    """False: some answers were left to the spool."""
    backlog: bool
    """More was due than the budget allowed."""
    news: bool = False
    """There may be something to tell tenant admins."""


class Drain:
    """One run of the engine, for one thread; made anew for each run."""

    def __init__(self, tools: Tools, max_in_flight: int) -> None:
        self._tools = tools
        self._max_in_flight = max_in_flight
        self._writer = Writer(tools.store, tools.spool, tools.sealer, tools.policy, tools.monotonic)
        self._ready: deque[tuple[Claim, Provider]] = deque()
        self._load: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._claimed = 0
        self._clock: tuple[datetime, float] | None = None
        self._spool_writable = True
        self.settled = True
        """False: some answers were left to the spool. Also told when a run ends with an error."""

    # ------------------------------------------------------------------------------------------------- entrances

    def run(self, budget: timedelta) -> Tally:
        """Refresh everything due; stops claiming after ``budget``, then ends what is in flight.

        Raises:
            StoreUnavailable: rows could not be claimed; what was in flight has been brought home first.
        """
        supply = Supply(self._tools, self._max_in_flight)
        began, seconds = self._tools.monotonic(), budget.total_seconds()
        until = began + seconds
        try:
            if self._tools.jitter() < SUSPECTS_FIRST:
                self._take_suspects(began + seconds / 2)
            self._loop(supply, until)
            self._take_suspects(until)
        finally:
            for claim in supply.close():
                self._put(policy.give_back(claim), "given_back")
            tally = self._finish()
        return tally._replace(backlog=not supply.dry)

    def run_one(self, connection_id: UUID) -> Tally:
        """Refresh one connection, due or not; one in other hands is left to them."""
        try:
            before = self._tools.monotonic()
            claim = self._tools.store.claim_one(connection_id, _singles(self._tools))
            if claim is not None:
                self._apart([claim], before)
        finally:
            tally = self._finish()
        return tally

    def _finish(self) -> Tally:
        """Bring home what is in flight, whatever ended the run: any of these answers may be the only token there is."""
        while self._ready:
            claim, provider = self._ready.popleft()
            self._drop(provider, policy.give_back(claim), "given_back")
        while self._tools.transport.in_flight:
            self._hear(POLL)
        self.settled = self._writer.finish(HOLD)
        refreshes.labels("stored").inc(self._writer.stored)
        outcomes, news = dict(self._outcomes), self._writer.news
        return Tally(self._claimed, self._writer.stored, outcomes, self.settled, backlog=False, news=news)

    # ---------------------------------------------------------------------------------------------------- the loop

    def _loop(self, supply: Supply, until: float) -> None:
        transport, monotonic = self._tools.transport, self._tools.monotonic
        while True:
            open_ended = self._spool_writable and monotonic() < until
            supply.ask(self._load, len(self._ready), open_ended)
            batch = supply.take()
            if batch:
                self._accept(batch.claims, batch.asked_at)
            for _ in range(min(BURST, len(self._ready), self._max_in_flight - transport.in_flight)):
                self._begin(*self._ready.popleft())
            if transport.in_flight:
                more = self._ready and transport.in_flight < self._max_in_flight
                self._hear(ZERO if more else POLL)
            elif not self._ready:
                if supply.idle(open_ended):
                    return
                supply.wait(POLL)

    def _take_suspects(self, until: float) -> None:
        """Take rows whose claims ended without a word in small groups, then alone: whichever kills us is found soon.

        One group at least, also when a backlog has used up the time.
        """
        monotonic = self._tools.monotonic
        few = max(1, self._max_in_flight // GROUPS)
        while True:
            before = monotonic()
            claims = self._tools.store.claim_suspects(_singles(self._tools), few)
            if not claims:
                return
            self._apart(claims, before)
            if monotonic() >= until:
                return

    def _apart(self, claims: Sequence[Claim], asked_at: float) -> None:
        """Bring some claims to their end with nothing else in flight."""
        self._accept(claims, asked_at)
        while self._ready:
            self._begin(*self._ready.popleft())
        while self._tools.transport.in_flight:
            self._hear(POLL)

    # ---------------------------------------------------------------------------------------------- steps of a claim

    def _accept(self, claims: Iterable[Claim], asked_at: float) -> None:
        """Decide what each claim leads to (S3, S6), and queue what is to be sent."""
        self._spool_writable = self._can_spool()
        wanted: list[tuple[Claim, Provider]] = []
        for claim in claims:
            self._claimed += 1
            self._clock = (claim.claimed_at, asked_at)
            provider = self._tools.providers.get(claim.client).asking_as(claim.client_id)
            decision = policy.after_claim(self._tools.policy, provider, claim)
            if decision.step is Step.ADOPT:
                self._put(Adoption(claim), "adopted")
            elif decision.verdict is not None:
                self._conclude(provider, decision.verdict, "waited")
            elif provider.client is None or claim.client_id in provider.locked:
                self._put(self._unprepared(claim, "client_secret_unavailable"), "unprepared")
            else:
                wanted.append((claim, provider))
        found = self._overlooked([claim for claim, _ in wanted if claim.doubt_since and not claim.candidate])
        for claim, provider in wanted:
            if claim.connection_id in found:
                self._put(Recovery(claim, found[claim.connection_id]), "recovered")
            else:
                self._load[provider.name] += 1
                self._ready.append((claim, provider))

    def _overlooked(self, doubtful: Iterable[Claim]) -> dict[UUID, list[Kept]]:
        """Answers to refresh tokens in doubt that nobody had stored when we claimed.

        They lie on this disk, their receiver being asleep or about to store them, or have since become candidates. The
        spools are looked into first: an answer is in its new place before it leaves its old one.

        Returns:
            What is to be stored before the row is looked at anew; empty lists for candidates, which are stored.
        """
        claims = {claim.connection_id: claim for claim in doubtful}
        found: dict[UUID, list[Kept]] = {}
        for kept in self._tools.spool.lying(claims) if claims else ():
            if _is_answer(kept, claims[kept.connection_id]):
                found.setdefault(kept.connection_id, []).append(kept)
        for claim in claims.values():
            if claim.connection_id not in found and self._has_candidate(claim):
                found[claim.connection_id] = []
        return found

    def _has_candidate(self, claim: Claim) -> bool:
        try:
            candidates = self._tools.store.candidates(claim.connection_id, claim.consent)
        except StoreUnavailable:
            return True  # unknown: given back, and looked at anew
        return any(kept.parent_fp == claim.parent_fp for kept in candidates)

    def _begin(self, claim: Claim, provider: Provider) -> None:
        """S1 and S3 for one claim, then S4."""
        tools = self._tools
        left = claim.lease_until - self._now()
        if not policy.lease_suffices(tools.policy, provider, left) or not self._may_send(provider):
            self._drop(provider, self._not_now(claim, provider), "given_back")
            return
        try:
            prepared = tools.sealer.prepare(claim)
            spent = tools.sealer.refresh_token(claim, prepared)
        except (KeyUnavailable, CannotOpen, StoreUnavailable) as error:
            self._drop(provider, self._unprepared(claim, type(error).__name__), "unprepared")
            return
        sent = Sent(claim, provider, spent, prepared, self._now())
        deadline = policy.timing(tools.policy, provider).deadline
        within = policy.send_within(tools.policy, provider, claim.lease_until - sent.sent_at)
        try:
            request = tools.endpoint.refresh_request(provider, spent, sent, deadline, within)
            if isinstance(request, TokenRequest):
                tools.transport.start(request)
        except Exception as error:  # noqa: BLE001  # whatever it is, one row that cannot be asked about stops no other
            log.error("refresh.unwritable", error=type(error).__name__)  # a traceback shows locals
            self._drop(provider, self._unprepared(claim, "unwritable"), "unprepared")
            return
        if isinstance(request, TokenRequest):
            tools.gate.take(provider, 1)
        elif isinstance(request, NotSent):  # its provider had no part in it
            self._drop(provider, self._unprepared(claim, request.cause), "unprepared")
        elif (kept := self._concluded(sent, request)) is not None:
            self._keep([kept])

    def _unprepared(self, claim: Claim, reason: str) -> Verdict:
        return policy.unprepared(self._tools.policy, claim, reason, self._tools.jitter())

    def _not_now(self, claim: Claim, provider: Provider) -> Verdict:
        """Give it back; while there is room for another registration of its provider it would be claimed at once."""
        pause = self._tools.gate.pause(provider)
        if not pause or not self._tools.providers.get(provider.name).former:
            return policy.give_back(claim)
        return policy.held_back(self._tools.policy, provider, claim, self._now(), pause)

    def _hear(self, timeout: timedelta) -> None:
        """Take in what has come; one answer that cannot be handled costs no other one its place."""
        sealed: list[Kept] = []
        try:
            for exchange in self._tools.transport.poll(timeout):
                if (kept := self._heard(exchange)) is not None:
                    sealed.append(kept)
                if len(sealed) >= TOGETHER:
                    self._keep(sealed)
                    sealed = []
        finally:
            if sealed:
                self._keep(sealed)

    def _heard(self, exchange: Exchange) -> Kept | None:
        try:
            return self._end(exchange)
        except Exception as error:  # noqa: BLE001  # whatever it is, answers of others are in our hands
            log.error("refresh.unhandled", error=type(error).__name__)  # a traceback shows locals
            self._outcomes["unhandled"] += 1
            return None

    def _end(self, exchange: Exchange) -> Kept | None:
        """S4 to S7: read what came, and seal it or judge it."""
        sent = exchange.tag
        assert isinstance(sent, Sent)  # the tag is what _begin gave
        return self._concluded(sent, self._tools.endpoint.read(sent.provider, exchange, self._now(), sent.spent))

    def _concluded(self, sent: Sent, outcome: Outcome) -> Kept | None:
        claim, provider = sent.claim, sent.provider
        self._load[provider.name] -= 1
        if isinstance(outcome, Misconfigured) and outcome.of_client and self._tools.providers.refused(provider):
            self._tools.gate.spared(provider)
            share, now = self._tools.jitter(), self._now()
            again = policy.after_refused_secret(self._tools.policy, provider, claim, outcome.code, now, share)
            self._put(again, "secret_refused")
            return None
        self._tell_gate(provider, outcome)
        if isinstance(outcome, Refreshed):
            return self._tools.sealer.keep(claim, provider, outcome.answer, sent.spent, sent.prepared, sent.sent_at)
        verdict = policy.after_outcome(self._tools.policy, provider, claim, outcome, self._now(), self._tools.jitter())
        self._conclude(provider, verdict, type(outcome).__name__.lower())
        return None

    def _may_send(self, provider: Provider) -> bool:
        return self._spool_writable and self._tools.gate.room(provider) > 0

    def _can_spool(self) -> bool:
        try:
            self._tools.spool.check()
        except OSError as error:
            log.error("spool.unwritable", error=type(error).__name__)  # the cause is all there is
            return False
        return True

    def _keep(self, sealed: list[Kept]) -> None:
        """S5: to the disk, then to the writer."""
        try:
            self._tools.spool.append(*sealed)
        except OSError as error:
            log.error("spool.full", error=type(error).__name__)  # the answers go on to the database
        self._outcomes["answered"] += len(sealed)
        self._writer.put(*sealed)

    def _conclude(self, provider: Provider, verdict: Verdict, outcome: str) -> None:
        client_id = provider.client.client_id if provider.client else ""
        if verdict.conclusive and verdict.status is Status.NEEDS_RECONNECT:
            self._put(Condemnation(verdict, client_id), outcome)
        else:
            self._put(verdict, outcome)

    def _drop(self, provider: Provider, verdict: Verdict, outcome: str) -> None:
        self._load[provider.name] -= 1
        self._put(verdict, outcome)

    def _put(self, work: Work, outcome: str) -> None:
        self._outcomes[outcome] += 1
        self._writer.put(work)

    def _tell_gate(self, provider: Provider, outcome: Outcome) -> None:
        gate = self._tools.gate
        match outcome:
            case Refreshed() | Dead() | StepNeeded() | Unknown():
                gate.succeeded(provider)
            case Misconfigured():
                gate.failed(provider, operator=outcome.of_all, retry_after=None)
            case Throttled(_, retry_after) | Ambiguous(_, retry_after):
                gate.failed(provider, operator=False, retry_after=retry_after)
            case NotSent():
                gate.failed(provider, operator=False, retry_after=None)
            case _:
                assert_never(outcome)

    def _now(self) -> datetime:
        """The database's time: what it was at the last claim, plus what has passed since we asked for that."""
        assert self._clock is not None  # set by the first claim, before anything is sent
        at, asked_at = self._clock
        return at + timedelta(seconds=self._tools.monotonic() - asked_at)


def _singles(tools: Tools) -> list[Quota]:
    """One row of any client that may be sent to now."""
    open_for_business = [p for p in tools.providers.all() if room_at(tools, p)]
    return [Quota(p.name, 1, policy.timing(tools.policy, p).lease) for p in open_for_business]


def _is_answer(kept: Kept, claim: Claim) -> bool:
    """Whether a record is an answer to the very refresh token a claim holds."""
    return (kept.parent_fp, kept.parent_version, kept.consent) == (claim.parent_fp, claim.version, claim.consent)
