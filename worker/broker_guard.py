"""Keeps kombu 5.7.0 from tripping over a channel whose connection to Redis is gone.

That version may be asked to acknowledge, reject or restore a message over a connection it has closed; it then looks for
the address of nothing, and an AttributeError reaches Celery's main loop, which ends the worker. As a connection error
it is what Celery expects at that place.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import redis
from kombu.transport.redis import Channel

AFFECTED = "5.7.0"
METHOD = "_connparams"
_unguarded = getattr(Channel, METHOD)


def _guarded(channel: Any, *args: Any, **kwargs: Any) -> Any:
    if channel.connection is None or channel.connection.client is None:
        raise redis.exceptions.ConnectionError("the connection of this channel is closed")
    return _unguarded(channel, *args, **kwargs)


def install() -> None:
    """Guard the affected version; others are left alone."""
    if version("kombu") == AFFECTED:
        setattr(Channel, METHOD, _guarded)
