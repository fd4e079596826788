"""Is this machine's worker alive, is it ready? ``python -m worker.probe live`` and ``… ready`` say so by exit code.

For an orchestrator: live fails when the worker's main process is dead or stuck, not when PostgreSQL or Redis is away.
"""

from __future__ import annotations

import sys
import time

import click
from celery.utils.nodenames import default_nodename, host_format

from vault import ConfigurationError, Settings
from worker.sign import Sign


@click.command()
@click.argument("question", type=click.Choice(["live", "ready"]))
@click.option("--hostname", "-n", default="", help="The worker's name, if it was given one.")
def main(question: str, hostname: str) -> None:
    """Exit with 0 if this machine's worker is live or ready, with 1 if not."""
    try:
        sign = Sign(Settings.load(), host_format(default_nodename(hostname)))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    holds = sign.is_live(time.time()) if question == "live" else sign.is_ready(time.time())
    click.echo(question if holds else f"not {question}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
