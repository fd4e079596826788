"""The table at the end, and the reasons when it does not end well."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(document: dict[str, Any], console: Console) -> None:
    """Print what was counted, and how it was."""
    table = Table(title="What became of them", title_justify="left", title_style="bold", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    for row in _rows(document):
        table.add_row(*row, end_section=row[2].endswith("."))
    console.print(table)
    verdict = Text("Every connection is alive.", "bold green") if document["ok"] else Text("Not well.", "bold red")
    console.print(verdict, Text(f"({document['seconds']:.0f} s)", "dim"))


def explain(document: dict[str, Any], console: Console) -> None:
    """Say what was not as it should be, and where the logs are; nothing when all is well."""
    for check in document.get("checks", ()):
        if not check["ok"]:
            console.print(f"✗ {check['name']}: {check['found']}", style="red", markup=False)
    if "error" in document:
        console.print(f"✗ {document['error']}", style="red", markup=False)
    for name, words in document.get("last_words", {}).items():
        console.print(f"\n{name}, last words:", style="bold", markup=False)
        console.print(words, style="dim", markup=False, highlight=False)
    if "logs" in document:
        console.print(f"\nThe logs are in {document['logs']}", markup=False, soft_wrap=True)


def _rows(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    connections, refreshes, tokens = document["connections"], document["refreshes"], document["tokens"]
    kms, faults, provider = document["kms_calls"], document["faults"], document["provider"]
    good = "green" if connections["lost"] == 0 else "red"
    again = "accepted again for 30 s" if provider["rotation"] == "grace" else "never accepted again (strict)"
    errors = ", ".join(f"{count} {name}" for name, count in tokens["errors"].items()) or "none raised"
    return [
        ("connections", f"{connections['connected']:,}", f"owners of {connections['tenants']} tenants, code + PKCE over HTTP"),
        ("  alive", f"{connections['alive']:,}", "refreshed since the last fault, and the provider takes the token"),
        ("  lost", f"[{good}]{connections['lost']:,}[/]", "by the provider's books or by ours."),
        ("refreshes", f"{refreshes['stored']:,}", f"tokens live {provider['access_token_life_s']:g} s; a spent refresh token is {again}"),
        ("  died with the worker", f"{refreshes['died_with_worker']:,}", f"of {refreshes['in_flight_at_kill']} in flight at kill -9"),
        ("  sent again", f"{refreshes['refresh_tokens_sent_again']:,}", "refresh tokens the provider saw twice."),
        ("tokens served", f"{tokens['served']:,}", "by vault.get() in the web app, all the while"),
        ("  stale served", f"{tokens['get']['stale']:,}", "refresh overdue, token still good"),
        ("  waited for", f"{tokens['get']['waited']:,}", "no live token until a refresh came"),
        ("  errors", f"{sum(tokens['errors'].values()):,}", errors),
        ("  tried at the API", f"{tokens['api_accepted']:,}", f"accepted; refused: {len(tokens['api_refused'])}"),
        ("get() p50", f"{tokens['p50_ms']:.2f} ms", "every call was timed"),
        ("get() p99", f"{tokens['p99_ms']:.2f} ms", f"slowest {tokens['max_ms']:.0f} ms."),
        ("KMS calls", f"{kms['total']:,}", ", ".join(f"{count} {name}" for name, count in kms.items() if name != "total")),
        ("  tenant keys rewrapped", f"{faults['tenant_keys_rewrapped']:,}", f"under {faults['master_key']}; the old key was destroyed."),
        ("workers killed, restarted", f"{faults['workers_killed']}, {faults['workers_restarted']}", f"{faults['restarts_by_supervisor']} restarts by the supervisor"),
        ("Redis keys flushed", f"{faults['redis_keys_flushed']:,}", "FLUSHALL"),
    ]  # fmt: skip
