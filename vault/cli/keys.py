"""Commands about keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.table import Column, Table

from vault import Keys, Maintenance, Progress
from vault.cli.output import Output


@click.command()
@click.option("--older-than-days", type=float, help="Age of data keys to replace; default VAULT_DATA_KEY_MAX_AGE_DAYS.")
@click.pass_obj
def rotate(output: Output, older_than_days: float | None) -> None:
    """Replace data keys past their age and re-seal what stands under replaced ones."""
    age = None if older_than_days is None else timedelta(days=older_than_days)
    maintenance = Maintenance.from_env()
    with output.progress("rotating") as step:
        replaced = maintenance.rotate_data_keys(age, step)
    left = maintenance.keys.under_replaced_data_keys()
    _result(output, {"data_keys_replaced": replaced, "rows_left": left}, step.last)


@click.command()
@click.pass_obj
def rewrap(output: Output) -> None:
    """Wrap every tenant key under the master key in use: after it was rotated or replaced."""
    maintenance = Maintenance.from_env()
    with output.progress("rewrapping") as step:
        rewrapped = maintenance.rewrap(step)
    left = maintenance.keys.under_former_keks()
    facts = {"tenant_keys_rewrapped": rewrapped, "tenant_keys_left": left, "master_key": maintenance.check()}
    _result(output, facts, step.last)


def _result(output: Output, facts: Mapping[str, object], done: Progress) -> None:
    """Say what came of a run; exit code 1 when it had to leave something as it was."""
    undone = {name: number for name, number in done._asdict().items() if name in ("cannot_open", "refused") and number}
    output.facts({**facts, **undone})
    if undone:
        raise click.exceptions.Exit(1)


@click.group(invoke_without_command=True)
@click.pass_context
def keys(ctx: click.Context) -> None:
    """Count keys and sealed values by method, version and master key; reads every row.

    The commands below end keys: none is destroyed that anybody could still need.
    """
    if ctx.invoked_subcommand is None:
        _count(ctx.obj)


def _count(output: Output) -> None:
    found = _keys().counts()
    if output.as_json:
        output.document([each._asdict() for each in found])
        return
    table = Table("what", "method", "version", "under", Column("number", justify="right"))
    for what, method, version, under, number in found:
        table.add_row(what, method, version, under, f"{number:,}")
    output.console.print(table)


@keys.command("rotate-tenant-keys")
@click.option("--older-than-days", type=float, default=0.0, show_default=True, help="Only tenant keys of this age.")
@click.pass_obj
def rotate_tenant_keys(output: Output, older_than_days: float) -> None:
    """Replace tenant keys, and rewrap the data keys that stand under replaced ones."""
    maintenance = Maintenance.from_env()
    with output.progress("rotating tenant keys") as step:
        replaced = maintenance.rotate_tenant_keys(timedelta(days=older_than_days), step)
    left = maintenance.keys.under_replaced_tenant_keys()
    _result(output, {"tenant_keys_replaced": replaced, "data_keys_left": left}, step.last)


@keys.command()
@click.pass_obj
def verify(output: Output) -> None:
    """Open every sealed value once; exit code 1 when one does not open."""
    with output.progress("opening") as step:
        found = _keys().verify(step)
    output.facts({"opened": found.opened, "cannot_open": found.cannot_open, "refused": found.refused})
    if not found.passed:
        raise click.exceptions.Exit(1)


@keys.command()
@click.option(
    "--oldest-backup",
    type=click.DateTime(),
    required=True,
    metavar="UTC",
    help="When the oldest backup was made that could still be restored.",
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.pass_obj
def destroy(output: Output, oldest_backup: datetime, *, dry_run: bool) -> None:
    """Destroy keys that nothing refers to, no backup needs, and without which every value was opened."""
    found = _keys().destroy(oldest_backup.replace(tzinfo=UTC), dry_run=dry_run)
    output.facts({"data_keys": found.data_keys, "tenant_keys": found.tenant_keys})


@keys.command()
@click.option("--owner", help="Everything of this owner.")
@click.option("--whole-tenant", is_flag=True, help="Everything of the tenant.")
@click.option("--tenant", help="Default VAULT_TENANT.")
@click.confirmation_option(prompt="What is shredded nobody can read again. Go on?")
@click.pass_obj
def shred(output: Output, owner: str | None, tenant: str | None, *, whole_tenant: bool) -> None:
    """Destroy the keys of an owner or of a tenant, and all that stands under them.

    Providers are not told: disconnect first what they shall forget too. What a backup holds can be read with the keys
    it holds until it is gone; rotate tenant keys and destroy the old ones to shorten that.
    """
    if whole_tenant == (owner is not None):
        raise click.UsageError("name an owner, or say --whole-tenant")
    found = _keys().shred_tenant(tenant) if owner is None else _keys().shred_owner(owner, tenant)
    output.facts(found._asdict())


@click.group()
def kek() -> None:
    """Look after the master keys that tenants bring along."""


@kek.command("list")
@click.pass_obj
def kek_list(output: Output) -> None:
    """List which tenants brought which master key."""
    found = _keys().tenant_keks()
    if output.as_json:
        output.document([each._asdict() for each in found])
        return
    table = Table("tenant", "master key", "before")
    for tenant, uri, former in found:
        table.add_row(tenant, uri or "as everybody", ", ".join(each or "as everybody" for each in former) or "-")
    output.console.print(table)


@kek.command("set")
@click.argument("tenant")
@click.argument("uri")
@click.pass_obj
def kek_set(output: Output, tenant: str, uri: str) -> None:
    """Test the master key at URI, let TENANT's keys be wrapped by it, and rewrap those there are."""
    output.facts({"tenant": tenant, "master_key": _keys().set_tenant_kek(tenant, uri)})


@kek.command("test")
@click.argument("uri")
@click.option("--tenant", help="Default VAULT_TENANT.")
@click.pass_obj
def kek_test(output: Output, uri: str, tenant: str | None) -> None:
    """Have the master key at URI wrap and unwrap a key made for the occasion; nothing is changed."""
    output.facts({"master_key": _keys().test_kek(uri, tenant)})


@kek.command("remove")
@click.argument("tenant")
@click.pass_obj
def kek_remove(output: Output, tenant: str) -> None:
    """Have TENANT's keys wrapped as everybody's again."""
    output.facts({"tenant": tenant, "master_key": _keys().set_tenant_kek(tenant, None)})


@click.group()
def keyring() -> None:
    """Look after a local keyring file, when VAULT_KEK_URI is one."""


@keyring.command("list")
@click.pass_obj
def keyring_list(output: Output) -> None:
    """List the master keys in the file, without the keys themselves."""
    found = _keys().local_keks()
    output.facts({name: "in use" if in_use else "unwraps only" for name, in_use in found.items()})


@keyring.command("add")
@click.argument("name")
@click.option("--use", is_flag=True, help="Let it wrap from now on; then run 'evergrant rewrap'.")
@click.pass_obj
def keyring_add(output: Output, name: str, *, use: bool) -> None:
    """Add a fresh master key."""
    output.facts({"added": name, "in_use": _keys().add_local_kek(name, use=use)})


@keyring.command("use")
@click.argument("name")
@click.pass_obj
def keyring_use(output: Output, name: str) -> None:
    """Let a master key of the file wrap from now on; then run 'evergrant rewrap'."""
    output.facts({"in_use": _keys().use_local_kek(name)})


@keyring.command("remove")
@click.argument("name")
@click.confirmation_option(prompt="Backups made under it cannot be restored any more. Go on?")
@click.pass_obj
def keyring_remove(output: Output, name: str) -> None:
    """Remove a master key that wraps nothing any more."""
    _keys().remove_local_kek(name)
    output.facts({"removed": name})


@keyring.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def keyring_backup(output: Output, file: Path) -> None:
    """Copy the keyring to FILE, readable by you alone; keep it apart from backups of the database."""
    _keys().back_up_keyring(file)
    output.facts({"backup": str(file)})


def _keys() -> Keys:
    return Maintenance.from_env().keys
