"""The ``celery`` command with a clock that is an hour slow, for what Celery works out from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from celery.__main__ import main

_now = Celery.now


def _an_hour_ago(app: Any) -> datetime:
    return _now(app) - timedelta(hours=1)


setattr(Celery, "now", _an_hour_ago)  # noqa: B010  # an assignment is what mypy forbids

if __name__ == "__main__":
    main()
