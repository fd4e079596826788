"""What a campaign does, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.failpoints import POINTS

GRACE: dict[str, Any] = {"mode": "grace", "replay_window": 30.0}
ROOMY: dict[str, Any] = {"mode": "grace", "replay_window": 90.0}
"""A window that a busy machine does not outlast: for the campaign of every test run."""
STRICT: dict[str, Any] = {"mode": "strict"}


@dataclass(frozen=True)
class Plan:
    """One campaign. Durations in seconds."""

    name: str
    rotation: dict[str, Any]
    connections: int = 200
    refreshes: int = 2_000
    """Go on until the provider has answered so many refreshes ..."""
    kills: int = 200
    """... and so many processes were killed ..."""
    longest: float = 900.0
    """... or this has passed."""
    token_life: float = 12.0
    workers: int = 2
    beats: int = 1
    deadly_point: float = 0.004
    """Chance of dying at a named point, each time it is reached."""
    pause_between: tuple[float, float] = (0.2, 0.8)
    """Between two acts of the campaign itself."""
    acts: dict[str, float] = field(default_factory=dict)
    """Weights of acts: ``kill_child``, ``kill_main``, ``freeze_child``, ``flush``, ``redis_down``, ``redis_frozen``,
    ``postgres_crash``, ``beats`` (none, one, three)."""
    postgres_crashes: int = 0
    """Also go on until PostgreSQL has crashed so often."""

    @property
    def odds(self) -> dict[str, float]:
        """Chance of dying at each named point."""
        return dict.fromkeys(POINTS, self.deadly_point) if self.deadly_point else {}


EVERYTHING = {
    "kill_child": 6.0, "kill_main": 0.5, "freeze_child": 0.5, "flush": 0.5, "redis_down": 0.3, "redis_frozen": 0.3,
    "beats": 0.5,
}  # fmt: skip


def short(rotation: dict[str, Any]) -> Plan:
    """A campaign for every test run."""
    acts = {**EVERYTHING, "postgres_crash": 0.5}
    return Plan(
        f"short {rotation['mode']}", rotation, connections=60, refreshes=180, kills=12, longest=30.0, token_life=8.0,
        acts=acts, deadly_point=0.004,
    )  # fmt: skip


def long(rotation: dict[str, Any], connections: int) -> Plan:
    """The campaign of the promise: 10,000 refreshes, 1,000 kills.

    As many connections as make ten refreshes between two kills; more of them where some are lost on the way.
    """
    return Plan(
        f"long {rotation['mode']}", rotation, connections=connections, refreshes=10_000, kills=1_000, longest=2_400.0,
        acts=EVERYTHING, deadly_point=0.001, pause_between=(0.3, 0.9),
    )  # fmt: skip


def postgres() -> Plan:
    """PostgreSQL crashes during commits, a strict provider, and no process killed: nothing may be lost."""
    return Plan(
        "PostgreSQL crashes", STRICT, connections=200, refreshes=2_000, kills=0, longest=600.0, deadly_point=0.0,
        acts={"postgres_crash": 1.0}, pause_between=(2.0, 5.0), postgres_crashes=20,
    )  # fmt: skip
