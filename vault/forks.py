"""What a forked child must not share with its parent: connections, threads, locks on files, keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod

_acts: list[WeakMethod[Callable[[], None]]] = []


def in_children(act: Callable[[], None]) -> None:
    """Call a bound method in every child this process forks, before anything else happens there.

    It is held weakly: what nobody else uses any more is forgotten.
    """
    _acts[:] = [known for known in _acts if known() is not None]
    _acts.append(WeakMethod(act))


def _in_child() -> None:
    for known in _acts:
        act = known()
        if act is not None:
            act()


os.register_at_fork(after_in_child=_in_child)
