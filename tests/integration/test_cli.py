"""The ``evergrant`` command, as an operator and as a script use it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
import pytest
import redis
from click.testing import CliRunner, Result

from tests.integration.house import NOBODY_HERE, House
from tests.simulator import SimulatorProcess
from tests.support.receiver import Receiver
from vault.cli import EXIT_DEGRADED, EXIT_FAILED, EXIT_USAGE, main

CHECKOUT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]


def _commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    yield before
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, *before, name)
        else:
            yield (*before, name)


COMMANDS = list(_commands(main))


@pytest.fixture
def house(database_url: str, redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path, redis_url=redis_url)
    yield built
    built.close()


def _runner(environment: dict[str, str]) -> Run:
    nothing_else: dict[str, str | None] = {name: None for name in os.environ if name.startswith("VAULT_")}

    def run(*words: object, **changes: str) -> Result:
        return CliRunner(env={**nothing_else, **environment, **changes}).invoke(main, [str(word) for word in words])

    return run


@pytest.fixture
def run(house: House) -> Run:
    """Run a command with the house's settings."""
    return _runner(house.environment)


@pytest.fixture
def connected(house: House) -> UUID:
    return house.connect()


def _document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# ------------------------------------------------------------------------------------------------------ asking for help


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "evergrant")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself_without_any_setting(words: tuple[str, ...], flag: str) -> None:
    result = _runner({})(*words, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {' '.join(words)}".rstrip())
    said = [line.strip() for line in result.stdout.splitlines()]
    assert said[2], "a sentence says what it does"


def test_it_runs_as_a_program_and_tells_its_version() -> None:
    command = [sys.executable, "-m", "vault.cli"]
    helped = subprocess.run([*command, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60)
    for words in COMMANDS:
        if words:
            assert f"  {words[0]} " in helped.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("fly",),
        ("show",),
        ("show", "17"),
        ("get", "not-an-id"),
        ("refresh",),
        ("refresh", "--due", str(UUID(int=1))),
        ("list", "--limit", "0"),
        ("rotate", "--older-than-days", "soon"),
    ],
    ids=" ".join,
)
def test_words_it_does_not_understand(words: tuple[str, ...]) -> None:
    result = _runner({})(*words)
    assert result.exit_code == EXIT_USAGE
    assert "Usage:" in result.stderr
    assert result.stdout == ""


# ------------------------------------------------------------------------------------------------------ what goes wrong

NEEDS_SETTINGS = [
    ("db", "upgrade"),
    ("check",),
    ("health",),
    ("health", "--all"),
    ("stats",),
    ("stats", "--recount"),
    ("list",),
    ("show", str(UUID(int=1))),
    ("get", str(UUID(int=1))),
    ("refresh", "--due"),
    ("refresh", str(UUID(int=1))),
    ("rotate",),
    ("rewrap",),
    ("keys",),
    ("keys", "rotate-tenant-keys"),
    ("keys", "verify"),
    ("keys", "destroy", "--oldest-backup", "2026-01-01"),
    ("keys", "shred", "--owner", "nobody", "--yes"),
    ("keys", "shred", "--whole-tenant", "--tenant", "nobodys", "--yes"),
    ("kek", "list"),
    ("kek", "set", "umbra", "local:{home}/umbra.json"),
    ("kek", "remove", "umbra"),
    ("client", "list"),
    ("client", "set", "spotify", "ours", "--public"),
    ("client", "end-roll", "spotify", "ours"),
    ("client", "remove", "spotify", "ours"),
    ("credential", "list"),
    ("credential", "show", str(UUID(int=1))),
    ("credential", "get", str(UUID(int=1))),
    ("credential", "store", "webhook-secret", "--generate"),
    ("credential", "put", str(UUID(int=1)), "--file", __file__),
    ("credential", "roll-back", str(UUID(int=1))),
    ("credential", "change", str(UUID(int=1)), "--name", "x"),
    ("credential", "rotate", "--due"),
    ("credential", "delete", str(UUID(int=1))),
    ("credential", "undelete", str(UUID(int=1))),
    ("credential", "destroy", str(UUID(int=1)), "--yes"),
    ("credential", "expiring"),
    ("put", str(UUID(int=1)), "--file", __file__),
    ("expiring",),
    ("expiring", "--tell"),
    ("event", "list"),
    ("event", "show", str(UUID(int=1))),
    ("event", "replay", str(UUID(int=1))),
    ("endpoint", "list"),
    ("endpoint", "add", "https://app.example/hook"),
    ("endpoint", "test", str(UUID(int=1))),
    ("endpoint", "enable", str(UUID(int=1))),
    ("endpoint", "disable", str(UUID(int=1))),
    ("endpoint", "rotate-secret", str(UUID(int=1))),
    ("endpoint", "remove", str(UUID(int=1))),
    ("session", "create", "ann"),
    ("session", "list"),
    ("session", "verify", "--token-file", "{home}/token"),
    ("session", "revoke", str(UUID(int=1))),
    ("api-key", "create", "x", "--scope", "tokens:read"),
    ("api-key", "list"),
    ("api-key", "revoke", str(UUID(int=1))),
    ("cleanup",),
    ("audit", "chain"),
    ("audit", "verify"),
    ("audit", "anchor"),
    ("audit", "export", "{home}/audit.jsonl"),
    ("audit", "tail", "-n", "1"),
    ("db", "grant", "pg_monitor", "--as", "auditor"),
    ("migrate", os.devnull, "--format", "jsonl", "--map", "owner=o", "--map", "refresh_token=r", "--set", "provider=p"),
]
NEEDS_A_KMS = [
    ("kek", "test", "local:{home}/umbra.json"),
    ("keyring", "list"),
    ("keyring", "add", "second"),
    ("keyring", "use", "second"),
    ("keyring", "backup", "{home}/backup.json"),
]
NEEDS_NOTHING = [("metrics",)]
NEEDS_NO_SERVER = [("providers", "list"), ("providers", "show", "spotify"), ("providers", "check")]
NEEDS_AN_ISSUER = [("providers", "discover", "https://issuer.invalid")]
AFTER_REWRAPPING = [("rewrap",), ("keyring", "remove", "primary", "--yes")]
GOES_ON = [("serve",)]
COMMAND_LINES = [*NEEDS_SETTINGS, *NEEDS_A_KMS, *AFTER_REWRAPPING, *NEEDS_NOTHING]


def _filled(words: tuple[str, ...], home: Path) -> list[str]:
    return [word.replace("{home}", str(home)) for word in words]


GROUPS = (
    *("api-key", "audit", "client", "credential", "db", "endpoint", "event", "kek", "keyring", "providers", "session"),
)
EVERY = [*COMMAND_LINES, *GOES_ON, *NEEDS_NO_SERVER, *NEEDS_AN_ISSUER]


def test_every_command_is_tried_below() -> None:
    for command in COMMANDS:
        is_group = not command or (len(command) == 1 and command[0] in GROUPS)
        assert is_group or any(words[: len(command)] == command for words in EVERY), command


@pytest.mark.parametrize("words", NEEDS_NO_SERVER, ids=" ".join)
def test_the_registry_is_there_without_any_setting(words: tuple[str, ...]) -> None:
    said, document = _runner({})(*words), _runner({})("--json", *words)
    assert (said.exit_code, document.exit_code, said.stderr) == (0, 0, "")
    assert said.stdout
    assert json.loads(document.stdout)


def test_an_issuer_that_is_not_there_is_one_line() -> None:
    result = _runner({})(*NEEDS_AN_ISSUER[0])
    assert result.exit_code == EXIT_FAILED
    assert "does not tell its addresses" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [*NEEDS_SETTINGS, *NEEDS_A_KMS, *AFTER_REWRAPPING, *GOES_ON], ids=" ".join)
def test_missing_settings_are_named_all_at_once(words: tuple[str, ...]) -> None:
    result = _runner({})(*words)
    assert result.exit_code == EXIT_USAGE
    for name in ("VAULT_DATABASE_URL", "VAULT_REDIS_URL"):
        assert name in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words", [*(words for words in NEEDS_SETTINGS if words != ("health",)), *GOES_ON], ids=" ".join
)
def test_a_database_that_is_away_is_one_line_and_no_password(tmp_path: Path, words: tuple[str, ...]) -> None:
    url = f"postgresql://vault:hunter2@/x?host={tmp_path}"
    (tmp_path / "token").write_text("evs_anything")
    result = _runner({"VAULT_DATABASE_URL": url, "VAULT_REDIS_URL": NOBODY_HERE, "VAULT_HOME": str(tmp_path)})(
        *_filled(words, tmp_path)
    )
    assert result.exit_code == EXIT_FAILED, result.output
    assert "StoreUnavailable: PostgreSQL at" in result.stderr
    assert "hunter2" not in result.output
    assert "Traceback" not in result.stderr


def test_a_database_that_was_never_set_up_names_the_command_that_does_it(run: Run, empty_database_url: str) -> None:
    for words in (("check",), ("list",), ("refresh", "--due")):
        result = run(*words, VAULT_DATABASE_URL=empty_database_url)
        assert result.exit_code == EXIT_USAGE, result.output
        assert "evergrant db upgrade" in result.stderr
    for _ in range(2):
        assert run("db", "upgrade", VAULT_DATABASE_URL=empty_database_url).exit_code == 0
    assert run("check", VAULT_DATABASE_URL=empty_database_url).exit_code == 0


@pytest.mark.parametrize("command", ["show", "get", "refresh"])
def test_an_id_of_no_connection(run: Run, command: str) -> None:
    result = run(command, uuid4())
    assert result.exit_code == EXIT_FAILED, result.output
    assert result.stderr.startswith("UnknownConnection: no connection")
    assert result.stdout == ""


def test_health_that_is_not_well_has_an_exit_code_of_its_own(run: Run, house: House) -> None:
    house.worker.sign_of_life("a worker", timedelta(minutes=1))
    assert _document(run("--json", "health"))["healthy"] is True
    ill = run("--json", "health", VAULT_REDIS_URL=NOBODY_HERE)
    assert ill.exit_code == EXIT_DEGRADED
    told = json.loads(ill.stdout)
    assert told["healthy"] is False
    assert told["database"] == told["kms"] == told["spool"] == "ok"
    assert "QueueUnavailable" in told["redis"]


def test_health_tells_of_a_database_that_is_away(run: Run, tmp_path: Path) -> None:
    ill = run("--json", "health", VAULT_DATABASE_URL=f"postgresql://vault:hunter2@/x?host={tmp_path}")
    assert ill.exit_code == EXIT_DEGRADED
    assert "StoreUnavailable" in json.loads(ill.stdout)["database"]
    assert "hunter2" not in ill.output


# ------------------------------------------------------------------------------------------------------- what it is for


def test_connections_are_listed_and_shown(run: Run, house: House, connected: UUID) -> None:
    other = house.connect("nina")
    assert {row["id"] for row in _document(run("--json", "list"))} == {str(connected), str(other)}
    [nina] = _document(run("--json", "list", "--owner", "nina"))
    assert nina == _document(run("--json", "show", other))
    assert (nina["id"], nina["owner"], nina["provider"], nina["status"]) == (str(other), "nina", "acme", "active")
    assert _document(run("--json", "list", "--status", "disconnected")) == []
    assert [row["id"] for row in _document(run("--json", "list", "--limit", 1))] == [str(min(connected, other))]
    assert [row["id"] for row in _document(run("--json", "list", "--after", min(connected, other)))] == [
        str(max(connected, other))
    ]
    shown = run("list", "--owner", "nina").stdout
    assert "nina" in shown
    assert str(connected) not in shown


def test_a_token_is_printed_only_when_it_is_asked_for(run: Run, house: House, connected: UUID) -> None:
    token = house.vault.get(connected).access_token.reveal()
    for words in (("get", connected), ("--json", "get", connected)):
        hidden = run(*words)
        assert hidden.exit_code == 0
        assert token not in hidden.output
        assert "Secret(***)" in hidden.stdout
    assert _document(run("--json", "get", connected, "--reveal"))["access_token"] == token


def test_no_command_prints_anything_secret(run: Run, house: House, connected: UUID) -> None:
    keys = json.loads((house.home / "keyring.json").read_text())["keys"].values()
    house.worker.sign_of_life("a worker", timedelta(minutes=5))
    said = ""
    for words in (
        ("check",), ("health",), ("health", connected), ("health", "--all"), ("stats",),
        ("list",), ("show", connected), ("get", connected), ("refresh", connected),
        ("refresh", "--due"), ("rotate", "--older-than-days", 0), ("rewrap",), ("keys",), ("cleanup",),
        ("db", "upgrade"), ("keys", "verify"), ("kek", "list"), ("keyring", "list"),
    ):  # fmt: skip
        for more in ((), ("--json",)):
            result = run(*more, *words)
            assert result.exit_code == 0, result.output
            said += result.output
    assert len(said) > 1000
    assert "cnry" not in said, "every secret of the simulator begins with this"
    for key in keys:
        assert key not in said


def test_one_connection_is_refreshed_in_this_very_process(run: Run, house: House, connected: UUID) -> None:
    before = house.vault.get(connected).access_token
    done = _document(run("--json", "refresh", connected))
    assert (done["claimed"], done["refreshed"], done["settled"]) == (1, 1, True)
    assert house.vault.get(connected).access_token != before


def test_one_that_is_backing_off_is_refreshed_when_an_operator_insists(run: Run, house: House, connected: UUID) -> None:
    house.fault("rate_limited", retry_after=3600)
    assert _document(run("--json", "refresh", connected))["refreshed"] == 0
    assert house.state(connected) == ("active", "http_429")
    assert _document(run("--json", "refresh", connected))["refreshed"] == 1


def test_everything_due_is_refreshed(run: Run, house: House) -> None:
    ids = house.connect_many(3)
    assert _document(run("--json", "refresh", "--due"))["claimed"] == 0
    house.make_due(*ids[:2])
    assert _document(run("--json", "refresh", "--due", "--for", 1))["refreshed"] == 2


def test_keys_are_rotated_and_rewrapped(run: Run, house: House, connected: UUID) -> None:
    before = house.vault.get(connected).access_token
    assert _document(run("--json", "rotate"))["data_keys_replaced"] == 0
    assert _document(run("--json", "rotate", "--older-than-days", 0))["data_keys_replaced"] >= 1
    keyring = house.home / "keyring.json"
    keys = json.loads(keyring.read_text())
    keys["keys"]["next"] = base64.b64encode(os.urandom(32)).decode()
    keyring.write_text(json.dumps(keys))
    there = f"local:{keyring}#next"
    done = _document(run("--json", "keys", "rotate-tenant-keys"))
    assert (done["tenant_keys_replaced"], done["data_keys_left"]) == (1, 0)
    done = _document(run("--json", "rewrap", VAULT_KEK_URI=there))
    assert done["tenant_keys_rewrapped"] == 2
    assert done["master_key"].startswith("local:next#")
    assert _document(run("--json", "rewrap", VAULT_KEK_URI=there))["tenant_keys_rewrapped"] == 0
    assert house.another_vault().get(connected).access_token == before
    counts = {(each["what"], each["under"]): each for each in _document(run("--json", "keys"))}
    assert [under for what, under in counts if what == "tenant_key"] == [done["master_key"]]
    tokens = counts["oauth_grant.access_token", ""]
    assert (tokens["method"], tokens["version"]) == ("AES-256-GCM", "1.1")
    assert tokens["number"] >= 1
    assert "AES-256-GCM" in run("keys").output


@pytest.mark.parametrize("words", [("rotate", "--older-than-days", 0), ("rewrap",), ("keys", "rotate-tenant-keys")])
def test_a_rotation_that_had_to_leave_a_tenant_as_it_was_says_so_and_does_the_others(
    run: Run, house: House, connected: UUID, words: tuple[object, ...]
) -> None:
    house.vault.for_tenant("apart").begin("acme", owner="ann")
    house.sql("UPDATE evergrant.tenant_key SET kek_id = 'local:lost#00000000' WHERE tenant = 'apart'")
    result = run("--json", *words)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["refused"] >= 1
    if words != ("rewrap",):
        assert next(iter(json.loads(result.stdout).values())) >= 1, "the other tenant's keys"


def test_cleaning_up_counts_first_when_told_to(run: Run, house: House) -> None:
    house.vault.begin("acme", owner="olga")
    house.sql("UPDATE evergrant.connect_attempt SET expires_at = now()")
    for words, removed in [(("cleanup", "--dry-run"), 1), (("cleanup",), 1), (("cleanup",), 0)]:
        assert _document(run("--json", *words))["connect_attempts"] == removed


def test_every_command_speaks_json_and_nothing_else_on_its_output(run: Run, house: House, connected: UUID) -> None:
    with Receiver() as receiver:
        house.worker.sign_of_life("a worker", timedelta(minutes=5))
        endpoint, _ = house.worker.events.add_endpoint("default", receiver.url("/"))
        ids = {"endpoint": endpoint, "event": house.worker.events.test(endpoint).event_id}
        ids["api-key"] = house.worker.api_keys.create("x", ["admin"]).key.id
        ids |= {name: house.vault.store_secret("anything") for name in ("credential", "put")}
        made = house.vault.create_session("olga")
        ids["session"] = made.session.id
        (house.home / "token").write_text(made.token.reveal())
        for words in COMMAND_LINES:
            one = str(ids.get(words[0], connected))
            named = [one if word == str(UUID(int=1)) else word for word in _filled(words, house.home)]
            assert _document(run("--json", *named)) is not None, words


# --------------------------------------------------------------------------------------------------------- before work


def test_a_redis_that_evicts_is_told_before_work_begins(run: Run, house: House, redis_url: str) -> None:
    assert _document(run("--json", "check"))["redis"] == "ok"
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory-policy", "allkeys-lru")
        server.config_set("maxmemory", "100mb")
        try:
            found = run("--json", "check")
        finally:
            server.config_set("maxmemory-policy", "noeviction")
            server.config_set("maxmemory", "0")
    assert found.exit_code == EXIT_FAILED
    assert "allkeys-lru" in json.loads(found.stdout)["redis"]


def test_a_spool_that_cannot_be_written_is_told_before_work_begins(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = run("--json", "check", VAULT_SPOOL_DIR=str(tmp_path / "file"))
    assert found.exit_code == EXIT_FAILED
    told = json.loads(found.stdout)
    assert (told["clock"], told["redis"]) == ("ok", "ok")
    assert str(tmp_path / "file") in told["spool"]


def test_metrics_are_printed_as_prometheus_reads_them(run: Run, house: House, connected: UUID) -> None:
    for _ in range(3):
        run("get", connected)
    text = run("metrics").stdout
    for name in (
        "evergrant_kms_encrypt_duration_seconds_bucket", "evergrant_kms_decrypt_duration_seconds_bucket",
        "evergrant_kms_encrypt_errors_total", "evergrant_kms_decrypt_errors_total",
        "evergrant_kms_cache_hit_rate", "evergrant_kms_cache_size",
    ):  # fmt: skip
        assert re.search(rf"^(# TYPE )?{name.removesuffix('_total').removesuffix('_bucket')}", text, re.MULTILINE), name
    rate = re.search(r"^evergrant_kms_cache_hit_rate ([0-9.e-]+)$", text, re.MULTILINE)
    assert rate is not None
    assert 0 <= float(rate[1]) <= 1
    assert run("metrics", "--listen", "anywhere").exit_code == EXIT_USAGE
