"""kombu 5.7.0 and Celery 5.7.0 trip over what a lost connection leaves behind; our guards have them go on."""

from __future__ import annotations

import os
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool
from kombu import Connection
from kombu.asynchronous import Hub
from kombu.transport.redis import Channel

from worker import broker_guard, pool_guard


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


def _watched_again_after_its_death(process: Any) -> None:
    """Have an event loop watch a pool process, notice its death, and watch it again as after a lost connection."""
    hub = Hub()
    pool: Any = AsynPool.__new__(AsynPool)
    pool._track_child_process(process, hub)
    assert process._sentinel_poll in hub.readers
    pool._untrack_child_process(process, hub)
    pool._track_child_process(process, hub)
    assert not hub.readers
    hub.close()


@pytest.fixture
def process() -> Any:
    """What a pool process is to the loop: something with an end that can be read."""
    reading, writing = os.pipe()
    yield SimpleNamespace(_popen=SimpleNamespace(sentinel=reading))
    os.close(reading)
    os.close(writing)


def test_a_process_that_died_meanwhile_does_not_end_its_worker(process: Any) -> None:
    pool_guard.install()
    _watched_again_after_its_death(process)


@pytest.mark.skipif(version("celery") != pool_guard.AFFECTED, reason="only this version needs the guard")
def test_without_the_guard_it_does(process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the guard has become needless: remove it."""
    monkeypatch.setattr(AsynPool, pool_guard.METHOD, pool_guard._unguarded)
    with pytest.raises(ValueError, match="file descriptor is None"):
        _watched_again_after_its_death(process)
