"""Why a token is refused: the words, what they say, and who must act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from vault.errors import TokenRefused

USER, CALLER, OPERATOR = "user", "caller", "operator"
INVALID_TOKEN, INSUFFICIENT_SCOPE = "invalid_token", "insufficient_scope"  # RFC 6750, section 3.1


class _Refusal(NamedTuple):
    message: str
    who: str = USER
    code: str = INVALID_TOKEN


REFUSALS: Final[Mapping[str, _Refusal]] = {
    "malformed": _Refusal("it is none: tokens are printable ASCII without spaces, of bounded length", CALLER),
    "unknown": _Refusal("no session has it, or not any more: the user must sign in again"),
    "expired": _Refusal("its time is over: the user must sign in again"),
    "revoked": _Refusal("its session was ended: the user must sign in again"),
    "inactive": _Refusal("its issuer says that it is not valid, or not any more: a new one is to be got there", CALLER),
    "not_yet": _Refusal("its issuer says that it is not valid yet: are the clocks right?", CALLER),
    "other_issuer": _Refusal("somebody else issued it than the one who was asked", CALLER),
    "other_audience": _Refusal("it was issued for another service than this", CALLER),
    "insufficient_scope": _Refusal("it lacks scopes", USER, INSUFFICIENT_SCOPE),
    "insufficient_subscription": _Refusal("the method is for a higher subscription level", USER, INSUFFICIENT_SCOPE),
    "no_rule": _Refusal("no rule names this method: add one to VAULT_SCOPE_RULES", OPERATOR, INSUFFICIENT_SCOPE),
}


def refused(reason: str, more: str = "", *, missing: Sequence[str] = ()) -> TokenRefused:
    """Return the error for one of ``REFUSALS``; ``more`` is what rules of ours want, never what was presented."""
    message, who, code = REFUSALS[reason]
    return TokenRefused(reason, message + (f" ({more})" if more else ""), who=who, code=code, missing=missing)
