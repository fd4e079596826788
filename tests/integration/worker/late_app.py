"""The real worker with one task more, which is acknowledged late; and without the guard, if it is told so."""

from __future__ import annotations

import logging
import os
import time

from kombu.transport.redis import Channel

from worker import app, broker_guard

log = logging.getLogger(__name__)

if os.environ.get("UNGUARDED"):
    setattr(Channel, broker_guard.METHOD, broker_guard._unguarded)


@app.task(name="late.work", acks_late=True)
def work(seconds: float) -> None:
    """Take so long, with the message unacknowledged."""
    log.warning("late.work began")
    time.sleep(seconds)  # this is the work
    log.warning("late.work ended")


__all__ = ["app"]
