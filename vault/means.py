"""What a grant is renewed with: mostly a refresh token and no more, sealed where a refresh token alone would be.

Some providers want more of a connection than its refresh token: the shop its addresses are made of, the access token
whose life is prolonged, whom an assertion speaks for. Sealed together they cannot be exchanged by whoever can write to
the database, and the protocol goes on treating them as the one value that descends from the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from vault.model import Answer
from vault.provider import Provider, Strategy
from vault.secret import Secret

_MARK: Final = "\x1e"
"""No token holds one: what begins with it is more than a refresh token."""


class Means(NamedTuple):
    """What a connection brings to its renewal."""

    refresh_token: str = ""
    access_token: str = ""
    """The one whose life is prolonged."""
    variables: Mapping[str, str] = {}
    """Parts of the provider's addresses."""
    subject: str = ""
    """Whom an assertion speaks for."""
    key: str = ""
    """A private key of this connection alone, in the place of the registration's."""
    scopes: str = ""
    """What is asked for at each renewal, where nothing at the provider remembers it."""

    def __repr__(self) -> str:
        """Show nothing."""
        return "<Means>"


def text_of(means: Means) -> str:
    """Return the text that is sealed: equal means give equal texts."""
    if means == Means(means.refresh_token):
        return means.refresh_token
    said = {name: value for name, value in means._asdict().items() if value}
    return _MARK + json.dumps(said, sort_keys=True, separators=(",", ":"))


def is_more(text: str) -> bool:
    """Whether it is more than a refresh token."""
    return text.startswith(_MARK)


def means_of(text: str) -> Means:
    """Return what was sealed."""
    if not is_more(text):
        return Means(text)
    said = json.loads(text[1:])  # what a later version added is not known here, and does not keep a grant from living
    return Means(**{name: value for name, value in said.items() if name in Means._fields})


def first_text(provider: Provider, answer: Answer, beside: Means) -> str | None:
    """Return what a new consent is renewed with; None: nothing renews it.

    Args:
        provider: Who gave it.
        answer: The tokens.
        beside: What the connection brings: its variables, subject, key and scopes.
    """
    access = answer.access_token.reveal()
    refresh = answer.refresh_token.reveal() if answer.refresh_token else ""
    match provider.strategy:
        case Strategy.REFRESH if refresh:
            return text_of(beside._replace(refresh_token=refresh))
        case Strategy.EXTEND if refresh and access:
            return text_of(beside._replace(refresh_token=refresh, access_token=access))
        case Strategy.EXCHANGE if access:
            return text_of(beside._replace(refresh_token=access))
        case Strategy.CLIENT_CREDENTIALS | Strategy.JWT_BEARER | Strategy.MINTED:
            return text_of(beside._replace(refresh_token=provider.strategy))
        case _:
            return None


def next_text(provider: Provider, spent: Secret, answer: Answer) -> str:
    """Return what a grant is renewed with after an answer; the same as before when that brought nothing new."""
    text = spent.reveal()
    if provider.strategy is Strategy.REFRESH and not is_more(text):
        return answer.refresh_token.reveal() if answer.refresh_token else text
    means = means_of(text)
    if provider.strategy is Strategy.EXCHANGE:
        return text_of(means._replace(refresh_token=answer.access_token.reveal()))
    if answer.refresh_token is not None:
        means = means._replace(refresh_token=answer.refresh_token.reveal())
    if provider.strategy is Strategy.EXTEND:
        means = means._replace(access_token=answer.access_token.reveal() or means.access_token)
    return text_of(means)
