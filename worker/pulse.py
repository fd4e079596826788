"""The pulse: a thread in every worker's main process that looks for due rows without waiting to be told.

It rings when something is due. When what is due stays due although it rang — Redis away, a message lost, a pool that
is stuck — it refreshes in a process of its own, so that no part of the queue can keep a token from being refreshed.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from typing import Any

import structlog
from celery import signals

from vault import Maintenance, RefreshScan, VaultError

log = structlog.get_logger(__name__)

PATIENCE_SCANS = 3
"""After so many scan intervals of lateness the pulse helps itself."""
HELP_LIMIT_S = 120


class Pulse(threading.Thread):
    """Beats once in a scan interval until stopped."""

    def __init__(self, maintenance: Maintenance) -> None:
        super().__init__(name="evergrant-pulse", daemon=True)
        self._maintenance = maintenance
        self._interval = maintenance.settings.scan_interval_s
        self._stopped = threading.Event()
        self._helper: subprocess.Popen[bytes] | None = None
        self._helper_started = 0.0

    def run(self) -> None:
        """Beat; whatever goes wrong is told and the next beat comes."""
        while not self._stopped.wait(self._interval * random.uniform(0.8, 1.2)):  # noqa: S311  # spreads the beats of many workers
            try:
                self.beat()
            except VaultError as error:
                log.warning("pulse.missed", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001  # the last one who looks must not be silenced by a defect
                log.error("pulse.failed", error=type(error).__name__)

    def beat(self) -> None:
        """Look once, and ring or help if something is due."""
        self._look_after_helper()
        overdue = self._maintenance.overdue()
        if not overdue.rows:
            return
        self._maintenance.ring(RefreshScan())
        late = overdue.late.total_seconds()
        if late > PATIENCE_SCANS * self._interval and self._helper is None:
            log.warning("pulse.helps_itself", rows=overdue.rows, late_seconds=round(late, 1))
            self._helper = subprocess.Popen(
                [sys.executable, "-m", "vault.cli", "--json", "refresh", "--due"], stdout=subprocess.DEVNULL
            )
            self._helper_started = time.monotonic()

    def _look_after_helper(self) -> None:
        helper = self._helper
        if helper is None:
            return
        if helper.poll() is not None:
            self._helper = None
        elif time.monotonic() - self._helper_started > HELP_LIMIT_S:
            helper.kill()

    def stop(self) -> None:
        """End; a helper at work may finish what is in flight."""
        self._stopped.set()


class _Main:
    """The pulse of this main process."""

    pulse: Pulse | None = None


@signals.worker_ready.connect
def start(**_: Any) -> None:
    """Begin to beat once the worker is up."""
    _Main.pulse = Pulse(Maintenance.from_env())
    _Main.pulse.start()


@signals.worker_shutting_down.connect
def stop(**_: Any) -> None:
    """Stop beating."""
    if _Main.pulse is not None:
        _Main.pulse.stop()
