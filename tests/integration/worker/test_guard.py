"""kombu 5.7.0 trips over a channel whose connection is gone; our guard turns that into what Celery expects there."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from kombu import Connection
from kombu.transport.redis import Channel

from worker import broker_guard


def _late_reply_on_a_closed_connection(redis_url: str) -> tuple[BaseException, tuple[type[BaseException], ...]]:
    """Close a connection as a worker does when it lost it, then acknowledge a message that came over it."""
    connection = Connection(redis_url)
    channel: Any = connection.channel()
    connection.collect(socket_timeout=1.0)
    connection.close()
    with pytest.raises(Exception) as met:  # noqa: PT011  # which one it is, is what the tests ask
        channel.basic_ack("a message's tag")
    return met.value, connection.connection_errors


def test_with_the_guard_it_is_a_connection_error(redis_url: str) -> None:
    broker_guard.install()
    met, connection_errors = _late_reply_on_a_closed_connection(redis_url)
    assert isinstance(met, connection_errors)


@pytest.mark.skipif(version("kombu") != broker_guard.AFFECTED, reason="only this version needs the guard")
def test_without_the_guard_it_is_what_nobody_expects(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the guard has become needless: remove it."""
    monkeypatch.setattr(Channel, broker_guard.METHOD, broker_guard._unguarded)
    met, connection_errors = _late_reply_on_a_closed_connection(redis_url)
    assert not isinstance(met, connection_errors)
    assert isinstance(met, AttributeError)
