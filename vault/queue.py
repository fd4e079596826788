"""The doorbell: Celery messages that say "look at the database".

A thread of its own sends them, with short time-outs, so that nobody waits for Redis and a frozen Redis costs nobody
more than the fifth of a second that ``flush`` grants. Losing one costs latency; the scan finds the row.
"""

from __future__ import annotations

import threading
from queue import Full, Queue
from typing import Any
from urllib.parse import urlsplit

from vault.errors import QueueUnavailable
from vault.forks import in_children
from vault.metrics import doorbells
from vault.secret import Secret

TIMEOUT_S = 2.0
PATIENCE_S = 0.2
WAITING = 1024
"""Messages waiting to be sent; more are dropped, since each says the same."""

_Message = tuple[str, str, str | None]


class CeleryDoorbell:
    """``Doorbell`` through Celery on Redis; nothing is opened before the first ring, nor kept across a fork."""

    def __init__(self, redis_url: Secret) -> None:
        self._url = redis_url
        self.where = _where(redis_url.reveal())
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._started = False

    def ring(self, task: str, lane: str, argument: str | None) -> None:
        """See ``Doorbell.ring``."""
        self._start()
        try:
            self._waiting.put_nowait((task, lane, argument))
        except Full:
            doorbells.labels("dropped").inc()

    def flush(self) -> None:
        """See ``Doorbell.flush``."""
        self._start()
        with self._waiting.all_tasks_done:
            self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, PATIENCE_S)

    def check(self) -> None:
        """See ``Doorbell.check``."""
        import redis

        client = redis.Redis.from_url(
            self._url.reveal(), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None
        )
        try:
            client.ping()
        except redis.RedisError as error:
            raise QueueUnavailable(self.where, type(error).__name__) from None
        finally:
            client.close()

    def policy(self) -> str | None:
        """Say what of the server's settings could lose messages; None: nothing. Raises ``QueueUnavailable``.

        Losing one costs a scan interval and never a grant, so this is a word to the operator.
        """
        import redis

        client = redis.Redis.from_url(
            self._url.reveal(), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None
        )
        try:
            found = client.info("memory")
        except redis.RedisError as error:
            raise QueueUnavailable(self.where, type(error).__name__) from None
        finally:
            client.close()
        policy = found.get("maxmemory_policy", "noeviction")
        if policy == "noeviction" or not found.get("maxmemory"):
            return None
        return f"when memory is short it evicts messages ({policy}): set maxmemory-policy noeviction"

    def _start(self) -> None:
        if self._started:
            return
        with self._lock:
            if self._started:
                return
            self._waiting: Queue[_Message] = Queue(WAITING)
            threading.Thread(
                target=self._send_all, args=(self._waiting,), name="evergrant-doorbell", daemon=True
            ).start()
            self._started = True

    def _send_all(self, waiting: Queue[_Message]) -> None:
        app = _producer(self._url)
        while True:
            message = waiting.get()
            try:
                _send(app, *message)
                doorbells.labels("sent").inc()
            except Exception:  # noqa: BLE001  # whatever the broker's client raises, the scan finds the row
                doorbells.labels("failed").inc()
            finally:
                waiting.task_done()


def _producer(redis_url: Secret) -> Any:
    """Make a Celery app that only sends. Importing Celery costs a quarter of a second: the first ring pays it."""
    from celery import Celery

    app = Celery("evergrant-doorbell", broker=redis_url.reveal(), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        broker_connection_timeout=TIMEOUT_S,
        broker_transport_options={
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "socket_keepalive": True,
            "max_retries": 1,
            "retry_on_timeout": False,
        },
    )
    return app


def _send(app: Any, task: str, lane: str, argument: str | None) -> None:
    arguments = [] if argument is None else [argument]
    app.send_task(task, args=arguments, queue=lane, ignore_result=True, retry=False)


def _where(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or parts.path or 'localhost'}:{parts.port or 6379}"
