"""What a forked child is spared."""

from __future__ import annotations

import gc
import os
import weakref

from vault.forks import in_children


class Holder:
    """Counts the forks it was told of, in the process it is asked in."""

    def __init__(self) -> None:
        self.told = 0
        in_children(self.tell)

    def tell(self) -> None:
        self.told += 1


def _in_a_child(holder: Holder) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(holder.told)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_is_told_once_and_its_parent_is_not() -> None:
    holder = Holder()
    assert _in_a_child(holder) == 1
    assert holder.told == 0


def test_what_nobody_uses_any_more_is_not_kept_alive() -> None:
    gone, kept = Holder(), Holder()
    ended = weakref.ref(gone)
    del gone
    gc.collect()
    assert ended() is None
    assert _in_a_child(kept) == 1
