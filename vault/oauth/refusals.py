"""What a provider means by saying no: its own table first, then RFC 6749, section 5.2."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from vault.dialect import ErrorStyle, Meaning
from vault.outcome import CLIENT_CODES, Dead, Misconfigured, Outcome, StepNeeded, Throttled, Unknown
from vault.provider import Provider, Strategy

NO_CODE = "no_code"
STANDARD = {
    **dict.fromkeys(CLIENT_CODES - {NO_CODE}, Meaning.OPERATOR),
    **dict.fromkeys(("unsupported_grant_type", "invalid_request", "invalid_scope"), Meaning.OPERATOR),
    **dict.fromkeys(("interaction_required", "login_required", "consent_required", "insufficient_scope"), Meaning.STEP),
    **dict.fromkeys(("temporarily_unavailable", "server_error", "slow_down"), Meaning.TRANSIENT),
    "invalid_grant": Meaning.DEAD,
}
CODE_LENGTH = 64
"""A code from outside is cut to this before it is stored as a reason."""
TOLD = "told_what_it_was_sent"
"""In the place of a code that does."""
TOLD_LENGTH = 12
"""Characters of a secret in a row that are no coincidence."""
LOOKED_AT = 4096
"""Bytes of an answer that patterns are looked for in."""


def codes(style: ErrorStyle, document: dict[str, Any]) -> list[str]:
    """Return the codes in an answer, the most telling first; none: it is no refusal."""
    found: list[str] = []
    for path in style.members:
        value = member(document, path)
        found += [_code(each) for each in (value if isinstance(value, list) else [value]) if each]
    return [code for code in found if code not in style.success]


def confirmed(style: ErrorStyle, document: dict[str, Any]) -> bool:
    """Whether an answer says that all is well, of a provider that says so."""
    said = {_code(member(document, path)) for path in style.members}
    return not style.success or bool(said & style.success)


def _code(value: object) -> str:
    return str(value) if isinstance(value, str | int) and value is not True else NO_CODE


def refusal(
    provider: Provider, status: int, found: Sequence[str], body: bytes, retry_after: timedelta | None
) -> Outcome:
    """Tell what follows from a refusal.

    Args:
        provider: Whose it is.
        status: Of the answer; it may well be 200.
        found: From ``codes``.
        body: The whole answer.
        retry_after: When to ask again, where it says so.
    """
    meaning, code = _meaning(provider.errors, status, found, body)
    word = _word(code)
    match meaning:
        case Meaning.TRANSIENT:
            return Throttled(word, retry_after)
        case Meaning.OPERATOR:
            return Misconfigured(word)
        case Meaning.STEP:
            return StepNeeded(word)
        case Meaning.DEAD if provider.strategy is Strategy.JWT_BEARER:
            return Unknown(word)  # an assertion that is new may be refused for a moment: of keys, of clocks
        case Meaning.DEAD:
            return Dead(word)
        case None:
            return Unknown(word if code != NO_CODE else f"http_{status}")


def recognised(provider: Provider, status: int, body: bytes) -> bool:
    """Whether the provider's own table knows an answer that cannot be read."""
    return status in provider.errors.statuses or _by_pattern(provider.errors, body) is not None


def _meaning(style: ErrorStyle, status: int, found: Sequence[str], body: bytes) -> tuple[Meaning | None, str]:
    for code in found:
        if code in style.codes:
            return style.codes[code], code
    first = found[0] if found else NO_CODE
    said = _by_pattern(style, body) or style.statuses.get(status)
    if said is not None:
        return said, first if found else f"http_{status}"
    for code in found:
        word = code.partition(":")[0]  # "invalid_client: Invalid client_id or client_secret", says Dropbox
        if word in STANDARD:
            return STANDARD[word], word
    return (Meaning.OPERATOR if status == 401 and first == NO_CODE else None), first


def _by_pattern(style: ErrorStyle, body: bytes) -> Meaning | None:
    if not style.patterns:
        return None
    text = body[:LOOKED_AT].decode("utf-8", "replace")
    return next((each.meaning for each in style.patterns if each.expression.search(text)), None)


def tells(word: str, secret: str) -> bool:
    """Whether an error code repeats what it was sent, or a part of it, which nobody should read in a log."""
    if not secret:
        return False
    said, sent = _word(secret[:LOOKED_AT], None), _word(word, None)
    length = min(TOLD_LENGTH, len(said))
    return any(sent[at : at + length] in said for at in range(len(sent) - length + 1))


def member(document: object, path: str) -> Any:
    """Return what stands at a path of names, or numbers of a list, joined by dots; None: nothing does."""
    for name in path.split(".") if path else ():
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdecimal() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def _word(code: str, length: int | None = CODE_LENGTH) -> str:
    """Return an error code fit for a log and a column: short, printable, of few characters."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in code[:length]) or NO_CODE
