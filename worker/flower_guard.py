"""Makes ``celery -A worker flower`` safe as it comes: on localhost, behind a password, unable to change anything.

Flower's own defaults are every address, no password, and a ``/metrics`` that never asks for one. Options given on the
command line or as ``FLOWER_*`` count as Flower documents them; only a password there must be.
"""

from __future__ import annotations

import sys
from typing import Any

import click

LOADED = "flower.command"


def install() -> None:
    """Guard Flower, if this is a process into which the ``celery`` command has loaded it."""
    command: Any = sys.modules.get(LOADED)
    if command is not None:
        _guard(command)


def _guard(command: Any) -> None:
    from flower.views.monitor import Metrics  # type: ignore[import-untyped]  # Flower has no annotations
    from tornado.web import authenticated

    options, apply = command.options, command.apply_options
    options.address, options.read_only = "127.0.0.1", True
    page: Any = authenticated(Metrics.get)
    Metrics.get = page

    def apply_and_check(program: str, arguments: Any) -> None:
        apply(program, arguments)
        if not (any(options.basic_auth or ()) or options.auth):
            click.echo(
                "Flower needs a password: set FLOWER_BASIC_AUTH=user:password (or FLOWER_AUTH, see its docs)", err=True
            )
            sys.exit(2)

    command.apply_options = apply_and_check
