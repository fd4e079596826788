"""Errors: one tree, each with its remedy, none with a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

import vault
from vault import errors
from vault.errors import (
    ApiKeyRefused,
    CannotOpen,
    ConfigurationError,
    ConnectRefused,
    DestructionRefused,
    InvalidCredential,
    KeyUnavailable,
    MigrationBusy,
    QueueUnavailable,
    ReconnectRequired,
    RefreshPending,
    RotationBusy,
    RotationFailed,
    SchemaOutdated,
    SignatureInvalid,
    SourceUnavailable,
    StoreUnavailable,
    TokenRefused,
    TokenUnavailable,
    UnknownApiKey,
    UnknownClient,
    UnknownConnection,
    UnknownCredential,
    UnknownEndpoint,
    UnknownEvent,
    UnknownProvider,
    UnknownSession,
    ValidationUnavailable,
    VaultError,
    VersionConflict,
)

ID = UUID(int=7)


def drawn() -> dict[str, str | None]:
    """Each error of the drawing with the one it hangs from."""
    parents: dict[str, str | None] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if not re.fullmatch(r"[│├└─ ]*\w+", line):
            continue
        name = line.lstrip("│├└─ ")
        depth = (len(line) - len(name)) // 4
        del stack[depth:]
        parents[name] = stack[-1] if stack else None
        stack.append(name)
    return parents


def written(root: type[VaultError] = VaultError) -> Iterator[type[VaultError]]:
    yield root
    for child in root.__subclasses__():
        yield from written(child)


EXAMPLES: dict[type[VaultError], tuple[Callable[[], VaultError], str]] = {
    ConfigurationError: (lambda: ConfigurationError(["VAULT_HOME: no"]), "mend"),
    SchemaOutdated: (lambda: SchemaOutdated(None, "r0002"), "evergrant db upgrade"),
    UnknownConnection: (lambda: UnknownConnection(ID), "check the id"),
    UnknownProvider: (lambda: UnknownProvider("acme", ["google"]), "VAULT_PROVIDERS"),
    UnknownCredential: (lambda: UnknownCredential(ID, "active"), "check the id"),
    InvalidCredential: (lambda: InvalidCredential("api_key", "it is empty"), "problem"),
    RotationBusy: (lambda: RotationBusy(ID, "retire"), "wait for its end"),
    RotationFailed: (lambda: RotationFailed("not accepted", permanent=True), "reason"),
    VersionConflict: (lambda: VersionConflict(ID, 1, 2), "read it again"),
    UnknownClient: (lambda: UnknownClient("acme", "ours"), "evergrant client list"),
    RefreshPending: (lambda: RefreshPending(ID, "refreshing", timedelta(seconds=5)), "ask again"),
    ReconnectRequired: (lambda: ReconnectRequired(ID, "invalid_grant"), "vault.begin()"),
    ConnectRefused: (lambda: ConnectRefused("denied", "the owner did not agree"), "start the flow again"),
    CannotOpen: (CannotOpen, "restore"),
    DestructionRefused: (lambda: DestructionRefused("a backup needs it: wait"), "do what the message says"),
    KeyUnavailable: (lambda: KeyUnavailable("kek-1", "denied", transient=False), "check the key"),
    StoreUnavailable: (lambda: StoreUnavailable("db:5432/app", "refused"), "VAULT_DATABASE_URL"),
    QueueUnavailable: (lambda: QueueUnavailable("redis:6379", "refused"), "VAULT_REDIS_URL"),
    SourceUnavailable: (lambda: SourceUnavailable("mysql://db/app", "refused"), "are the URL and the rights right"),
    UnknownEndpoint: (lambda: UnknownEndpoint(ID), "evergrant endpoint list"),
    UnknownEvent: (lambda: UnknownEvent(ID), "evergrant event list"),
    UnknownApiKey: (lambda: UnknownApiKey(ID), "evergrant api-key list"),
    ApiKeyRefused: (lambda: ApiKeyRefused("expired"), "evergrant api-key create"),
    SignatureInvalid: (SignatureInvalid, "do not act on"),
    UnknownSession: (lambda: UnknownSession(ID), "evergrant session list"),
    TokenRefused: (lambda: TokenRefused("expired", "sign in", who="user", code="invalid_token"), "reason"),
    ValidationUnavailable: (
        lambda: ValidationUnavailable("acme", "timeout", timedelta(seconds=5), transient=True),
        "ask again",
    ),
    MigrationBusy: (lambda: MigrationBusy("mysql://db/app#t.rt"), "wait for its end"),
}
"""For every error that is raised: one of it, and words of the remedy that its docstring and its message both hold."""


def test_the_drawing_of_the_tree_equals_the_code() -> None:
    parents = {each.__name__: each.__base__.__name__ if each.__base__ else None for each in written()}
    assert drawn() == {**parents, "VaultError": None}


def test_every_error_can_be_had_at_the_door() -> None:
    assert all(getattr(vault, each.__name__) is each and each.__name__ in vault.__all__ for each in written())


SAID_BY_WHO_RAISES = {
    *(ConfigurationError, ConnectRefused, DestructionRefused, InvalidCredential, RotationFailed, TokenRefused),
}
"""Their messages say what to do, in words of that place."""


def test_every_error_that_is_raised_has_an_example_here() -> None:
    only_caught = {VaultError, TokenUnavailable}
    assert set(EXAMPLES) == set(written()) - only_caught


@pytest.mark.parametrize("kind", EXAMPLES)
def test_docstring_and_message_hold_the_remedy(kind: type[VaultError]) -> None:
    make, remedy = EXAMPLES[kind]
    assert remedy in " ".join((kind.__doc__ or "").split())
    if kind not in SAID_BY_WHO_RAISES:
        assert remedy in str(make())


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_error_that_passes_by_itself_is_told_apart(kind: type[VaultError]) -> None:
    passing = {RefreshPending, StoreUnavailable, QueueUnavailable, SourceUnavailable, ValidationUnavailable}
    assert EXAMPLES[kind][0]().transient is (kind in passing)


def test_the_caller_learns_when_to_ask_again_and_why() -> None:
    pending = RefreshPending(ID, "http_503", timedelta(seconds=90))
    assert (pending.retry_after, pending.reason, pending.connection_id) == (timedelta(seconds=90), "http_503", str(ID))
    assert "90 s" in str(pending)
    assert KeyUnavailable("kek-1", "throttled", transient=True).transient


def test_every_problem_of_the_settings_is_in_the_message() -> None:
    error = ConfigurationError(["VAULT_A: is required", "VAULT_B: is required"])
    assert error.problems == ("VAULT_A: is required", "VAULT_B: is required")
    assert all(problem in str(error) for problem in error.problems)


def test_a_guessed_id_does_not_fill_the_log() -> None:
    assert len(str(UnknownConnection("x" * 100_000))) < 300
    assert len(str(UnknownProvider("x" * 100_000, ["google"]))) < 300
    assert "\n" not in str(UnknownConnection("first\nsecond"))


# ---------------------------------------------------------------------------- no secret that was set is in any message

SECRET = "hunter2-0a9b8c7d"  # what must not be seen
HOSTILE = [SECRET, *(f"{SECRET}{mark}{SECRET}" for mark in "/#?@:")]
"""Passwords as people paste them: not percent-encoded."""


def failing(database_url: str, redis_url: str, home: Path) -> Iterator[Callable[[], object]]:
    """Everything that can fail for what stands in the settings, without any server."""
    environ = {
        "VAULT_DATABASE_URL": database_url,
        "VAULT_REDIS_URL": redis_url,
        "VAULT_HOME": str(home),
        "VAULT_CLIENT_GOOGLE_ID": "client",
        "VAULT_CLIENT_GOOGLE_SECRET": SECRET,
    }
    yield lambda: vault.Vault.from_env({**environ, "VAULT_MAX_IN_FLIGHT": SECRET, "VAULT_INLINE_REFRESH": SECRET})
    yield lambda: vault.Vault.from_env({**environ, "VAULT_CLIENT_NOBODY_ID": "x"})
    yield lambda: vault.Vault.from_env({**environ, "VAULT_CLIENT_NOBODY_SECRET": SECRET})
    yield lambda: vault.Vault.from_env(environ).get(ID)
    yield lambda: vault.Vault.from_env(environ).begin("google", owner="ann")
    yield lambda: vault.Maintenance.from_env(environ).check()
    yield lambda: vault.Maintenance.from_env(environ).refresh_scan()
    yield lambda: vault.Maintenance.from_env(environ).health_check()


@pytest.mark.parametrize("password", HOSTILE)
@pytest.mark.parametrize("broken", ["database", "redis"])
def test_no_message_contains_a_secret_that_was_set(broken: str, password: str, tmp_path: Path) -> None:
    """Port 1 of loopback answers nobody."""
    database, redis = (password, "x") if broken == "database" else ("x", password)
    urls = f"postgresql://app:{database}@127.0.0.1:1/app", f"redis://:{redis}@127.0.0.1:1/0"
    for act in failing(*urls, tmp_path):
        try:
            found = str(act())
        except VaultError as error:
            found = f"{error} {error!r} {error.args}"
            for under in (error.__cause__, None if error.__suppress_context__ else error.__context__):
                found += f"{under} {under!r}"
        assert SECRET not in found
