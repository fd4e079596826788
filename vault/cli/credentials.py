"""Commands about credentials of all nine kinds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import click
from rich.table import Column, Table

from vault import Credential, CredentialKind, Maintenance
from vault.cli.output import Output, shown
from vault.cli.storing import change, put, roll_back, rotate, store
from vault.cli.values import credential_argument, tenant_option, vault_of, words

_KINDS = click.Choice([str(each) for each in CredentialKind])
_ids = click.argument("credential_ids", type=click.UUID, nargs=-1, required=True)
_limit = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many."
)


@click.group()
def credential() -> None:
    """Look after API keys, passwords, certificates, webhook secrets, other text, and grants as credentials."""


# ------------------------------------------------------------------------------------------------------------- looking


@credential.command("list")
@tenant_option
@click.option("--owner", help="Only this owner's.")
@click.option("--provider", help="Only for this provider.")
@click.option("--connection", type=click.UUID, help="Only for this connection.")
@click.option("--kind", type=_KINDS, help="Only of this kind.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="Only with this tag; may be repeated.")
@click.option("--state", type=click.Choice(["active", "deleted", "destroyed", "any"]), default="active",
              show_default=True)  # fmt: skip
@click.option("--after", type=click.UUID, help="Go on after this id.")
@_limit
@click.pass_obj
def list_(output: Output, /, tenant: str | None, tags: tuple[str, ...], state: str, **wanted: Any) -> None:
    """List credentials, without their values."""
    found = vault_of(tenant).credentials(
        **wanted, tags=words(tags, "--tag"), state=None if state == "any" else state
    )  # fmt: skip
    _table(output, found)


@credential.command()
@credential_argument
@tenant_option
@click.pass_obj
def show(output: Output, credential_id: UUID, tenant: str | None) -> None:
    """Show a credential with its versions and the numbers of its policy, without values."""
    vault = vault_of(tenant)
    found, history = vault.describe_credential(credential_id), vault.history(credential_id)
    policy = vault.credential_policy(credential_id)
    facts = {**found._asdict(), "export_name": found.export_name}
    if output.as_json:
        facts["policy"] = policy._asdict()
        output.document({**facts, "versions": [each._asdict() for each in history]})
        return
    facts["policy"] = ", ".join(
        f"{name} {_short(getattr(policy, name))} ({source})" for name, source in policy.sources.items()
    )
    output.facts({name: value for name, value in facts.items() if value not in (None, "", {})})
    table = Table(Column("version", justify="right"), "stage", "fingerprint", "created", "works until", "ends")
    for each in history:
        fingerprint = (each.fingerprint or "-")[:16]
        table.add_row(str(each.version), each.stage, fingerprint, shown(each.created_at), shown(each.serves_until),
                      shown(each.expires_at))  # fmt: skip
    output.console.print(table)


@credential.command()
@credential_argument
@tenant_option
@click.option("--version", type=int, help="An earlier one; default the current.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--reveal", is_flag=True, help="Print the value itself; mind who looks on.")
@click.pass_obj
def get(
    output: Output, credential_id: UUID, tenant: str | None, version: int | None, reason: str, *, reveal: bool
) -> None:
    """Open a credential; the audit hears of it."""
    found = vault_of(tenant).credential(credential_id, version=version, reason=reason)
    value = found.value.reveal() if reveal else repr(found.value)
    if reveal and not output.as_json:
        click.echo(value)
        return
    output.facts({"id": found.credential.id, "version": found.version.version, "value": value})


@click.command()
@click.option("--days", type=click.FloatRange(0), default=30.0, show_default=True, help="Look so far ahead.")
@click.option("--aged", is_flag=True, help="Instead, what its policy wants rotated by now.")
@click.option("--tell", is_flag=True, help="Tell of everything near its end now, as workers do every hour.")
@tenant_option
@_limit
@click.pass_obj
def expiring(output: Output, days: float, tenant: str | None, limit: int, *, aged: bool, tell: bool) -> None:
    """List what ends soon, or has: credentials, and consents as their refresh tokens."""
    if tell:
        with output.progress("telling"):
            output.facts(Maintenance.from_env().expiry_scan()._asdict())
        return
    vault = vault_of(tenant)
    _table(output, vault.check_rotation_required(limit) if aged else vault.list_expiring(days, limit))


# -------------------------------------------------------------------------------------------------------------- ending


@credential.command()
@_ids
@tenant_option
@click.pass_obj
def delete(output: Output, credential_ids: tuple[UUID, ...], tenant: str | None) -> None:
    """Take credentials away from readers; each can be brought back while its policy says."""
    _ended(output, credential_ids, vault_of(tenant).delete_credentials(*credential_ids), "deleted")


@credential.command()
@credential_argument
@tenant_option
@click.pass_obj
def undelete(output: Output, credential_id: UUID, tenant: str | None) -> None:
    """Bring back a deleted credential."""
    vault_of(tenant).undelete_credential(credential_id)
    output.facts({"id": credential_id, "state": "active"})


@credential.command()
@_ids
@tenant_option
@click.option("--version", type=int, help="Only this former value, of one credential.")
@click.confirmation_option("--yes", prompt="Take the values away for good?", help="Do not ask.")
@click.pass_obj
def destroy(output: Output, credential_ids: tuple[UUID, ...], tenant: str | None, version: int | None) -> None:
    """Take values of credentials away for good."""
    vault = vault_of(tenant)
    if version is None:
        _ended(output, credential_ids, vault.destroy_credentials(*credential_ids), "destroyed")
        return
    if len(credential_ids) != 1:
        raise click.UsageError("--version is of one credential")
    vault.destroy_version(credential_ids[0], version)
    output.facts({"id": credential_ids[0], "version_destroyed": version})


def _ended(output: Output, asked: Sequence[UUID], done: set[UUID], state: str) -> None:
    """Say which were; exit code 1 when one of them was not there."""
    missing = [each for each in asked if each not in done]
    output.facts({state: sorted(done), **({"unknown": missing} if missing else {})})
    if missing:
        raise click.exceptions.Exit(1)


def _table(output: Output, found: Sequence[Credential]) -> None:
    if output.as_json:
        output.document([each._asdict() for each in found])
        return
    table = Table(Column("id", no_wrap=True), "kind", "owner", "provider", "name", "version", "ends", "rotate by")
    for each in found:
        table.add_row(str(each.id), each.kind, each.owner, each.provider, each.name, str(each.version),
                      shown(each.expires_at), shown(each.rotate_at))  # fmt: skip
    output.console.print(table)


def _short(value: object) -> str:
    return f"{value.total_seconds() / 86_400:g} d" if isinstance(value, timedelta) else shown(value)


for command in (expiring, put, store, roll_back, change, rotate):
    credential.add_command(command)
