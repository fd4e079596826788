"""The table at the end, and the reasons when it does not end well."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Document = dict[str, Any]
WIDTH_ELSEWHERE = 110  # columns, where there is no terminal to ask


def console(*, stderr: bool = False) -> Console:
    """A console that does not fold the table when it is written to a file."""
    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=WIDTH_ELSEWHERE)


def show(document: Document, out: Console) -> None:
    """Print what was counted, and how it was."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    faults = () if document["calm"] else (_faults,)
    for section in (_connections, _refreshes, _tokens, _keys, *faults):
        for row in section(document):
            table.add_row(*row)
        table.add_section()
    out.print(table)
    verdict = ("Every connection is alive.", "bold green") if document["ok"] else ("It did not end well.", "bold red")
    out.print(Text.assemble(verdict, (f"  {document['seconds']:.0f} s", "dim")))


def explain(document: Document, out: Console) -> None:
    """Say what was not as it should be, and where the logs are; nothing when all is well."""
    for check in document.get("checks", ()):
        if not check["ok"]:
            _say(out, f"✗ {check['name']}: {check['found']}", "red")
    if "error" in document:
        _say(out, f"✗ {document['error']}", "red")
    for name, words in document.get("last_words", {}).items():
        _say(out, f"\n{name}, last words:", "bold")
        _say(out, words, "dim")
    if "logs" in document:
        _say(out, f"The logs are in {document['logs']}", "")


def _say(out: Console, words: str, style: str) -> None:
    out.print(words, style=style, markup=False, highlight=False, soft_wrap=True)


Row = tuple[str, str | Text, str]


def _connections(document: Document) -> list[Row]:
    found = document["connections"]
    lost = Text(f"{found['lost']:,}", "bold green" if found["lost"] == 0 else "bold red")
    return [
        ("connections", f"{found['connected']:,}", f"owners of {found['tenants']} tenants; code + PKCE over HTTP"),
        ("  alive", f"{found['alive']:,}", "in the database, and the provider accepts the token served"),
        ("  lost", lost, "by the database or by the provider's journal"),
    ]


def _refreshes(document: Document) -> list[Row]:
    found, provider = document["refreshes"], document["provider"]
    again = "is accepted again for 30 s" if provider["rotation"] == "grace" else "is never accepted again"
    lives = f"tokens live {provider['access_token_life_s']:g} s; a spent refresh token {again}"
    return [
        ("refreshes", f"{found['stored']:,}", lives),
        ("  sent again", f"{found['refresh_tokens_sent_again']:,}", "refresh tokens that the provider saw twice"),
    ]


def _tokens(document: Document) -> list[Row]:
    found = document["tokens"]
    errors = ", ".join(f"{count} {name}" for name, count in found["errors"].items()) or "whatever get() raised"
    refused, too_late = len(found["api_refused"]), found["api_too_late"]
    return [
        ("tokens served", f"{found['served']:,}", "by vault.get() in the web app, all the while"),
        ("  stale served", f"{found['metric']['stale']:,}", "the refresh was overdue, the token still good"),
        ("  waited for", f"{found['metric']['waited']:,}", "until a refresh came"),
        ("  errors", f"{sum(found['errors'].values()):,}", errors),
        (
            "  used at the provider",
            f"{found['api_accepted']:,}",
            f"refused: {refused}; ended on the way there: {too_late}",
        ),
        ("  get() p50", f"{found['p50_ms']:.2f} ms", "of all calls, timed in the web app"),
        ("  get() p99", f"{found['p99_ms']:.2f} ms", f"the slowest: {found['max_ms']:.0f} ms"),
    ]


def _keys(document: Document) -> list[Row]:
    calls = document["kms_calls"]
    kinds = ", ".join(f"{count} {name}" for name, count in calls.items() if name != "total")
    return [("KMS calls", f"{calls['total']:,}", f"{kinds}; all processes together")]


def _faults(document: Document) -> list[Row]:
    found, died = document["faults"], document["refreshes"]["died_with_worker"]
    rewrapped = f"under {found['master_key']}; the old key was destroyed"
    restarts = f"{found['restarts_by_supervisor']} starts by the supervisor"
    return [
        ("workers killed", f"{found['workers_killed']:,}", "frozen in mid-refresh, then SIGKILL"),
        ("  refreshes in its hands", f"{died:,}", "which died with it, and which another worker began anew"),
        ("workers restarted", f"{found['workers_restarted']:,}", f"SIGTERM; {restarts} in all"),
        ("Redis keys flushed", f"{found['redis_keys_flushed']:,}", "FLUSHALL"),
        ("tenant keys rewrapped", f"{found['tenant_keys_rewrapped']:,}", rewrapped),
    ]
