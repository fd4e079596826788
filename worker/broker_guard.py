"""Keeps a worker of kombu 5.7.0 alive when its Redis connection drops while a message is unacknowledged.

That version closes a channel whose connection is gone and reads ``hostname`` of nothing; the AttributeError ends the
worker. As a connection error it is what Celery expects at that place, and reconnects from.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import redis
from kombu.transport.redis import Channel

AFFECTED = "5.7.0"


METHOD = "_connparams"
_unguarded = getattr(Channel, METHOD)


def _guarded(channel: Channel, *args: Any, **kwargs: Any) -> Any:
    if channel.connection.client is None:
        raise redis.exceptions.ConnectionError("the connection of this channel is closed")
    return _unguarded(channel, *args, **kwargs)


def install() -> None:
    """Guard the affected version; others are left alone."""
    if version("kombu") == AFFECTED:
        setattr(Channel, METHOD, _guarded)
