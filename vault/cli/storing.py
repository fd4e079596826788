"""Commands that keep credentials and replace their values."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from vault import Maintenance
from vault.cli.output import Output
from vault.cli.values import (
    credential_argument,
    file_type,
    hours,
    number,
    read_value,
    tenant_option,
    utc,
    vault_of,
    words,
)

_value_file = click.option("--file", "file", type=file_type, metavar="FILE", help="Read the value there; - is stdin.")
_KINDS = ("api-key", "basic-auth", "certificate", "webhook-secret", "secret")
_exact = click.option("--exact", is_flag=True, help="Keep white space around it, and the last line's end.")


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(_KINDS))
@tenant_option
@click.option("--owner", default="", help="Whose it is; empty: the whole tenant's.")
@click.option("--provider", default="", help="Whose door it opens.")
@click.option("--connection", type=click.UUID, help="For this connection.")
@click.option("--name", default="", help="What you call it.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="May be repeated.")
@click.option("--policy", metavar="NAME=NUMBER", multiple=True, help="A number of its own, such as max_age=30.")
@click.option("--ends", "expires_at", type=utc, help="When it ends by itself, in UTC.")
@click.option("--username", help="Of basic-auth; the password is read.")
@click.option("--key-file", type=file_type, metavar="FILE", help="Of certificate: its private key.")
@click.option("--style", type=click.Choice(["standard", "github", "stripe"]), default="standard", show_default=True,
              help="Of webhook-secret: which headers it signs.")  # fmt: skip
@click.option("--generate", is_flag=True, help="Of webhook-secret: make one.")
@_value_file
@_exact
@click.pass_obj
def store(
    output: Output, /, kind: str, tenant: str | None, tags: tuple[str, ...], policy: tuple[str, ...],
    expires_at: datetime | None, username: str | None, key_file: Path | None, style: str, file: Path | None,
    *, generate: bool, exact: bool, **given: Any,
) -> None:  # fmt: skip
    """Keep a new credential. Its value is asked for, or read from --file or stdin, and never an argument.

    KIND is api-key, basic-auth, certificate, webhook-secret or secret (any other text).
    """
    vault = vault_of(tenant)
    given["tags"], given["policy"] = words(tags, "--tag"), words(policy, "--policy", number)
    given["expires_at"] = None if expires_at is None else expires_at.replace(tzinfo=UTC)
    if (kind == "basic-auth") != (username is not None):
        raise click.UsageError("--username goes with basic-auth, which needs it")
    if (kind == "certificate") != (key_file is not None):
        raise click.UsageError("--key-file goes with certificate, which needs it")
    if generate and kind != "webhook-secret":
        raise click.UsageError("--generate goes with webhook-secret")
    value = None if generate else read_value(file, "Value", exact=exact)
    if kind == "basic-auth":
        output.facts(vault.store_basic_auth(username or "", value or "", **given)._asdict())
    elif kind == "certificate":
        key = read_value(key_file, "Private key")
        output.facts(vault.store_certificate(value or "", key, **given)._asdict())
    elif kind == "webhook-secret":
        output.facts({"id": vault.store_webhook_secret(value, style=style, **given)})
    elif kind == "api-key":
        output.facts({"id": vault.store_api_key(value or "", **given)})
    else:
        output.facts({"id": vault.store_secret(value or "", **given)})


@click.command()
@credential_argument
@tenant_option
@click.option("--expected-version", type=int, help="Only if this still is the current one.")
@click.option("--ends", "expires_at", type=utc, help="When the new value ends by itself, in UTC.")
@click.option("--overlap-hours", type=click.FloatRange(0), help="The one before works so long; default: its policy's.")
@click.option("--key-file", type=file_type, metavar="FILE", help="Of a certificate: its new private key.")
@_value_file
@_exact
@click.pass_obj
def put(
    output: Output, credential_id: UUID, tenant: str | None, expected_version: int | None,
    expires_at: datetime | None, overlap_hours: float | None, key_file: Path | None, file: Path | None,
    *, exact: bool,
) -> None:  # fmt: skip
    """Replace the value of a credential: asked for, or read from --file or stdin. The one before is kept."""
    vault, value = vault_of(tenant), read_value(file, "Value", exact=exact)
    if key_file is not None:
        key = read_value(key_file, "Private key")
        version = vault.put_certificate(credential_id, value, key, expected_version=expected_version)
    else:
        version = vault.put(
            credential_id, value, expected_version=expected_version, overlap=hours(overlap_hours),
            expires_at=None if expires_at is None else expires_at.replace(tzinfo=UTC),
        )  # fmt: skip
    output.facts({"id": credential_id, "version": version})


@click.command("roll-back")
@credential_argument
@tenant_option
@click.option("--to", "to_version", type=int, help="Which version; default the one before.")
@click.pass_obj
def roll_back(output: Output, credential_id: UUID, tenant: str | None, to_version: int | None) -> None:
    """Make an earlier value current again, as a new version."""
    output.facts({"id": credential_id, "version": vault_of(tenant).roll_back(credential_id, to_version=to_version)})


@click.command()
@credential_argument
@tenant_option
@click.option("--name", help="Another name.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="In the place of all there are.")
@click.option("--policy", metavar="NAME=NUMBER", multiple=True, help="In the place of its own numbers.")
@click.pass_obj
def change(
    output: Output, credential_id: UUID, tenant: str | None, name: str | None, tags: tuple[str, ...],
    policy: tuple[str, ...],
) -> None:  # fmt: skip
    """Give a credential another name, other tags, or numbers of its own."""
    vault_of(tenant).change_credential(
        credential_id, name=name, tags=words(tags, "--tag"), policy=words(policy, "--policy", number)
    )
    output.facts({"id": credential_id, "state": "changed"})


@click.command()
@click.argument("credential_id", type=click.UUID, required=False)
@tenant_option
@click.option("--due", is_flag=True, help="Everything that is due, in this very process.")
@click.option("--given", is_flag=True, help="Take a new value that somebody has made, read from --file or stdin.")
@click.option("--overlap-hours", type=click.FloatRange(0), help="The value before works so long; 0: it has leaked.")
@click.option("--force", is_flag=True, help="Also while the value before the current one works, which then ends.")
@_value_file
@click.pass_obj
def rotate(
    output: Output, credential_id: UUID | None, tenant: str | None, overlap_hours: float | None, file: Path | None,
    *, due: bool, given: bool, force: bool,
) -> None:  # fmt: skip
    """Have workers rotate a credential by its rotator; or, with --due, do here what they would."""
    if due == (credential_id is not None):
        raise click.UsageError("name a credential, or say --due")
    if credential_id is None:
        with output.progress("rotating"):
            output.facts({"steps": Maintenance.from_env().rotate_credentials()})
        return
    value = read_value(file, "New value") if given or file is not None else None
    rotation = vault_of(tenant).rotate(credential_id, value=value, overlap=hours(overlap_hours), force=force)
    output.facts({"id": credential_id, "rotation": rotation})
