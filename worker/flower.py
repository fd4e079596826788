"""Flower behind a password: ``python -m worker.flower`` shows workers, queues and tasks, and changes nothing.

Options come from ``FLOWER_*`` in the environment, as Flower documents them; what is not set is set safely here.
``celery -A worker flower`` starts Flower as it comes, whose ``/metrics`` asks nobody for a password.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from flower.views.monitor import Metrics  # type: ignore[import-untyped]  # Flower has no annotations
from tornado import web

from worker import app

DEFAULTS = {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_READ_ONLY": "true"}
AUTHENTICATION = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")


def main() -> None:
    """Check that there is a password, close the page that has none, and run Flower on our app."""
    if not any(os.environ.get(name) for name in AUTHENTICATION):
        click.echo(
            "Flower needs a password: set FLOWER_BASIC_AUTH=user:password (or FLOWER_AUTH, see its docs)", err=True
        )
        sys.exit(2)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    protected: Any = web.authenticated(Metrics.get)
    Metrics.get = protected
    app.start(["flower"])


if __name__ == "__main__":
    main()
