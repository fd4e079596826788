"""What several commands are given. No secret is ever an argument: others can read those."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from vault import Secret, Vault

file_type = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
utc = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"))
tenant_option = click.option("--tenant", help="Whose; default VAULT_TENANT.")
credential_argument = click.argument("credential_id", type=click.UUID)


def read_value(file: Path | None, prompt: str, *, exact: bool = False) -> Secret:
    """Return a secret: out of a file, asked for at a terminal, or from stdin.

    Args:
        file: Where it is; ``-``: stdin. None: it is asked for, or stdin when that is no terminal.
        prompt: What to ask for.
        exact: Every byte counts; otherwise white space around it is left out, as is a line's end.

    Raises ``click.UsageError``: there is nothing, or it cannot be read.
    """
    if file is not None and str(file) != "-":
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{file} cannot be read ({type(error).__name__})") from None
    elif file is None and sys.stdin.isatty():
        text = str(click.prompt(prompt, hide_input=True, confirmation_prompt=True))
    else:
        text = sys.stdin.read()
    text = text if exact else text.strip()
    if not text:
        raise click.UsageError(f"the {prompt.lower()} is empty")
    return Secret(text)


def words(pairs: Sequence[str], option: str, read: Callable[[str], Any] = str) -> dict[str, Any] | None:
    """Read NAME=VALUE pairs; None when there are none, so that what was there stays."""
    found = {}
    for pair in pairs:
        name, equals, word = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("write NAME=VALUE", param_hint=option)
        try:
            found[name] = read(word)
        except ValueError:
            raise click.BadParameter(f"{name}: write a number, true, false, null or text", param_hint=option) from None
    return found or None


def number(word: str) -> Any:
    """Read a number, true, false or null; everything else is text."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def hours(given: float | None) -> timedelta | None:
    """Return so many hours; None stays None."""
    return None if given is None else timedelta(hours=given)


def vault_of(tenant: str | None) -> Vault:
    """Return the vault of a tenant; None: the one the settings name."""
    vault = Vault.from_env()
    return vault if tenant is None else vault.for_tenant(tenant)
