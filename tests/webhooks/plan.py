"""What a campaign of webhook secrets does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OWN, GITHUB, STRIPE = "own", "github", "stripe"
UNDONE = " undone"
"""Ends the name of a scene in which no rotation can succeed: the far side refuses the test of every new secret."""
SCENES: Sequence[str] = (OWN, GITHUB, STRIPE, GITHUB + UNDONE, STRIPE + UNDONE)


@dataclass(frozen=True)
class Plan:
    """One campaign. Durations in seconds."""

    name: str
    kills: int
    """At each failpoint of each scene."""
    stride: int
    """Only every so-many-th failpoint."""
    rate: float
    """Events a second that each scene's sender signs."""
    overlap: float = 0.3
    """For which the secret before counts."""
    undone_life: float = 0.3
    """For which one that was undone counts."""


def long() -> Plan:
    """The campaign of the promise: killed 50 times at every failpoint."""
    return Plan("webhooks", kills=50, stride=1, rate=6)


def short() -> Plan:
    """A campaign for every test run."""
    return Plan("short-webhooks", kills=1, stride=3, rate=10)
