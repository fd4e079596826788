"""One simulated provider's memory: its configuration, consents, families and which token belongs to which."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulator.answers import PLAIN
from tests.simulator.config import ProviderConfig
from tests.simulator.faults import Fault, FaultPlan
from tests.simulator.grants import Family, Pair
from tests.simulator.journal import Journal, quote
from tests.simulator.tokens import ACCESS_TOKEN_PREFIX, CODE_PREFIX, REFRESH_TOKEN_PREFIX, Mint

CODE_LIFE = 60.0


@dataclass(slots=True)
class Code:
    """An authorization code; it works once and for a minute."""

    account: str
    redirect_uri: str
    challenge: str | None
    scope: str
    offline: bool
    expires_at: float
    client_id: str | None = None
    beside: dict[str, str] = field(default_factory=dict)
    """Scopes of further grants, by the members under which they come."""
    family: Family | None = None


class Provider:
    """Holds the state that requests change; the endpoints hold the protocol."""

    def __init__(
        self, name: str, config: ProviderConfig, journal: Journal, clock: Callable[[], float], seed: int
    ) -> None:
        """Create a provider and record its configuration."""
        self.name = name
        self.quoted_name = quote(name)
        self.journal = journal
        self.clock = clock
        self.mint = Mint()
        self.codes: dict[str, Code] = {}
        self.hooks: Any = None
        """Registrations of webhooks (`hooks.Hooks`), given by the application."""
        self.arrivals: deque[float] = deque()
        """Of token requests in the last second, where their number is limited."""
        self.signed_requests: dict[str, Any] = {}
        self.signed_tokens: dict[str, tuple[str, str]] = {}
        """Of OAuth 1.0a (`signed`); they are forgotten with the process."""
        self.by_refresh_token: dict[str, Family] = {}
        self.by_access_token: dict[str, Family] = {}
        self.by_account: defaultdict[str, list[Family]] = defaultdict(list)
        self._families = 0
        self._seed = seed
        self.dice = random.Random(f"{seed}/{name}")
        self.configure(config)

    def restore(self, families: list[Family]) -> None:
        """Go on with the families of an earlier life; codes not yet exchanged are forgotten."""
        self._families = len(families)
        for family in families:
            self.by_account[family.account].append(family)
            self.by_access_token.update(dict.fromkeys(family.access_tokens, family))
            self.by_refresh_token.update(dict.fromkeys(family.refresh_tokens, family))

    def configure(self, config: ProviderConfig) -> None:
        """Take a new configuration; it holds for every family from its next use on."""
        if config.answer == PLAIN:
            config = replace(config, answer=PLAIN)  # the very same object, so that the fast path can ask with `is`
        self.config = config
        self.plan = FaultPlan(config.faults, self.dice.getrandbits(64))
        self.calm = not config.faults and config.outage == "off" and not config.latency and not config.jitter
        self.journal.event("configured", provider=self.name, config=config.to_dict())

    def admits(self, at: float) -> bool:
        """Whether the number of token requests in the last second allows another."""
        while self.arrivals and at - self.arrivals[0] >= 1.0:
            self.arrivals.popleft()
        if len(self.arrivals) >= self.config.rate_limit:
            return False
        self.arrivals.append(at)
        return True

    def add_faults(self, faults: list[Fault]) -> None:
        """Append rules to those in force."""
        self.configure(replace(self.config, faults=[*self.config.faults, *faults]))

    def clear_faults(self) -> None:
        """Drop every rule."""
        self.configure(replace(self.config, faults=[]))

    def new_code(self, code: Code) -> str:
        """Remember a consent and return its code."""
        value = self.mint.token(CODE_PREFIX, 40)
        self.codes[value] = code
        self.journal.event("authorized", provider=self.name, account=code.account, code=value)
        return value

    def new_family(
        self,
        account: str,
        scope: str,
        how: str,
        now: float,
        offline: bool = True,
        request: int = 0,
        fault: Fault | None = None,
    ) -> tuple[Family, Pair, int]:
        """Start a family with its first pair.

        Args:
            account: whose grant it is.
            scope: granted scopes, separated by spaces.
            how: the grant type, or `control`.
            now: the simulator's time.
            offline: whether a refresh token is issued.
            request: id of the request that asked.
            fault: the fault that will disturb the answer.

        Returns:
            The family, its first pair and the id of the event.
        """
        self._families += 1
        family = Family(f"{self.name}/{self._families}", account, self.config.rotation, now, scope)
        pair = self.new_pair() if offline else Pair(self.mint.token(ACCESS_TOKEN_PREFIX, self.config.token_size), None)
        family.start(pair, now)
        self.by_account[account].append(family)
        self.index(family, pair)
        event = self.record("issued", now, request, family, None, pair, fault, f',"how":"{how}","scope":{quote(scope)}')
        return family, pair, event

    def new_pair(self) -> Pair:
        """Two tokens nobody has seen."""
        size = self.config.token_size
        return Pair(self.mint.token(ACCESS_TOKEN_PREFIX, size), self.mint.token(REFRESH_TOKEN_PREFIX, size))

    def index(self, family: Family, pair: Pair) -> None:
        """Make the tokens findable."""
        self.by_access_token[pair.access_token] = family
        if pair.refresh_token is not None:
            self.by_refresh_token[pair.refresh_token] = family

    def record(
        self,
        event: str,
        now: float,
        request: int,
        family: Family | None,
        presented: str | None,
        pair: Pair | None,
        fault: Fault | None,
        more: str = "",
    ) -> int:
        """Write a token event; `more` is further members as JSON, each with a comma before it."""
        owner = '"account":null,"family":null'
        if family is not None:
            owner = f'"account":{quote(family.account)},"family":{quote(family.id)}'
        issued = '"refresh_token":null,"access_token":null'
        if pair is not None:
            refresh = "null" if pair.refresh_token is None else f'"{pair.refresh_token}"'
            issued = f'"refresh_token":{refresh},"access_token":"{pair.access_token}"'
        outcome = '"delivered":true,"fault":null'
        if fault is not None:
            outcome = f'"delivered":{"false" if fault.loses_answer else "true"},"fault":"{fault.kind}"'
        shown = "null" if presented is None else quote(presented)
        return self.journal.token_event(event, now, request, self.quoted_name, owner, shown, issued, outcome + more)

    def revoke_family(self, family: Family, now: float, reason: str) -> None:
        """Kill a family and record it, once."""
        if family.revoke(now, reason):
            self.record_revocation(family, reason)

    def record_revocation(self, family: Family, reason: str, access_token: str | None = None) -> None:
        """Record that a family has died, or just one of its access tokens."""
        self.journal.event(
            "revoked",
            provider=self.name,
            account=family.account,
            family=family.id,
            access_token=access_token,
            reason=reason,
        )

    def kill_account(self, account: str) -> int:
        """The person withdraws consent: every family of the account dies. Returns how many did."""
        alive = [family for family in self.by_account.get(account, []) if family.revoked_at is None]
        now = self.clock()
        for family in alive:
            self.revoke_family(family, now, "consent withdrawn")
        return len(alive)

    def grant(self, accounts: list[str], scope: str | None = None) -> list[dict[str, Any]]:
        """Start families without a browser. Returns the token answers, in the order of the accounts."""
        now = self.clock()
        granted = []
        for account in accounts:
            family, pair, _ = self.new_family(account, scope or self.config.default_scope, "control", now)
            granted.append(
                {
                    "account": account,
                    "family": family.id,
                    "access_token": pair.access_token,
                    "refresh_token": pair.refresh_token,
                    "expires_in": round(self.config.rotation.access_token_life),
                    "scope": family.scope,
                }
            )
        return granted
