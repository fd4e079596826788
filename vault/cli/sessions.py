"""Commands about sessions of your users."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.table import Column, Table

from vault import Subscription, UserSession
from vault.cli.output import Output, shown
from vault.cli.values import file_type, hours, read_value, tenant_option, vault_of, words


@click.group()
def session() -> None:
    """Look after sessions of your users."""


@session.command("list")
@tenant_option
@click.option("--user", "user_id", help="Only this user's.")
@click.option("--after", type=click.UUID, help="Go on after this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@click.pass_obj
def session_list(output: Output, /, tenant: str | None, **filters: Any) -> None:
    """List sessions that have not ended."""
    found = vault_of(tenant).sessions(**filters)
    if output.as_json:
        output.document([_facts(each) for each in found])
        return
    table = Table(Column("id", no_wrap=True), "user", "device", "subscription", "scopes", "since", "ends")
    for each in found:
        terms = (each.subscription.value, shown(each.scopes))
        table.add_row(
            str(each.id), each.user_id, each.device or "-", *terms, shown(each.created_at), shown(each.expires_at)
        )
    output.console.print(table)


@session.command("create")
@click.argument("user_id", metavar="USER")
@tenant_option
@click.option("--device", default="", help="With VAULT_SESSION_PER_DEVICE: on which.")
@click.option("--subscription", type=click.Choice([level.value for level in Subscription]), default="free")
@click.option("--scope", "scopes", multiple=True, help="What it may be used for; may be repeated.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="To keep sealed with it; may be repeated.")
@click.option("--hours", "life", type=click.FloatRange(min=0, min_open=True), help="How long it lives.")
@click.pass_obj
def session_create(
    output: Output, /, user_id: str, tenant: str | None, metadata: tuple[str, ...], life: float | None, **terms: Any
) -> None:
    """Sign USER in, for trying out, in the place of the session they had; the token is printed this once."""
    kept = words(metadata, "--metadata")
    lives: timedelta | None = hours(life)
    try:
        made = vault_of(tenant).create_session(user_id, metadata=kept, life=lives, **terms)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    output.facts({**_facts(made.session), "token": made.token.reveal()})


@session.command("verify")
@tenant_option
@click.option("--token-file", type=file_type, help="Read it there; - is stdin.")
@click.option("--method", help="What it is to be good for.")
@click.option("--provider", help="Who issued it, and is asked about it; otherwise it is a session's.")
@click.pass_obj
def session_verify(
    output: Output, tenant: str | None, token_file: Path | None, method: str | None, provider: str | None
) -> None:
    """Validate a token as an app would: asked for, or read from stdin when that is no terminal."""
    vault = vault_of(tenant)
    found = vault.validate(read_value(token_file, "Token"), method=method, provider=provider)
    vault.close()
    output.facts(found._asdict())


@session.command("revoke")
@click.argument("session_id", type=click.UUID, required=False, metavar="[SESSION]")
@tenant_option
@click.option("--user", "user_id", help="Every session of this user.")
@click.pass_obj
def session_revoke(output: Output, session_id: UUID | None, tenant: str | None, user_id: str | None) -> None:
    """End SESSION, or all of a user: for running processes within VAULT_SESSION_CACHE_S."""
    if (session_id is None) == (user_id is None):
        raise click.UsageError("name a session, or say --user")
    if session_id is not None:
        vault_of(tenant).revoke_session(session_id)
        output.facts({"revoked": 1})
    elif user_id is not None:
        output.facts({"revoked": vault_of(tenant).revoke_sessions(user_id)})


def _facts(found: UserSession) -> dict[str, Any]:
    return {name: value for name, value in found._asdict().items() if name != "revoked_at"}
