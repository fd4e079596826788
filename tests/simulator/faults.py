"""Faults: what goes wrong, how often, and for whom.

    kind            processed?  the client sees
    drop_before     no          the connection closed without a byte
    drop_after      yes         the same
    reset_before    no          RST
    reset_after     yes         RST
    truncated       yes         half the answer, then the connection closed
    error_before    no          `status` (503), `retry_after` and `body` if given
    error_after     yes         the same
    rate_limited    no          429, `retry_after` if given
    slow            yes         the answer after `delay` seconds; the grant changes at once
    slow_before     yes         the answer after `delay` seconds; the grant changes only then, even if nobody waits
    drip            yes         the answer spread over `delay` seconds
    malformed       yes         JSON that breaks off
    not_json        yes         200 with an HTML page
    huge            yes         the answer padded to `size` bytes
    redirect        no          302 to `location`
    missing         yes         the answer without the members in `fields`
    error_in_200    no          200 with `error` in the body, as GitHub does it

A fault that is processed and whose answer cannot be read loses the answer: the journal says `delivered: false`. With
`missing` that holds when `refresh_token` is among the fields; a lone `access_token` missing leaves the grant usable.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from tests.simulator.loop import Reply
from tests.simulator.wire import HTML, JSON, write_answer

FaultKind = Literal[
    "drop_before",
    "drop_after",
    "reset_before",
    "reset_after",
    "truncated",
    "error_before",
    "error_after",
    "rate_limited",
    "slow",
    "slow_before",
    "drip",
    "malformed",
    "not_json",
    "huge",
    "redirect",
    "missing",
    "error_in_200",
]
UNPROCESSED = frozenset({"drop_before", "reset_before", "error_before", "rate_limited", "redirect", "error_in_200"})
_LOST = frozenset({"drop_after", "reset_after", "truncated", "error_after", "malformed", "not_json"})


@dataclass(slots=True)
class Fault:
    """One rule. It strikes the requests it matches, `next` of them or each with `probability`.

    Args:
        kind: see the table of this module.
        probability: chance to strike a matching request, 0 to 1.
        next: strike at most so many requests, then be spent; None for no bound.
        account: only requests for this account; None for all.
        endpoint: only this endpoint (`token`, `revoke`, `introspect`, `userinfo`, `api`, `authorize`, `github`,
            `stripe`) or `*`.
        grant_type: only token requests with this grant type, or requests of `github` and `stripe` with this method;
            None for all.
        status: HTTP status of `error_before` and `error_after`.
        retry_after: value of the Retry-After header, seconds or an HTTP date; None for no header.
        body: body of the error; None for an RFC 6749 error object.
        error: error code of `error_in_200` and of the error object.
        delay: seconds, for `slow`, `slow_before` and `drip`.
        size: bytes, for `huge`.
        location: target of `redirect`.
        fields: members left out by `missing`.
    """

    kind: FaultKind
    probability: float = 1.0
    next: int | None = None
    account: str | None = None
    endpoint: str = "token"
    grant_type: str | None = None
    status: int = 503
    retry_after: int | str | None = None
    body: str | None = None
    error: str = "temporarily_unavailable"
    delay: float = 1.0
    size: int = 4 * 1024 * 1024
    location: str = "https://elsewhere.invalid/"
    fields: list[str] = field(default_factory=lambda: ["access_token"])

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"no fault is called {self.kind!r}; known are {', '.join(get_args(FaultKind))}")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Fault:
        """Build a fault from JSON members.

        Raises:
            ValueError: unknown kind or member.
        """
        unknown = data.keys() - {item.name for item in fields(cls)}
        if unknown or "kind" not in data:
            raise ValueError(f"a fault needs a kind and knows nothing of {sorted(unknown)}")
        return cls(**data)

    @property
    def loses_answer(self) -> bool:
        """Whether the grant changes and the client cannot learn the new refresh token."""
        return self.kind in _LOST or (self.kind == "missing" and "refresh_token" in self.fields)

    def matches(self, endpoint: str, account: str | None, grant_type: str | None) -> bool:
        """Whether the rule is about such a request; one whose `next` is used up matches nothing."""
        return (
            self.next != 0
            and self.endpoint in (endpoint, "*")
            and (self.account is None or self.account == account)
            and (self.grant_type is None or self.grant_type == grant_type)
        )

    def replace(self) -> Reply:
        """The answer in place of processing, for the kinds that do not process."""
        match self.kind:
            case "drop_before":
                return Reply(b"", ending="close")
            case "reset_before":
                return Reply(b"", ending="reset")
            case "redirect":
                return Reply(write_answer(302, b"", HTML, f"Location: {self.location}\r\n".encode()))
            case "error_in_200":
                return Reply(self._error(200))
            case "rate_limited":
                return Reply(self._error(429))
            case _:
                return Reply(self._error(self.status))

    def disturb(self, payload: bytes, event: int) -> Reply:
        """Turn the honest answer of a processed request into what the client will get."""
        head, _, body = payload.partition(b"\r\n\r\n")
        match self.kind:
            case "drop_after":
                return Reply(b"", ending="close")
            case "reset_after":
                return Reply(b"", ending="reset")
            case "truncated":
                return Reply(head + b"\r\n\r\n" + body[: len(body) // 2], ending="close")
            case "error_after":
                return Reply(self._error(self.status))
            case "malformed":
                return Reply(write_answer(200, body[: -len(body) // 3], JSON))
            case "not_json":
                return Reply(write_answer(200, b"<html><body>We will be right back.</body></html>", HTML))
            case "huge":
                padded = body[:-1] + b',"padding":"' + b"x" * max(0, self.size - len(body)) + b'"}'
                return Reply(write_answer(200, padded, JSON), event)
            case "slow":
                return Reply(payload, event, delay=self.delay)
            case "drip":
                return Reply(payload, event, drip=self.delay)
            case _:
                return Reply(payload, event)

    def _error(self, status: int) -> bytes:
        extra = b"" if self.retry_after is None else f"Retry-After: {self.retry_after}\r\n".encode()
        text = json.dumps({"error": self.error}) if self.body is None else self.body
        return write_answer(status, text.encode(), JSON if text.startswith("{") else HTML, extra)


class FaultPlan:
    """The rules of one provider and the dice that decide."""

    def __init__(self, rules: list[Fault], seed: int) -> None:
        """Take the rules in the order in which they are asked; the first to strike wins."""
        self.rules = rules
        self._dice = random.Random(seed)

    def strike(self, endpoint: str, account: str | None, grant_type: str | None = None) -> Fault | None:
        """Decide which fault, if any, befalls this request."""
        for rule in self.rules:
            if not rule.matches(endpoint, account, grant_type):
                continue
            if rule.probability < 1.0 and self._dice.random() >= rule.probability:
                continue
            if rule.next is not None:
                rule.next -= 1
            return rule
        return None
