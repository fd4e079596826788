"""The pulse: a thread in every worker's main process that looks for due rows without waiting to be told.

It rings when something is due. When what is due stays due although it rang — Redis away, a message lost, a pool that
is stuck — it refreshes in a process of its own, so that no part of the queue can keep a token from being refreshed.
It begins before the worker has reached Redis, and has connections to PostgreSQL of its own, which no child touches.
Each beat is also a sign of life, in the database and beside the spool.
"""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta
from typing import Any

import structlog
from celery import bootsteps

from vault import Deliver, Maintenance, RefreshScan, VaultError
from worker.app import app
from worker.helper import Helper
from worker.sign import Sign
from worker.watch import Watch

log = structlog.get_logger(__name__)


class Pulse(threading.Thread):
    """Beats once in a scan interval until stopped."""

    def __init__(self, maintenance: Maintenance, sign: Sign) -> None:
        super().__init__(name="evergrant-pulse", daemon=True)
        self._maintenance = maintenance
        self._interval = maintenance.settings.scan_interval_s
        self._watch = Watch(self._interval)
        self._events = Watch(maintenance.settings.events_interval_s)
        self._helper = Helper()
        self._sign = sign
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat; whatever goes wrong is told and the next beat comes."""
        while not self._stopped.wait(self._interval * random.uniform(0.8, 1.2)):  # noqa: S311  # spreads many workers
            try:
                self.beat()
            except VaultError as error:
                log.warning("pulse.missed", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001  # the last one who looks must not be silenced by a defect
                log.error("pulse.failed", error=type(error).__name__)  # a traceback shows locals

        try:
            self._maintenance.sign_off(self._sign.node)
        except VaultError as error:  # then it counts as alive for a minute more
            log.warning("pulse.not_signed_off", error=type(error).__name__)

    def beat(self) -> None:
        """Look once, and ring or help if something is due."""
        self._sign.alive()
        refreshed = self._helper.ended()
        if refreshed is not None:
            self._watch.helped(time.monotonic(), refreshed=refreshed)
        overdue = self._maintenance.overdue()
        late = overdue.late.total_seconds()
        advice = self._watch.look(time.monotonic(), overdue.rows, late)
        if advice.ring:
            self._maintenance.ring(RefreshScan())
        if advice.help and not self._helper.at_work:
            log.warning("pulse.helps_itself", rows=overdue.rows, late_seconds=round(late, 1))
            self._helper.start()
        waiting = self._maintenance.undelivered()
        if self._events.look(time.monotonic(), waiting.rows, waiting.late.total_seconds()).ring:
            self._maintenance.ring(Deliver())
        # Last, so that whatever is wrong with it keeps nothing from being refreshed.
        self._maintenance.sign_of_life(self._sign.node, timedelta(seconds=self._sign.patience_s))

    def stop(self) -> None:
        """End; a helper at work may finish what is in flight."""
        self._stopped.set()


class PulseStep(bootsteps.StartStopStep):
    """Has the pulse beat from when the pool's processes are forked until the worker ends."""

    requires = ("celery.worker.components:Pool",)
    pulse: Pulse | None = None

    def start(self, parent: Any) -> None:
        """Begin to beat."""
        maintenance = Maintenance.from_env()
        self.pulse = Pulse(maintenance, Sign(maintenance.settings, parent.hostname))
        self.pulse.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002  # Celery's signature
        """Stop beating."""
        if self.pulse is not None:
            self.pulse.stop()

    terminate = stop


app.steps["worker"].add(PulseStep)
