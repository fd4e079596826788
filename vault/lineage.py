"""S5 and S7: where a late answer goes, and what a rejection proves, decided by lineage; pure, as ``policy`` is."""

from __future__ import annotations

from enum import Enum

from vault.claims import Kept, Lineage, Verdict
from vault.model import Status


class Place(Enum):
    """Where an answer goes whose parent was not found in the row."""

    STORED = "stored"
    """It is in the row, or has been: an earlier commit had gone through."""
    ROW = "row"
    """The row still has its parent and is in nobody's hands: try again."""
    CANDIDATE = "candidate"
    """Somebody moved the lineage or holds a lease on it; the only live token may be this one."""
    REVOKE = "revoke"
    """The owner has disconnected: the provider is told to forget it."""
    DROP = "drop"
    """The owner has given a newer consent, which wins."""


def place(kept: Kept, row: Lineage | None, *, known: bool) -> Place:
    """Decide where a late answer goes, by lineage and not by lease (P2).

    Args:
        kept: The answer.
        row: What it is held against; None: the connection is gone.
        known: Its refresh token has been stored for this connection before. Such a token has had its turn: its process
            died, or slept, between the commit and the disk, and what it gave has been spent since.
    """
    if row is None:
        return Place.DROP
    if row.status is Status.DISCONNECTED:
        return Place.REVOKE  # of whichever consent: none of them is wanted any more
    if row.consent != kept.consent:
        return Place.DROP
    if (known or row.refresh_fp == kept.refresh_fp) and row.version >= kept.version:
        return Place.STORED
    fits = row.refresh_fp == kept.parent_fp and row.version == kept.parent_version
    return Place.ROW if fits and not _may_be_undone(kept, row) else Place.CANDIDATE


def _may_be_undone(kept: Kept, row: Lineage) -> bool:
    """Whether a later claimant is sending the parent, or has sent it and thereby undone this answer."""
    return row.epoch != kept.epoch and (row.leased or kept.fragile)


def is_conclusive(verdict: Verdict, row: Lineage | None, *, candidates: bool, spooled: bool, client_id: str) -> bool:
    """S7: whether a rejection proves that the grant is dead.

    Only if the row still holds the refresh token that was rejected, the claim is still ours, no other answer is in our
    hands or on our disk, and the client that asked is the one that got the consent.
    """
    claim = verdict.claim
    return (
        row is not None
        and row.consent == claim.consent
        and row.refresh_fp == claim.parent_fp
        and row.version == claim.version
        and row.epoch == claim.epoch
        and not candidates
        and not spooled
        and client_id == claim.client_id
    )
