"""Settings: read once, every problem at once, and no secret shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from vault import policy
from vault.errors import ConfigurationError
from vault.secret import Secret
from vault.settings import GATHERED, Settings, environment_names, load

DATABASE = "postgresql://app:hunter2@db.internal:5432/app"
REDIS = "redis://:swordfish@redis.internal:6379/0"
REQUIRED = {"VAULT_DATABASE_URL": DATABASE, "VAULT_REDIS_URL": REDIS}
SECRETS = ("hunter2", "swordfish", "open-sesame")


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        load(environ)
    assert not any(secret in str(refused.value) for secret in SECRETS)
    return refused.value.problems


def problem(environ: Mapping[str, str]) -> str:
    [only] = problems({**REQUIRED, **environ})
    return only


# ------------------------------------------------------------------------------------------------------------ defaults


def test_two_addresses_are_all_it_needs() -> None:
    settings = load(REQUIRED)
    assert settings.database_url.reveal() == DATABASE
    assert settings.redis_url.reveal() == REDIS
    assert settings.tenant == "default"
    assert settings.home_path == Path("~/.evergrant").expanduser()
    assert settings.spool_path == settings.home_path / "spool"
    assert settings.master_key_uri == f"local:{settings.home_path / 'keyring.json'}"
    assert not settings.clients


def test_the_defaults_of_refreshing_are_those_of_the_policy() -> None:
    assert policy.from_settings(load(REQUIRED)) == policy.RefreshPolicy()


def test_seconds_become_durations() -> None:
    numbers = policy.from_settings(
        load(
            {
                **REQUIRED,
                "VAULT_REFRESH_THRESHOLD": "0.8",
                "VAULT_REFRESH_MARGIN_S": "60",
                "VAULT_REQUEST_DEADLINE_S": "2.5",
                "VAULT_SCAN_INTERVAL_S": "1",
                "VAULT_REFRESH_RETRY_DELAY_S": "7",
                "VAULT_REFRESH_RETRY_CAP_S": "70",
                "VAULT_REFRESH_FAST_TRIES": "2",
                "VAULT_QUARANTINE_WAIT_S": "30",
            }
        )
    )
    assert numbers == policy.RefreshPolicy(
        threshold=0.8,
        margin=timedelta(seconds=60),
        deadline=timedelta(seconds=2.5),
        scan=timedelta(seconds=1),
        base=timedelta(seconds=7),
        cap=timedelta(seconds=70),
        fast_tries=2,
        quarantine_wait=timedelta(seconds=30),
    )


def test_the_process_s_own_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("VAULT_")]:
        monkeypatch.delenv(name)
    for name, value in {**REQUIRED, "VAULT_TENANT": "acme"}.items():
        monkeypatch.setenv(name, value)
    assert load().tenant == "acme"


def test_an_argument_wins_over_the_environment() -> None:
    environ = {**REQUIRED, "VAULT_TENANT": "acme", "KMS_KEY_ID": "local:/a.json", "VAULT_MAX_IN_FLIGHT": "wrong"}
    settings = load(environ, tenant="other", kek_uri="local:/b.json", max_in_flight=8)
    assert (settings.tenant, settings.kek_uri, settings.max_in_flight) == ("other", "local:/b.json", 8)


def test_what_is_not_ours_is_left_alone() -> None:
    assert load({**REQUIRED, "PATH": "/bin", "TENANT": "no", "DATABASE_URL": "no", "KEYRING_FILE": "/no/such/file"})


def test_lists_are_written_with_commas() -> None:
    settings = load({**REQUIRED, "VAULT_PROVIDERS": "a.toml, b.toml,,", "VAULT_INSECURE_HOSTS": "localhost"})
    assert (settings.providers, settings.insecure_hosts) == (("a.toml", "b.toml"), ("localhost",))


@pytest.mark.parametrize(("word", "meaning"), [("1", True), ("true", True), ("on", True), ("0", False), ("no", False)])
def test_switches_are_read_as_people_write_them(word: str, meaning: bool) -> None:
    assert load({**REQUIRED, "VAULT_INLINE_REFRESH": word}).inline_refresh is meaning


def test_settings_do_not_change_under_a_running_process() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(REQUIRED).tenant = "other"


# --------------------------------------------------------------------------------------------- the systems it replaces

REPLACED = [
    ("KMS_KEY_ID", "VAULT_KEK_URI", "kek_uri", "local:/keys.json"),
    ("TOKEN_REFRESH_THRESHOLD", "VAULT_REFRESH_THRESHOLD", "refresh_threshold", 0.75),
    ("TOKEN_REFRESH_MAX_RETRIES", "VAULT_REFRESH_FAST_TRIES", "refresh_fast_tries", 7),
    ("TOKEN_REFRESH_RETRY_DELAY", "VAULT_REFRESH_RETRY_DELAY_S", "refresh_retry_delay_s", 11.0),
    ("TOKEN_CLEANUP_INTERVAL", "VAULT_CLEANUP_INTERVAL_S", "cleanup_interval_s", 13.0),
    ("BCRYPT_SALT_ROUNDS", "VAULT_SESSION_ROUNDS", "session_rounds", 14),
]


@pytest.mark.parametrize(("theirs", "ours", "field", "value"), REPLACED)
def test_names_of_the_systems_it_replaces_are_understood_and_ours_win(
    theirs: str, ours: str, field: str, value: object, tmp_path: Path
) -> None:
    assert environment_names(field) == (ours, theirs)
    assert getattr(load({**REQUIRED, theirs: str(value)}), field) == value
    other = {"kek_uri": "local:/other.json", "session_rounds": "4"}.get(field, "1")
    assert getattr(load({**REQUIRED, theirs: str(value), ours: other}), field) != value
    file = tmp_path / "value"
    file.write_text(f"{value}\n")
    assert getattr(load({**REQUIRED, f"{theirs}_FILE": str(file)}), field) == value


# ------------------------------------------------------------------------------------------------------------ problems


def test_every_problem_is_listed_at_once() -> None:
    found = problems(
        {
            "VAULT_REFRESH_THRESHOLD": "1.5",
            "VAULT_MAX_IN_FLIGHT": "many",
            "TOKEN_REFRESH_RETRY_DELAY": "-1",
            "VAULT_CLIENT_GOOGLE_SECRET": "open-sesame",
            "VAULT_CLIENT_XERO_SECRET_FILE": "/no/such/file",
            "VAULT_TENANT_FILE": "/no/such/file",
        }
    )
    named = [re.split(r": ", each)[0] for each in found]
    for name in (
        "VAULT_DATABASE_URL",
        "VAULT_REDIS_URL",
        "VAULT_REFRESH_THRESHOLD",
        "VAULT_MAX_IN_FLIGHT",
        "VAULT_REFRESH_RETRY_DELAY_S",
        "VAULT_CLIENT_GOOGLE_ID",
        "VAULT_CLIENT_XERO_SECRET_FILE",
        "VAULT_TENANT_FILE",
    ):
        assert named.count(name) == 1, name


@pytest.mark.parametrize("name", ["VAULT_DATABASE_URL", "VAULT_REDIS_URL"])
def test_an_empty_address_counts_as_missing(name: str) -> None:
    assert problem({name: ""}) == f"{name}: is required"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://app:hun/ter2@db/app",
        "postgresql://app:hunter2?@db/app",
        "postgresql://app:hunter2#x@db/app",
        "postgresql://app:hunter2@x@db/app",
        "postgresql://app@db:hunter2/app",
        "postgresql://[hunter2/app",
        "mysql://app:hunter2@db/app",
        "db.internal/hunter2",
    ],
)
def test_an_address_that_could_show_its_password_in_the_wrong_place_is_refused(address: str) -> None:
    """An unencoded slash ends the host: what follows the colon before it would be shown as a port."""
    assert problem({"VAULT_DATABASE_URL": address}).startswith("VAULT_DATABASE_URL: ")
    redis = address.replace("postgresql", "redis")
    assert problem({"VAULT_REDIS_URL": redis}).startswith("VAULT_REDIS_URL: ")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://db/app",
        "postgres://app:p%40ss%2Fword@db:5432/app?sslmode=require",
        "postgresql+psycopg://app@db/app",
        "postgresql://app@[::1]:5433/app",
        "postgresql://app@one:5432,two:5433/app?target_session_attrs=read-write",
        "postgresql:///app?host=/var/run/postgresql",
    ],
)
def test_every_form_of_address_that_postgresql_reads_is_taken(address: str) -> None:
    assert load({**REQUIRED, "VAULT_DATABASE_URL": address}).database_url.reveal() == address


@pytest.mark.parametrize("address", ["redis://localhost", "rediss://u:p@h:6380/1", "redis://:p@[::1]:1/0"])
def test_every_form_of_address_that_redis_reads_is_taken(address: str) -> None:
    assert load({**REQUIRED, "VAULT_REDIS_URL": address}).redis_url.reveal() == address


DURATIONS = [name for name in Settings.model_fields if name.endswith(("_s", "_days"))]
MAY_BE_NOTHING = {"key_outage_grace_s", "session_cache_s"}


@pytest.mark.parametrize("field", DURATIONS)
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e300", "soon", ""])
def test_a_duration_that_no_clock_can_hold_is_refused(field: str, value: str) -> None:
    name = environment_names(field)[0]
    assert problem({name: value}).startswith(f"{name}: ")


@pytest.mark.parametrize("field", DURATIONS)
def test_no_duration_may_be_nothing_but_where_that_means_not_at_all(field: str) -> None:
    name = environment_names(field)[0]
    if field in MAY_BE_NOTHING:
        assert getattr(load({**REQUIRED, name: "0"}), field) == 0
    else:
        assert problem({name: "0"}).startswith(f"{name}: ")


@pytest.mark.parametrize("value", ["0", "1.01", "nan", "inf"])
def test_a_threshold_is_a_share_of_a_life(value: str) -> None:
    assert problem({"VAULT_REFRESH_THRESHOLD": value}).startswith("VAULT_REFRESH_THRESHOLD: ")


def test_an_unwrapped_key_is_kept_for_five_minutes_at_most() -> None:
    assert problem({"VAULT_KEY_CACHE_LIFE_S": "301"}).startswith("VAULT_KEY_CACHE_LIFE_S: ")


# --------------------------------------------------------------------------------------------------------------- files


def test_any_setting_can_come_from_a_file(tmp_path: Path) -> None:
    environ = {}
    for name, value in {**REQUIRED, "VAULT_CLIENT_GOOGLE_ID": "id", "VAULT_CLIENT_GOOGLE_SECRET": "sesame"}.items():
        file = tmp_path / name
        file.write_text(f"  {value}\n")
        environ[f"{name}_FILE"] = str(file)
    settings = load(environ)
    assert settings.database_url.reveal() == DATABASE
    assert settings.clients["google"].client_secret == Secret("sesame")


def test_a_file_wins_over_the_value_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "tenant"
    file.write_text("from-file")
    for environ in (
        {"VAULT_TENANT": "direct", "VAULT_TENANT_FILE": str(file)},
        {"VAULT_TENANT_FILE": str(file), "VAULT_TENANT": "direct"},
    ):
        assert load({**REQUIRED, **environ}).tenant == "from-file"


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for name in ("VAULT_REDIS_URL_FILE", "VAULT_MAX_IN_FLIGHT_FILE", "VAULT_CLIENT_GOOGLE_ID_FILE"):
        assert problem({name: str(missing)}).startswith(f"{name}: the file cannot be read")
    assert problem({"VAULT_TENANT_FILE": str(tmp_path)}).startswith("VAULT_TENANT_FILE: ")


def test_a_file_of_bytes_is_no_text_and_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"open-sesame\xff\xfe")
    assert problem({"VAULT_REDIS_URL_FILE": str(file)}).startswith("VAULT_REDIS_URL_FILE: ")


# ------------------------------------------------------------------------------------------------------------- clients


def test_clients_are_found_by_the_name_of_their_provider() -> None:
    settings = load(
        {
            **REQUIRED,
            "VAULT_CLIENT_GOOGLE_ID": "g",
            "VAULT_CLIENT_GOOGLE_SECRET": "open-sesame",
            "VAULT_CLIENT_MY_CORP_ID": "m",
        }
    )
    assert set(settings.clients) == {"google", "my_corp"}
    assert settings.clients["google"].client_secret == Secret("open-sesame")
    assert settings.clients["my_corp"].client_secret is None


def test_the_secret_before_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "former").write_text("swordfish\n")
    named = {**REQUIRED, "VAULT_CLIENT_MY_CORP_ID": "m", "VAULT_CLIENT_MY_CORP_SECRET": "open-sesame"}
    for how, value in (("", "swordfish"), ("_FILE", str(tmp_path / "former"))):
        settings = load({**named, f"VAULT_CLIENT_MY_CORP_SECRET_FORMER{how}": value})
        assert set(settings.clients) == {"my_corp"}
        assert settings.clients["my_corp"].other_secret == Secret("swordfish")
        assert "swordfish" not in repr(settings.clients)
    assert load(named).clients["my_corp"].other_secret is None


def test_a_secret_before_none_is_a_problem() -> None:
    found = problem({"VAULT_CLIENT_GOOGLE_ID": "g", "VAULT_CLIENT_GOOGLE_SECRET_FORMER": "open-sesame"})
    assert found == "VAULT_CLIENT_GOOGLE_SECRET: is required beside SECRET_FORMER"


def test_no_tenant_is_called_what_stands_for_all() -> None:
    assert problem({"VAULT_TENANT": "*"}).startswith("VAULT_TENANT: ")


def test_a_secret_without_an_id_is_a_problem() -> None:
    assert problem({"VAULT_CLIENT_GOOGLE_SECRET": "open-sesame"}).startswith("VAULT_CLIENT_GOOGLE_ID: ")


# ------------------------------------------------------------------------------------------------------------- secrecy


def test_settings_show_no_secret() -> None:
    settings = load({**REQUIRED, "VAULT_CLIENT_GOOGLE_ID": "g", "VAULT_CLIENT_GOOGLE_SECRET": "open-sesame"})
    shown = f"{settings} {settings!r} {settings.clients} {settings.model_dump_json()} {settings.model_dump()}"
    assert "db.internal" not in shown
    assert not any(secret in shown for secret in SECRETS)
    assert json.loads(settings.model_dump_json())["database_url"] == "Secret(***)"


def test_settings_made_by_hand_do_not_show_what_they_refuse() -> None:
    with pytest.raises(ValueError, match="max_in_flight") as refused:
        Settings(database_url="hunter2", redis_url="swordfish", max_in_flight="open-sesame")  # type: ignore[arg-type]
    assert not any(secret in str(refused.value) for secret in SECRETS)


@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name not in GATHERED])
def test_a_secret_in_the_wrong_place_is_not_repeated(field: str) -> None:
    """A value that was pasted into the wrong variable: where it is refused, it is not shown."""
    name = environment_names(field)[0]
    if field in (
        "home",
        "spool_dir",
        "kek_uri",
        "kek_former_uris",
        "foreign_kek_uri",
        "tenant",
        "providers",
        "migrations",
        "scope_rules",
        "policies",
        "registrars",
        "insecure_hosts",
        "redirect_uri",
    ):
        assert load({**REQUIRED, name: "open-sesame"})  # any text will do
    else:
        assert problem({name: "open-sesame"}).startswith(f"{name}: ")


# --------------------------------------------------------------------------------------------------------- master keys


def test_the_master_key_is_what_is_named_or_else_the_encryption_key_or_else_a_local_keyring(tmp_path: Path) -> None:
    home = {**REQUIRED, "VAULT_HOME": str(tmp_path)}
    keyring = f"local:{tmp_path / 'keyring.json'}"
    key = {"ENCRYPTION_KEY": "ab" * 32}
    named = {"KMS_KEY_ID": "aws-kms:alias/evergrant"}
    assert load(home).master_key_uri == keyring
    assert load({**home, **key}).master_key_uri == "env:ENCRYPTION_KEY"
    assert load({**home, **key, **named}).master_key_uri == "aws-kms:alias/evergrant"
    assert load({**home, **key, **named, "VAULT_KEK_URI": "local:/k"}).master_key_uri == "local:/k"


def test_what_was_wrapped_when_less_was_said_still_opens(tmp_path: Path) -> None:
    home = {**REQUIRED, "VAULT_HOME": str(tmp_path)}
    assert load(home).former_kek_uris == ()
    (tmp_path / "keyring.json").touch()
    keyring = f"local:{tmp_path / 'keyring.json'}"
    assert load(home).former_kek_uris == (), "it is the one in use"
    more = {**home, "ENCRYPTION_KEY": "ab" * 32}
    assert load(more).former_kek_uris == (keyring,)
    more |= {"VAULT_KEK_URI": "local:/k", "VAULT_KEK_FORMER_URIS": "local:/old"}
    assert load(more).former_kek_uris == ("local:/old", "env:ENCRYPTION_KEY", keyring)


@pytest.mark.parametrize("key", ["", "open-sesame", "ab" * 31])
def test_an_encryption_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    told = problem({"ENCRYPTION_KEY": key})
    assert told.startswith("VAULT_ENCRYPTION_KEY: an encryption key is 64 hex digits")
    assert not key or key not in told
