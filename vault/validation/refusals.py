"""Why a token is refused: the words, what they say, and who must act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vault.errors import TokenRefused

USER, CALLER, OPERATOR = "user", "caller", "operator"
INVALID_TOKEN, INSUFFICIENT_SCOPE = "invalid_token", "insufficient_scope"  # RFC 6750, section 3.1
REFUSALS: Final[Mapping[str, tuple[str, str, str]]] = {
    "malformed": ("it is none: tokens are printable ASCII without spaces, of bounded length", CALLER, INVALID_TOKEN),
    "unknown": ("no session has it, or not any more: the user must sign in again", USER, INVALID_TOKEN),
    "expired": ("its time is over: the user must sign in again", USER, INVALID_TOKEN),
    "revoked": ("its session was ended: the user must sign in again", USER, INVALID_TOKEN),
    "inactive": (
        "its issuer says that it is not valid, or not any more: a new one is to be got there",
        CALLER,
        INVALID_TOKEN,
    ),
    "not_yet": ("its issuer says that it is not valid yet: are the clocks right?", CALLER, INVALID_TOKEN),
    "other_issuer": ("somebody else issued it than the one who was asked", CALLER, INVALID_TOKEN),
    "other_audience": ("it was issued for another service than this", CALLER, INVALID_TOKEN),
    "insufficient_scope": ("it lacks scopes", USER, INSUFFICIENT_SCOPE),
    "insufficient_subscription": ("the method is for a higher subscription level", USER, INSUFFICIENT_SCOPE),
    "no_rule": ("no rule names this method: add one to VAULT_SCOPE_RULES", OPERATOR, INSUFFICIENT_SCOPE),
}
"""By reason: what it says, who is to act, and what a resource server answers."""


def refused(reason: str, more: str = "", *, missing: Sequence[str] = ()) -> TokenRefused:
    """Return the error for one of ``REFUSALS``; ``more`` is what rules of ours want, never what was presented."""
    message, who, code = REFUSALS[reason]
    return TokenRefused(reason, message + (f" ({more})" if more else ""), who=who, code=code, missing=missing)
