"""What a campaign of rotations does."""

from __future__ import annotations

from dataclasses import dataclass

ROTATE = ("rotate", "--older-than-days", "0")
FINISH = ("rotate", "--older-than-days", "30")
"""Replaces no key of the campaign's, and goes on re-sealing where somebody was killed."""
ROTATE_TENANT_KEYS = ("keys", "rotate-tenant-keys")
REWRAP = ("rewrap",)
ADD_KEK = ("keyring", "add", "--use")
"""The name is new each time."""
WORK = {ROTATE: 3.0, FINISH: 3.0, ROTATE_TENANT_KEYS: 2.0, REWRAP: 2.0, ADD_KEK: 1.0}
"""Commands of ``evergrant``, and how often each is chosen."""


@dataclass(frozen=True)
class Plan:
    """One campaign. Durations in seconds."""

    name: str
    connections: int
    """Each has two values: an access token and a refresh token."""
    kills: int
    """Go on until so many processes were killed ..."""
    longest: float
    """... or this has passed, which is a failure."""
    life: float
    """How long a process works before it is killed, on average; some longer, some much shorter."""
    busy_point: float
    """Chance of dying before or after a call of the store that a run makes for each batch ..."""
    rare_point: float
    """... and for all others."""
    tenants: int = 5
    side_by_side: int = 2
    """So many of these processes at a time."""
    reads_per_second: int = 200
    refreshes_per_second: int = 20


def long() -> Plan:
    """The campaign of the promise: 100,000 values, 200 reads a second, 200 kills."""
    return Plan("long", connections=50_000, kills=200, longest=3_600, life=3.0, busy_point=0.0007, rare_point=0.03)


def short() -> Plan:
    """A campaign for every test run."""
    return Plan("short", connections=400, kills=10, longest=60, life=1.0, busy_point=0.03, rare_point=0.03)
