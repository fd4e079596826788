"""What a provider remembers about a grant, and what it does when a refresh token is presented.

A pure state machine: the time and the fresh tokens come in as arguments, nothing else is read. The server, the oracle
and a model checker all run this very code, so the rotation modes mean one thing everywhere.

    mode                            spent token presented again                      accepted at a time
    strict                          refused, the family dies                         1
    grace                           within `replay_window`: a fresh child;           every unspent one, and spent ones
                                    later: refused, the family dies                  inside their window
    idempotent                      the same pair until its refresh token is used    2
    previous_until_successor_used   a fresh child, until a child is used             2 (using one kills the other)
    non_rotating                    never spent                                      1

`reuse_revokes_family=False` turns "refused, the family dies" into "refused".
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

RotationMode = Literal["strict", "grace", "idempotent", "previous_until_successor_used", "non_rotating"]
Verdict = Literal["spent", "used", "replayed", "refused"]
Refusal = Literal["unknown", "revoked", "expired", "reuse", "superseded"]


class Pair(NamedTuple):
    """The two tokens of one answer; `refresh_token` is absent when the provider hands out none."""

    access_token: str
    refresh_token: str | None


class Outcome(NamedTuple):
    """What presenting a refresh token came to.

    `spent` first use, a successor was issued; `used` the token does not rotate; `replayed` an already spent token was
    accepted again; `refused` with the reason. `family_revoked` is true when this very presentation killed the family.
    """

    verdict: Verdict
    pair: Pair | None = None
    reason: Refusal | None = None
    family_revoked: bool = False


@dataclass(slots=True, frozen=True)
class RotationProfile:
    """How a provider treats refresh tokens and how long tokens live. Durations are seconds, `None` is "for ever"."""

    mode: RotationMode = "strict"
    replay_window: float = 30.0
    reuse_revokes_family: bool = True
    returns_same: bool = False
    access_token_life: float = 3600.0
    refresh_token_life: float | None = None
    absolute_life: float | None = None
    refresh_kills_access_token: bool = False


@dataclass(slots=True)
class RefreshToken:
    """One refresh token: where it came from, when it was first used, what it was answered with last."""

    value: str
    parent: str | None
    expires_at: float | None
    first_used_at: float | None = None
    superseded: bool = False
    times_presented: int = 0
    last_answer: Pair | None = None
    successors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AccessToken:
    """One access token; it lives from `issued_at` until it expires or is killed."""

    value: str
    issued_at: float
    expires_at: float
    killed_at: float | None = None

    def live(self, at: float) -> bool:
        """Whether the token was good at that instant, its family aside."""
        return self.issued_at <= at < self.expires_at and (self.killed_at is None or at < self.killed_at)


@dataclass(slots=True)
class Family:
    """All tokens that descend from one consent. `profile` may be replaced at any time; it is read at each use."""

    id: str
    account: str
    profile: RotationProfile
    created_at: float
    scope: str = ""
    client_id: str | None = None
    """Whose it is; None: nobody asks."""
    revoked_at: float | None = None
    revoked_reason: str | None = None
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict)
    access_tokens: dict[str, AccessToken] = field(default_factory=dict)
    newest_access_tokens: list[AccessToken] = field(default_factory=list)

    def start(self, pair: Pair, now: float) -> None:
        """Issue the first pair, at the end of the authorization code flow."""
        self._issue(pair, None, now)

    def present(self, refresh_token: str, now: float, fresh: Pair) -> Outcome:
        """Take a refresh token as the token endpoint does and change the state accordingly.

        Args:
            refresh_token: what the client sent.
            now: the provider's time, seconds.
            fresh: tokens never used before, to be issued if the verdict calls for new ones.
        """
        record = self.refresh_tokens.get(refresh_token)
        if record is None:
            return Outcome("refused", reason="unknown")
        record.times_presented += 1
        verdict, reason = self.judge(record, now)
        if verdict == "refused":
            revokes = reason == "reuse" and self.profile.reuse_revokes_family
            if revokes:
                self.revoke(now, "reuse")
            return Outcome(verdict, None, reason, revokes)
        if verdict == "replayed" and self.profile.mode == "idempotent":
            return Outcome(verdict, record.last_answer)
        return Outcome(verdict, self._rotate(record, now, fresh))

    def judge(self, record: RefreshToken, now: float) -> tuple[Verdict, Refusal | None]:
        """Say what presenting the token at `now` would come to, without changing anything."""
        if self.revoked_at is not None and now >= self.revoked_at:
            return "refused", "revoked"
        if record.expires_at is not None and now >= record.expires_at:
            return "refused", "expired"
        if record.superseded:
            return "refused", "superseded"
        profile = self.profile
        if profile.mode == "non_rotating":
            return "used", None
        if record.first_used_at is None:
            return "spent", None
        if self._accepts_again(record, now):
            return "replayed", None
        return "refused", "reuse"

    def accepted(self, now: float) -> frozenset[str]:
        """The refresh tokens that would be accepted at `now`."""
        return frozenset(
            value for value, record in self.refresh_tokens.items() if self.judge(record, now)[0] != "refused"
        )

    def access_token_live(self, access_token: str, at: float) -> bool:
        """Whether the resource server would have taken this access token at that instant."""
        record = self.access_tokens.get(access_token)
        return record is not None and record.live(at) and (self.revoked_at is None or at < self.revoked_at)

    def revoke(self, now: float, reason: str) -> bool:
        """Kill the family and all its tokens; false when it was dead already."""
        if self.revoked_at is not None:
            return False
        self.revoked_at = now
        self.revoked_reason = reason
        return True

    def revoke_access_token(self, access_token: str, now: float) -> None:
        """Kill one access token and leave the grant alone."""
        record = self.access_tokens[access_token]
        if record.killed_at is None:
            record.killed_at = now

    def issue_access_token(self, value: str, now: float) -> None:
        """Issue one without a refresh token."""
        self._issue_access_token(value, now)

    def prolong(self, now: float) -> None:
        """Let the newest access token live as if it had been issued now."""
        newest = max(self.access_tokens.values(), key=lambda token: token.issued_at)
        newest.expires_at = now + self.profile.access_token_life

    def clone(self) -> Self:
        """An independent copy, for a model checker that explores both sides of a choice."""
        return deepcopy(self)

    def _accepts_again(self, record: RefreshToken, now: float) -> bool:
        mode = self.profile.mode
        if mode == "grace":
            return record.first_used_at is not None and now - record.first_used_at < self.profile.replay_window
        if mode in ("idempotent", "previous_until_successor_used") and record.successors:
            return self.refresh_tokens[record.successors[-1]].first_used_at is None
        return False

    def _rotate(self, record: RefreshToken, now: float, fresh: Pair) -> Pair:
        profile = self.profile
        if profile.refresh_kills_access_token:
            for access_token in self.newest_access_tokens:
                if access_token.killed_at is None:
                    access_token.killed_at = now
            self.newest_access_tokens.clear()
        if record.first_used_at is None:
            record.first_used_at = now
        if profile.mode == "non_rotating":
            record.expires_at = self._refresh_expiry(now)
            pair = Pair(fresh.access_token, record.value if profile.returns_same else None)
            self._issue_access_token(fresh.access_token, now)
        else:
            if profile.mode == "previous_until_successor_used" and record.successors:
                self.refresh_tokens[record.successors[-1]].superseded = True
            pair = fresh
            self._issue(fresh, record, now)
        record.last_answer = pair
        return pair

    def _issue(self, pair: Pair, parent: RefreshToken | None, now: float) -> None:
        self._issue_access_token(pair.access_token, now)
        value = pair.refresh_token
        if value is None:
            return
        parent_value = None
        if parent is not None:
            parent_value = parent.value
            parent.successors.append(value)
        self.refresh_tokens[value] = RefreshToken(value, parent_value, self._refresh_expiry(now))

    def _issue_access_token(self, value: str, now: float) -> None:
        record = AccessToken(value, now, now + self.profile.access_token_life)
        self.access_tokens[value] = record
        if self.profile.refresh_kills_access_token:
            self.newest_access_tokens.append(record)

    def _refresh_expiry(self, now: float) -> float | None:
        sliding, absolute = self.profile.refresh_token_life, self.profile.absolute_life
        ends = [] if sliding is None else [now + sliding]
        if absolute is not None:
            ends.append(self.created_at + absolute)
        return min(ends) if ends else None
