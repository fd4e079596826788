"""What is true, according to the provider: answers from the simulator's journal, live or long after.

The oracle runs the journal through the same state machine as the server (`grants.Family`) and complains if the two
ever disagree. Where an instant is asked for and none is given, it is now for a live simulator, and the last event's
for a journal alone. Instants are epoch seconds of the simulator's time.

    oracle = Oracle(Path("simulator.jsonl"))
    oracle.alive("alice"), oracle.current_refresh_tokens("alice"), oracle.answers_lost()
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.simulator.grants import Family, Pair, RefreshToken, RotationProfile

_ANSWERS = frozenset({"issued", "spent", "used", "replayed"})
_GRANT_REFUSALS = frozenset({"revoked", "expired", "reuse", "superseded"})


class Contradiction(AssertionError):
    """The journal says something that the rotation mode does not allow: the simulator is wrong, not the client."""


class Origin(NamedTuple):
    """Where a refresh token came from."""

    provider: str
    account: str
    family: str


class Answer(NamedTuple):
    """A token answer that the provider processed."""

    id: int
    at: float
    event: str
    origin: Origin
    presented: str | None
    refresh_token: str | None
    access_token: str
    fault: str | None
    lost_because: str | None


class Oracle:
    """Reads the journal on, each time it is asked."""

    def __init__(self, journal: Path | list[str], clock: Callable[[], float] | None = None) -> None:
        """Attach to a journal.

        Args:
            journal: the JSON-lines file, or the growing list of lines of a simulator in this process.
            clock: the simulator's time; None to stand at the last event.
        """
        self._lines = _tail(journal) if isinstance(journal, Path) else _grow(journal)
        self._clock = clock
        self._last_id, self._last_at = 0, 0.0
        self._profiles: dict[str, RotationProfile] = {}
        self._families: dict[str, Family] = {}
        self._origins: dict[str, Origin] = {}
        self._by_account: defaultdict[str, list[str]] = defaultdict(list)
        self._by_refresh_token: dict[str, str] = {}
        self._by_access_token: dict[str, str] = {}
        self._sent: defaultdict[str, list[float]] = defaultdict(list)
        self._answers: dict[int, Answer] = {}
        self._events: defaultdict[str, int] = defaultdict(int)

    def issued(self, refresh_token: str) -> Origin:
        """Which provider, account and family a refresh token belongs to.

        Raises:
            KeyError: it was never issued.
        """
        self._read()
        return self._origins[self._by_refresh_token[refresh_token]]

    def current_refresh_tokens(
        self, account: str, provider: str | None = None, at: float | None = None
    ) -> frozenset[str]:
        """The refresh tokens of an account that would be accepted."""
        families = self._families_of(account, provider)
        now = self._instant(at)
        return frozenset().union(*(family.accepted(now) for family in families))

    def alive(self, account: str, provider: str | None = None, at: float | None = None) -> bool:
        """Whether any refresh token of the account would be accepted."""
        return bool(self.current_refresh_tokens(account, provider, at))

    def accepts(self, refresh_token: str, at: float | None = None) -> bool:
        """Whether this refresh token would be accepted."""
        family = self._family_of_refresh_token(refresh_token)
        return family.judge(family.refresh_tokens[refresh_token], self._instant(at))[0] != "refused"

    def access_token_live(self, access_token: str, at: float | None = None) -> bool:
        """Whether the resource server would take this access token; false for one that was never issued."""
        self._read()
        name = self._by_access_token.get(access_token)
        return name is not None and self._families[name].access_token_live(access_token, self._instant(at))

    def sent_log(self, refresh_token: str) -> list[float]:
        """When this refresh token arrived at the provider, processed or not."""
        self._read()
        return list(self._sent.get(refresh_token, []))

    def times_presented(self, refresh_token: str) -> int:
        """How often this refresh token arrived at the provider, processed or not."""
        return len(self.sent_log(refresh_token))

    def presented(self) -> dict[str, int]:
        """How often each refresh token that ever arrived did so."""
        self._read()
        return {value: len(instants) for value, instants in self._sent.items()}

    def parent(self, refresh_token: str) -> str | None:
        """The refresh token this one was issued for; None for the first of a family."""
        return self._record(refresh_token).parent

    def successors(self, refresh_token: str) -> list[str]:
        """The refresh tokens issued for this one, oldest first."""
        return list(self._record(refresh_token).successors)

    def lineage(self, account: str, provider: str | None = None) -> dict[str, list[str]]:
        """Every refresh token of an account, oldest first, with its successors."""
        families = self._families_of(account, provider)
        return {value: list(record.successors) for item in families for value, record in item.refresh_tokens.items()}

    def accounts(self) -> list[str]:
        """Every account that was ever granted anything, in order of appearance."""
        self._read()
        return list(self._by_account)

    def death(self, account: str, provider: str | None = None) -> list[str]:
        """Why the account's families were revoked, for those that were."""
        return [family.revoked_reason for family in self._families_of(account, provider) if family.revoked_reason]

    def answers(self, account: str | None = None) -> list[Answer]:
        """Every token answer that was processed, lost or not."""
        self._read()
        return [answer for answer in self._answers.values() if account in (None, answer.origin.account)]

    def answers_lost(self, account: str | None = None) -> list[Answer]:
        """Token answers that were processed and did not reach the client, as far as the provider can know."""
        return [answer for answer in self.answers(account) if answer.lost_because]

    def count(self, event: str) -> int:
        """How many events of a kind the journal holds."""
        self._read()
        return self._events[event]

    def families(self, provider: str) -> list[Family]:
        """The provider's families as the state machine left them, oldest first."""
        self._read()
        return [self._current(name) for name, origin in self._origins.items() if origin.provider == provider]

    def last_id(self) -> int:
        """The id of the last event; 0 for an empty journal."""
        self._read()
        return self._last_id

    def last_at(self) -> float:
        """The instant of the last event."""
        self._read()
        return self._last_at

    def _instant(self, at: float | None) -> float:
        if at is not None:
            return at
        return self._last_at if self._clock is None else self._clock()

    def _families_of(self, account: str, provider: str | None) -> list[Family]:
        self._read()
        names = [name for name in self._by_account.get(account, ()) if provider in (None, self._origins[name].provider)]
        return [self._current(name) for name in names]

    def _family_of_refresh_token(self, refresh_token: str) -> Family:
        self._read()
        return self._current(self._by_refresh_token[refresh_token])

    def _record(self, refresh_token: str) -> RefreshToken:
        return self._family_of_refresh_token(refresh_token).refresh_tokens[refresh_token]

    def _current(self, name: str) -> Family:
        family = self._families[name]
        family.profile = self._profiles[self._origins[name].provider]
        return family

    def _read(self) -> None:
        for line in self._lines:
            if line is None:
                return
            event = json.loads(line)
            kind = event["event"]
            self._events[kind] += 1
            self._last_id, self._last_at = event["id"], event["ts"]
            if event.get("presented"):
                self._sent[event["presented"]].append(event["ts"])
            if kind == "configured":
                self._profiles[event["provider"]] = RotationProfile(**event["config"]["rotation"])
            elif kind in _ANSWERS:
                self._take_answer(event)
            elif kind == "refused" and event["reason"] in _GRANT_REFUSALS and event["family"]:
                self._replay(event, None)
            elif kind == "revoked":
                self._take_revocation(event)
            elif kind == "undelivered" and event["of"] in self._answers:
                answer = self._answers[event["of"]]
                self._answers[answer.id] = answer._replace(lost_because=answer.lost_because or event["reason"])

    def _take_answer(self, event: dict[str, Any]) -> None:
        name = event["family"]
        pair = Pair(event["access_token"], event["refresh_token"])
        if event["event"] == "issued":
            origin = self._origins[name] = Origin(event["provider"], event["account"], name)
            family = Family(name, origin.account, self._profiles[origin.provider], event["ts"], event["scope"])
            family.start(pair, event["ts"])
            self._families[name] = family
            self._by_account[origin.account].append(name)
        else:
            self._replay(event, pair)
        if pair.refresh_token is not None:
            self._by_refresh_token[pair.refresh_token] = name
        self._by_access_token[pair.access_token] = name
        self._answers[event["id"]] = Answer(
            event["id"],
            event["ts"],
            event["event"],
            self._origins[name],
            event["presented"],
            pair.refresh_token,
            pair.access_token,
            event["fault"],
            None if event["delivered"] else event["fault"],
        )

    def _replay(self, event: dict[str, Any], pair: Pair | None) -> None:
        outcome = self._current(event["family"]).present(event["presented"], event["ts"], pair or Pair("", ""))
        if (outcome.verdict, outcome.pair) != (event["event"], pair):
            raise Contradiction(f"event {event['id']} says {event['event']}, its rotation mode says {outcome.verdict}")

    def _take_revocation(self, event: dict[str, Any]) -> None:
        family = self._families[event["family"]]
        if event["access_token"]:
            family.revoke_access_token(event["access_token"], event["ts"])
        else:
            family.revoke(event["ts"], event["reason"])


def _tail(path: Path) -> Iterator[str | None]:
    """Yield whole lines for ever, and None whenever there is none yet."""
    with path.open("rb") as file:
        rest = b""
        while True:
            rest += file.readline()
            if rest.endswith(b"\n"):
                yield rest.decode()
                rest = b""
            else:
                yield None


def _grow(lines: list[str]) -> Iterator[str | None]:
    at = 0
    while True:
        if at < len(lines):
            yield lines[at]
            at += 1
        else:
            yield None
