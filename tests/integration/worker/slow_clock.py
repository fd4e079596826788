"""The ``celery`` command with a clock that is an hour slow, for what Celery works out from it."""

from __future__ import annotations

from datetime import datetime, timedelta

from celery import Celery
from celery.__main__ import main

_now = Celery.now


def _an_hour_ago(app: Celery) -> datetime:
    return _now(app) - timedelta(hours=1)


Celery.now = _an_hour_ago  # type: ignore[method-assign]  # the clock is what this is about

if __name__ == "__main__":
    main()
