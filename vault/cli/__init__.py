"""The ``evergrant`` command: everything a worker does, at an operator's word, and a look at what is there.

Exit codes: 0 done; 1 it could not be done, and the message says why; 2 the command or the settings are wrong; 3
health is degraded.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import structlog

from vault import ConfigurationError, VaultError
from vault.cli import (
    api_keys,
    audit,
    clients,
    connections,
    credentials,
    events,
    keys,
    migration,
    providers,
    serving,
    sessions,
    standing,
    storing,
    system,
)
from vault.cli.output import Output
from vault.cli.standing import EXIT_DEGRADED

__all__ = ["EXIT_DEGRADED", "EXIT_FAILED", "EXIT_USAGE", "main"]

EXIT_FAILED, EXIT_USAGE = 1, 2


class _Command(click.Group):
    """Turns our errors into one readable message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(str(error), err=True)
            ctx.exit(EXIT_USAGE)
        except VaultError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            ctx.exit(EXIT_FAILED)


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.version_option(package_name="evergrant")
@click.pass_context
def main(ctx: click.Context, *, as_json: bool) -> None:
    """Keep other people's credentials alive and safe.

    Settings come from VAULT_* in the environment; docs/configuration.md lists them.
    """
    structlog.configure(logger_factory=_log_to_stderr)  # what a command prints may be read by a machine
    ctx.obj = Output(as_json=as_json)


def _log_to_stderr(*_: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(sys.stderr)


for command in (
    connections.list_, connections.show, connections.get, connections.refresh,
    credentials.credential, storing.put, credentials.expiring,
    clients.client, providers.providers, sessions.session, api_keys.api_key,
    events.event, events.endpoint,
    keys.rotate, keys.rewrap, keys.keys, keys.kek, keys.keyring,
    migration.migrate, audit.audit,
    standing.stats, standing.health,
    serving.serve,
    system.db, system.check, system.metrics, system.cleanup,
):  # fmt: skip
    main.add_command(command)
