"""The worlds that are explored: each way a provider rotates, and how much goes wrong."""

from __future__ import annotations

from tests.model.provider import Mode
from tests.model.rules import SECOND
from tests.model.state import Faults
from tests.model.world import Setting
from vault.provider import Rotation

ANY_TWO = Faults(2, crash=2, pause=1, lost=1, refused=1, disk=1, unsure=1, owner=1, killed=1, asked=1)
"""Any two mishaps, at any points."""
MOST_TWO = ANY_TWO._replace(refused=0, killed=0)

NONE = Mode(Rotation.NONE)
NONE_FRESH = Mode(Rotation.NONE, fresh=True)
IDEMPOTENT = Mode(Rotation.IDEMPOTENT)
UNTIL_USED = Mode(Rotation.UNTIL_SUCCESSOR_USED)
STRICT = Mode(Rotation.STRICT)
STRICT_WITHOUT_PENALTY = Mode(Rotation.STRICT, penalty=False)


def grace(seconds: int) -> Mode:
    """A provider with a replay window."""
    return Mode(Rotation.GRACE, seconds * SECOND)


WORLDS = {
    "none": Setting(NONE, ANY_TWO, rounds=1, forgiving=True),
    "none, with new tokens": Setting(NONE_FRESH, MOST_TWO, rounds=1, forgiving=True),
    "idempotent": Setting(IDEMPOTENT, ANY_TWO, forgiving=True),
    "until successor used": Setting(UNTIL_USED, MOST_TWO, forgiving=True),
    "grace": Setting(grace(1800), MOST_TWO._replace(asked=0, unsure=0, disk=0), forgiving=True),
    "strict": Setting(STRICT, ANY_TWO),
    "strict, without penalty": Setting(STRICT_WITHOUT_PENALTY, ANY_TWO),
}
"""What every run of the tests explores to the end."""
NARROW = {
    f"{window} s": Setting(grace(window), Faults(1, crash=1, lost=1), forgiving=True, shares=(0.0, 1.0))
    for window in (10, 30, 42, 60)
}
"""Windows hardly longer than a lease: one crash or one lost answer must still fit."""
