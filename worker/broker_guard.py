"""Keeps a worker of kombu 5.7.0 alive when its Redis connection drops while a message is unacknowledged.

That version closes a channel whose connection is gone and reads ``hostname`` of nothing; the AttributeError ends the
worker. As a connection error it is what Celery expects at that place, and reconnects from.
"""

from __future__ import annotations

from typing import Any

import kombu
import redis
from kombu.transport.redis import Channel

AFFECTED = "5.7.0"


def install() -> None:
    """Guard the affected version; others are left alone."""
    if kombu.__version__ != AFFECTED or getattr(Channel._connparams, "guarded", False):
        return
    unguarded = Channel._connparams

    def guarded(channel: Channel, *args: Any, **kwargs: Any) -> Any:
        if channel.connection.client is None:
            raise redis.exceptions.ConnectionError("the connection of this channel is closed")
        return unguarded(channel, *args, **kwargs)

    guarded.guarded = True  # type: ignore[attr-defined]  # a mark for the next call
    Channel._connparams = guarded
