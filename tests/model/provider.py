"""The provider's side: what presenting a refresh token comes to; ``test_provider`` holds it to the simulator's."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.state import Family, Token
from vault.provider import Rotation


class Mode(NamedTuple):
    """A provider's rotation, with what the registry does not say about it."""

    rotation: Rotation
    window: int = 0
    """For ``GRACE``: microseconds after its first use in which a spent token is good."""
    fresh: bool = False
    """For ``NONE``: a new refresh token comes with each answer, and the old one stays valid."""
    penalty: bool = True
    """Presenting a spent token kills the family."""


class Answer(NamedTuple):
    """The provider after a request, and what it said: a refresh token, or None for ``invalid_grant``."""

    tokens: tuple[Token, ...]
    families: tuple[Family, ...]
    token: int | None


def is_accepted(mode: Mode, tokens: tuple[Token, ...], families: tuple[Family, ...], token: int) -> bool:
    """Whether presenting this token now would bring an answer."""
    known = tokens[token]
    if families[known.consent - 1] is not Family.ALIVE or known.superseded:
        return False
    if mode.rotation is Rotation.NONE or known.used_at is None:
        return True
    if mode.rotation is Rotation.GRACE:
        return -known.used_at < mode.window
    if mode.rotation is Rotation.STRICT or known.child is None:
        return False
    return tokens[known.child].used_at is None


def accepted(mode: Mode, tokens: tuple[Token, ...], families: tuple[Family, ...], consent: int) -> list[int]:
    """The tokens of one consent that would be accepted now."""
    return [t for t, known in enumerate(tokens) if known.consent == consent and is_accepted(mode, tokens, families, t)]


def present(mode: Mode, tokens: tuple[Token, ...], families: tuple[Family, ...], token: int) -> Answer:
    """Process one refresh request."""
    known = tokens[token]
    if not is_accepted(mode, tokens, families, token):
        alive = families[known.consent - 1] is Family.ALIVE
        if alive and not known.superseded and mode.penalty:
            families = _end(families, known.consent, Family.REUSED)
        return Answer(tokens, families, None)
    if mode.rotation is Rotation.NONE and not mode.fresh:
        return Answer(tokens, families, token)
    if mode.rotation is Rotation.IDEMPOTENT and known.child is not None:
        return Answer(tokens, families, known.child)
    changed = list(tokens)
    if mode.rotation is Rotation.UNTIL_SUCCESSOR_USED and known.child is not None:
        changed[known.child] = tokens[known.child]._replace(superseded=True)
    new = len(tokens)
    changed[token] = known._replace(used_at=0 if known.used_at is None else known.used_at, child=new)
    changed.append(Token(known.consent, token))
    return Answer(tuple(changed), families, new)


def revoke(mode: Mode, tokens: tuple[Token, ...], families: tuple[Family, ...], token: int) -> tuple[Family, ...]:
    """Take a token back (RFC 7009): its grant ends, if the token still means anything."""
    if is_accepted(mode, tokens, families, token):
        return _end(families, tokens[token].consent, Family.REVOKED)
    return families


def _end(families: tuple[Family, ...], consent: int, how: Family) -> tuple[Family, ...]:
    return (*families[: consent - 1], how, *families[consent:])
