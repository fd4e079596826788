"""A sign of life: each worker keeps a file beside the spool, for probes to look at.

Its pulse renews the file with every beat, also while PostgreSQL or Redis is away: neither comes back sooner because a
worker is restarted. A worker is ready once it has reached the queue, and not any more when it was told to end.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import signals

from vault import Settings

log = structlog.get_logger(__name__)

SILENCE_S = 60.0
"""Beyond two scan intervals a beat may take so long: while PostgreSQL does not answer, until its time-outs."""
STARTING, READY = "starting", "ready"


class Sign:
    """The file of one worker."""

    def __init__(self, settings: Settings, node: str) -> None:
        self._file = settings.spool_path / "workers" / node
        self.node = node
        self.patience_s = 2 * settings.scan_interval_s + SILENCE_S
        """After so long without a sign it counts as dead."""

    def say(self, state: str) -> None:
        """Write down a state; a disk that is full is no reason to stop working."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.write_text(state)
        except OSError as error:
            log.warning("probe.unwritable", error=type(error).__name__)

    def alive(self) -> None:
        """Renew the file."""
        try:
            self._file.touch()
        except OSError:
            self.say(STARTING)

    def remove(self) -> None:
        """The worker ends."""
        self._file.unlink(missing_ok=True)

    def is_live(self, now: float) -> bool:
        """Whether the file was renewed lately, by the wall clock."""
        try:
            return now - self._file.stat().st_mtime < self.patience_s
        except OSError:
            return False

    def is_ready(self, now: float) -> bool:
        """Whether it is live and has reached the queue."""
        return self.is_live(now) and self._file.read_text() == READY


@signals.worker_init.connect
def starting(sender: Any, **_: Any) -> None:
    """A new life begins."""
    Sign(Settings.load(), sender.hostname).say(STARTING)


@signals.worker_ready.connect
def ready(sender: Any, **_: Any) -> None:
    """The queue was reached."""
    Sign(Settings.load(), sender.hostname).say(READY)


@signals.worker_shutting_down.connect
def ending(sender: str, **_: Any) -> None:
    """No more work is taken."""
    Sign(Settings.load(), sender).say(STARTING)


@signals.worker_shutdown.connect
def ended(sender: Any, **_: Any) -> None:
    """It is over."""
    Sign(Settings.load(), sender.hostname).remove()
