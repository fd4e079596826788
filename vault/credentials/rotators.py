"""Who makes a new value of a credential, and sees to it that the far side takes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import entry_points
from secrets import token_bytes
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from vault.secret import Secret
from vault.webhooks import generate

GROUP: Final = "evergrant.rotators"
"""Entry points of this group are found by name: each a callable without arguments that gives a ``Rotator``."""
WEBHOOK: Final = "webhook"
"""The built-in rotator of webhook secrets that nobody but us has to be told of."""
REGISTRAR: Final = "registrar:"
"""Begins the names of rotators that are made of data."""


class RotationRequest(NamedTuple):
    """What one rotation is about. The same at every call for it, however often somebody died in between."""

    id: UUID
    """Calls that are repeated have the same: whoever gives it to the far side makes nothing twice."""
    tenant: str
    credential_id: UUID
    kind: str
    provider: str
    name: str
    tags: Mapping[str, str]
    overlap: timedelta
    """How long the old value is to go on working."""
    connection_id: UUID | None = None
    """The connection that the credential belongs to, if it was stored with one."""
    facts: Mapping[str, str] = {}
    """What may be shown of the value before: what ``create`` said of it, among others."""
    new_facts: Mapping[str, str] = {}
    """What ``create`` said of the new value, in every call after it."""


class Made(NamedTuple):
    """A new value with what the far side calls it, which is needed to take it away again."""

    value: Secret
    facts: Mapping[str, str] = {}
    """Kept with the version, and shown in its history: never a secret."""


class Rotator(Protocol):
    """Rotates credentials somewhere. Every call may come again, with the same request, and must come to the same.

    A call that cannot do its step raises ``RotationFailed``: it comes again later, or, if that is ``permanent``, the
    rotation is undone. Any other exception counts as one that passes.
    """

    def create(self, request: RotationRequest, current: Secret) -> Secret | Made:
        """Make a new value, or find the one that was made for this request. The current one must go on working.

        What the far side calls it, if later calls need that, is given with it as ``Made``.
        """

    def set(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """Have the far side take the new value, beside the current one if it can."""

    def test(self, request: RotationRequest, new: Secret) -> None:
        """Try the new value where it is to work."""

    def finish(self, request: RotationRequest, new: Secret, old: Secret) -> None:
        """The new value is what readers get from now on."""

    def retire(self, request: RotationRequest, old: Secret) -> None:
        """Take the old value away at the far side: its time is over."""

    def undo(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """Take the new value away again: it does not work, and nobody has got it."""


class WebhookSecrets:
    """Makes secrets that webhooks are signed with, where nobody else has to be told."""

    def create(self, request: RotationRequest, current: Secret) -> Secret:  # noqa: ARG002  # the seam's
        """See ``Rotator.create``."""
        return generate(token_bytes)

    def set(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """See ``Rotator.set``."""

    def test(self, request: RotationRequest, new: Secret) -> None:
        """See ``Rotator.test``."""

    def finish(self, request: RotationRequest, new: Secret, old: Secret) -> None:
        """See ``Rotator.finish``."""

    def retire(self, request: RotationRequest, old: Secret) -> None:
        """See ``Rotator.retire``."""

    def undo(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """See ``Rotator.undo``."""


class Rotators:
    """Rotators by name: those given, ours, and those of installed packages, which are loaded when they are needed."""

    def __init__(self, given: Mapping[str, Rotator] | None = None) -> None:
        self._known: dict[str, Rotator] = {WEBHOOK: WebhookSecrets(), **(given or {})}

    def get(self, name: str) -> Rotator | None:
        """Return a rotator; None: there is none of that name."""
        if name not in self._known:
            for point in entry_points(group=GROUP, name=name):
                self._known[name] = point.load()()
        return self._known.get(name)
