"""A place that takes an API key, kept in a file: what it accepts, and for which request each key was made."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

from vault import RotationFailed, RotationRequest, Secret

PATH = "EVERGRANT_TEST_FAR_SIDE"
"""Names the file, in the environment of whoever rotates."""
FIRST = "key-0"
STEPS = ["create", "set", "test", "finish", "retire"]
SCHEMA = """
CREATE TABLE accepted (key TEXT PRIMARY KEY, request TEXT UNIQUE);
CREATE TABLE trouble (step TEXT PRIMARY KEY, permanent INTEGER);
CREATE TABLE calls (step TEXT, request TEXT);
"""


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(os.environ[PATH], isolation_level=None, timeout=30)) as connection:
        yield connection


def begin() -> None:
    """Accept the first key."""
    with _open() as there:
        there.executescript(SCHEMA)
    accept(FIRST)


def accept(key: str) -> None:
    """Accept one more."""
    with _open() as there:
        there.execute("INSERT OR IGNORE INTO accepted VALUES (?, NULL)", (key,))


def accepted() -> set[str]:
    """Every key that works."""
    with _open() as there:
        return {key for (key,) in there.execute("SELECT key FROM accepted")}


def calls() -> list[str]:
    """The steps that were asked for, in order."""
    with _open() as there:
        return [step for (step,) in there.execute("SELECT step FROM calls ORDER BY rowid")]


def trouble(step: str, *, permanent: bool) -> None:
    """Fail at a step from now on."""
    with _open() as there:
        there.execute("INSERT OR REPLACE INTO trouble VALUES (?, ?)", (step, permanent))


def recover() -> None:
    """Fail no more."""
    with _open() as there:
        there.execute("DELETE FROM trouble")


class FarSide:
    """A ``Rotator`` for it, found as those of installed packages are."""

    def create(self, request: RotationRequest, current: Secret) -> Secret:
        """Make a key, once for each request."""
        self._called("create", request)
        assert current.reveal() in accepted(), "one works until the end"
        with _open() as there:
            made = (f"key-{uuid4()}", str(request.id))
            there.execute("INSERT INTO accepted VALUES (?, ?) ON CONFLICT (request) DO NOTHING", made)
            [(key,)] = there.execute("SELECT key FROM accepted WHERE request = ?", (str(request.id),))
        return Secret(key)

    def set(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """Take a key that was brought along."""
        self._called("set", request)
        assert current.reveal() in accepted(), "one works until the end"
        with _open() as there:
            there.execute("INSERT OR IGNORE INTO accepted VALUES (?, ?)", (new.reveal(), str(request.id)))

    def test(self, request: RotationRequest, new: Secret) -> None:
        """Try it."""
        self._called("test", request)
        if new.reveal() not in accepted():
            raise RotationFailed("not accepted", permanent=True)

    def finish(self, request: RotationRequest, new: Secret, old: Secret) -> None:
        """Both work now."""
        self._called("finish", request)
        assert {new.reveal(), old.reveal()} <= accepted()

    def retire(self, request: RotationRequest, old: Secret) -> None:
        """Forget the old one."""
        self._called("retire", request)
        self._remove(old)

    def undo(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """Forget the new one."""
        self._called("undo", request)
        assert current.reveal() in accepted()
        self._remove(new)

    @staticmethod
    def _remove(key: Secret) -> None:
        with _open() as there:
            there.execute("DELETE FROM accepted WHERE key = ?", (key.reveal(),))

    @staticmethod
    def _called(step: str, request: RotationRequest) -> None:
        with _open() as there:
            there.execute("INSERT INTO calls VALUES (?, ?)", (step, str(request.id)))
            found = there.execute("SELECT permanent FROM trouble WHERE step = ?", (step,)).fetchone()
        if found is not None:
            raise RotationFailed("out of order", permanent=bool(found[0]))
