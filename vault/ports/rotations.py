"""Rotations of credentials on their way, as the database keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.model import Credential
from vault.ports.credentials import Dates, SealedVersion


class RotationRow(NamedTuple):
    """One rotation of one credential."""

    id: UUID
    tenant: str
    credential_id: UUID
    rotator: str
    from_version: int
    to_version: int | None
    """None: not made yet."""
    step: str
    """What comes next: ``create``, ``set``, ``test``, ``finish``, ``retire``, ``undo``; or how it ended."""
    overlap: timedelta
    epoch: int
    """Of who has it in hand: +1 with each taking."""
    attempt: int
    """Tries of this step that came to nothing."""


class RotationStore(Protocol):
    """Rotations at rest. Each call is one transaction; what changes a rotation does so only for who has it in hand."""

    def begin_rotation(self, row: RotationRow, pending: SealedVersion | None) -> bool:
        """Keep a new rotation, perhaps with its new value; False: one is being made, or the credential has changed."""

    def open_rotation(self, tenant: str, credential_id: UUID) -> RotationRow | None:
        """The rotation of a credential that has not ended, the newest."""

    def end_overlaps(self, tenant: str, credential_id: UUID) -> None:
        """Let values that still work beside the current one be retired now."""

    def rotation(self, tenant: str, rotation_id: UUID) -> RotationRow | None:
        """Any rotation."""

    def take_rotations(self, limit: int, lease: timedelta, only: UUID | None = None) -> Sequence[RotationRow]:
        """Take some that are due, or one whether it is due or not, for so long."""

    def keep_pending(self, row: RotationRow, pending: SealedVersion, step: str) -> RotationRow | None:
        """Keep the new value, sealed, as a version that nobody reads; None: the credential has changed."""

    def go_on(self, row: RotationRow, step: str) -> RotationRow | None:
        """The step before is done; None: somebody else has the rotation in hand. The same step keeps its tries."""

    def promote(self, row: RotationRow, seen: Credential, dates: Dates, keep: int) -> RotationRow | None:
        """Make the new value the current one; the old one works until the overlap is over. None: as ``go_on``."""

    def put_off(self, row: RotationRow, reason: str, wait: timedelta) -> None:
        """Try this step again later."""

    def let_serve(self, row: RotationRow, time: timedelta) -> None:
        """The far side has forgotten the new value: it counts for so long yet, and then the rotation is over."""

    def end_rotation(self, row: RotationRow, outcome: str, reason: str) -> None:
        """It is over: ``done``, ``failed`` (the new value is destroyed), or ``not_retired``."""

    def due_credentials(self, limit: int) -> Sequence[tuple[str, UUID]]:
        """Credentials (tenant, id) past their age that are rotated by us, and are not being rotated."""
