"""Tokens of others: asking their issuers, and remembering what they said for as long as it counts.

A token that is good is asked about once, and then, one look in so many, again, and when it was not asked about for
five minutes: so a revocation at its issuer is noticed soon, also of a token that is seldom looked at. While the issuer
cannot be asked, what it said last counts until the token's own end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import digest
from threading import Lock
from typing import Final

from vault.cache import Cache, Turns
from vault.errors import ConfigurationError, ValidationUnavailable
from vault.forks import in_children
from vault.metrics import introspections
from vault.ports import Gate, Introspector, Providers
from vault.provider import Provider
from vault.secret import Secret
from vault.validation.outcome import Active, Inactive, Introspected, Unanswered
from vault.validation.refusals import refused

NEGATIVE_LIFE: Final = timedelta(seconds=10)
"""For so long a token that is not good is not asked about again."""
UNDATED_LIFE: Final = timedelta(seconds=60)
"""For so long a good token whose issuer does not say when it ends."""
LONGEST_TRUST: Final = timedelta(minutes=5)
"""A look that comes later than this after the last question asks again."""
LEEWAY: Final = timedelta(seconds=30)
"""By so much an issuer's clock may differ from ours: what is over by less is taken at the issuer's word, once."""
RETRY_AFTER: Final = timedelta(seconds=5)
TRIES: Final = 2
"""A second one when the issuer would not have the secret we showed, and there is another."""


class _Known:
    """A good token between two looks."""

    __slots__ = ("asked_at", "due", "said")

    def __init__(self, said: Active, due: float, asked_at: float) -> None:
        self.said, self.due, self.asked_at = said, due, asked_at


class Introspecting:
    """Asks about tokens, for all tenants of this process. Thread-safe."""

    def __init__(
        self,
        providers: Providers,
        introspector: Introspector,
        gate: Gate,
        *,
        share: float,
        capacity: int,
        monotonic: Callable[[], float],
        clock: Callable[[], datetime],
        random: Callable[[int], bytes],
        phase: Callable[[], float],
    ) -> None:
        """Nobody is asked yet.

        Args:
            providers: The registry.
            introspector: Who asks.
            gate: Keeps requests from an issuer that is away; one of its own, as a token endpoint is another server's.
            share: Of the looks at a good token that is known, so many ask its issuer: 0, none until its end; 1, all.
                Above 0, a look asks as well when the last question is five minutes old.
            capacity: So many good tokens are remembered, and as many that are not.
            monotonic: Seconds of a clock that never goes back.
            clock: The instant, aware.
            random: Gives that many unpredictable bytes.
            phase: A number in [0, 1): where in its sequence of looks a token begins.
        """
        self._providers, self._introspector, self._gate = providers, introspector, gate
        self._share, self._capacity, self._monotonic, self._clock = share, capacity, monotonic, clock
        self._random, self._phase = random, phase
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._key, self._lock, self._turns = self._random(32), Lock(), Turns[bytes]()
        self._good: Cache[bytes, _Known] = Cache(self._capacity, self._monotonic)
        self._bad: Cache[bytes, Inactive] = Cache(self._capacity, self._monotonic)

    def remembered(self) -> tuple[int, int]:
        """Return how many tokens are remembered: good ones, and others."""
        return len(self._good), len(self._bad)

    def ask(self, tenant: str, provider: str, token: Secret) -> tuple[Active, bool]:
        """Return what an issuer says of a good token, and whether it was asked just now or before: then it is True.

        Raises:
            TokenRefused: It says that it is not good, or it is not by its dates.
            ValidationUnavailable: It says nothing, and has not said anything that still counts.
            UnknownProvider, ConfigurationError: Nobody can be asked.
        """
        name = digest(self._key, f"{len(tenant)}:{tenant}:{provider}:{token.reveal()}".encode(), sha256)
        known = self._good.get(name)
        if known is not None and not self._is_sampled(known):
            return known.said, True
        if known is None and self._bad.get(name) is not None:
            raise refused("inactive")
        with self._turns.of(name):  # many requests with one token ask once
            if known is None and (quicker := self._good.get(name)) is not None:
                return quicker.said, True
            if known is None and self._bad.get(name) is not None:
                raise refused("inactive")
            return self._ask(name, self._issuer(provider), token, known)

    def _is_sampled(self, known: _Known) -> bool:
        if not self._share:
            return False
        now = self._monotonic()
        with self._lock:
            known.due += self._share
            sampled = known.due >= 1.0
            known.due -= sampled
            old = now - known.asked_at > LONGEST_TRUST.total_seconds()
            if sampled or old:
                known.asked_at = now  # also when no answer comes: not every look then waits for one
        return sampled or old

    def _issuer(self, name: str) -> Provider:
        self._providers.look()
        provider = self._providers.get(name)
        if provider.introspect_uri is None:
            raise ConfigurationError([f"provider {name}: introspect_uri is not set: nobody can be asked about tokens"])
        if provider.client is None and not provider.locked:
            wanted = f"VAULT_CLIENT_{name.upper()}_ID is not set, and the store has no registration"
            raise ConfigurationError([f"{wanted}: {name} does not know who is asking"])
        return provider

    def _ask(self, name: bytes, provider: Provider, token: Secret, known: _Known | None) -> tuple[Active, bool]:
        answer = self._answer(provider, token)
        if isinstance(answer, Unanswered):
            introspections.labels("unanswered").inc()
            if known is not None and _lives(known.said, self._clock()):
                return known.said, True
            wait = answer.retry_after or max(RETRY_AFTER, self._gate.pause(provider))
            raise ValidationUnavailable(provider.name, answer.reason, wait, transient=not answer.operator)
        if isinstance(answer, Inactive):
            introspections.labels("inactive").inc()
            self._good.drop(name)
            self._bad.put(name, answer, self._monotonic() + NEGATIVE_LIFE.total_seconds())
            raise refused("inactive")
        introspections.labels("active").inc()
        return self._good_token(name, provider, answer, known)

    def _good_token(self, name: bytes, provider: Provider, said: Active, known: _Known | None) -> tuple[Active, bool]:
        now = self._clock()
        problem = _problem(provider, said, now)
        if problem:
            self._good.drop(name)
            raise refused(problem)
        left = UNDATED_LIFE if said.expires_at is None else said.expires_at - now
        self._bad.drop(name)
        if left > timedelta(0):
            due = self._phase() if known is None else known.due
            at = self._monotonic()
            self._good.put(name, _Known(said, due, at), at + left.total_seconds())
        else:
            self._good.drop(name)
        return said, False

    def _answer(self, provider: Provider, token: Secret) -> Introspected:
        for _ in range(TRIES):
            if provider.client is None:
                return Unanswered("registration_locked")
            with self._lock:
                if not self._gate.room(provider):
                    return Unanswered("resting", max(RETRY_AFTER, self._gate.pause(provider)))
                self._gate.take(provider, 1)
            answer = self._introspector.ask(provider, token)
            other = isinstance(answer, Unanswered) and answer.of_client and self._providers.refused(provider)
            with self._lock:
                self._note(provider, answer, other=other)
            if not other:
                break
            provider = self._providers.get(provider.name)
        return answer

    def _note(self, provider: Provider, answer: Introspected, *, other: bool) -> None:
        if not isinstance(answer, Unanswered):
            self._gate.succeeded(provider)
        elif other or answer.of_request:  # or whoever presents strange tokens could keep others' from being looked at
            self._gate.spared(provider)
        else:
            self._gate.failed(provider, operator=answer.of_client, retry_after=answer.retry_after)


def _lives(said: Active, now: datetime) -> bool:
    return said.expires_at is None or said.expires_at > now


def _problem(provider: Provider, said: Active, now: datetime) -> str:
    """What its dates and its issuer say against a token that was called good."""
    if said.expires_at is not None and said.expires_at <= now - LEEWAY:
        return "expired"
    if said.not_before is not None and said.not_before > now + LEEWAY:
        return "not_yet"
    if said.issuer is not None and provider.issuer is not None and said.issuer != provider.issuer:
        return "other_issuer"
    return ""
