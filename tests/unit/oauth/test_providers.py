"""The registry: ours loads, the user's wins, and a wrong file says where it is wrong."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vault.dialect import ErrorStyle, Meaning
from vault.errors import ConfigurationError, UnknownProvider
from vault.oauth.providers import FileProviders
from vault.provider import Client, ClientAuth, Provider, Rotation
from vault.secret import Secret

CLIENT = Client("id", Secret("secret"))
ACME = """
[acme]
authorize_uri = "https://acme.test/authorize"
token_uri = "https://acme.test/token"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def load(*files: Path, **clients: Client) -> FileProviders:
    return FileProviders(files, clients)


def written(file: Path, text: str) -> FileProviders:
    file.write_text(text)
    return load(file)


def problems(file: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        written(file, text)
    return refused.value.problems


BUILT_IN = ("atlassian", "github", "google", "spotify", "xero")


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_comes_with_us_is_reached_over_tls_only(name: str) -> None:
    provider = load().get(name)
    assert provider.name == name
    for uri in (provider.authorize_uri, provider.token_uri, provider.revoke_uri, provider.refresh_uri, provider.issuer):
        assert uri is None or (urlsplit(uri).scheme == "https" and urlsplit(uri).hostname)


def test_what_comes_with_us_is_what_the_providers_say() -> None:
    providers = load()
    assert providers.get("xero").replay_window == timedelta(minutes=30)
    assert providers.get("atlassian").replay_window == timedelta(minutes=10)
    assert providers.get("atlassian").grant_life == timedelta(days=365)
    assert providers.get("spotify").grant_life == timedelta(days=180)
    assert providers.get("google").rotation is Rotation.NONE
    assert providers.get("google").authorize_parameters == {"access_type": "offline", "prompt": "consent"}
    assert providers.get("github").errors.codes["bad_refresh_token"] is Meaning.DEAD


def test_providers_come_in_one_order_and_some_with_a_client() -> None:
    providers = load(google=CLIENT, atlassian=CLIENT)
    assert [each.name for each in providers.every() if each.client] == ["atlassian", "google"]
    assert providers.get("google").client is CLIENT
    assert providers.get("xero").client is None


def test_an_unknown_provider_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(UnknownProvider, match=r"'acme'.*atlassian, bitbucket, .*, spotify, "):
        load().get("acme")


def test_a_provider_of_the_user_s_is_strict_until_it_says_otherwise(file: Path) -> None:
    assert written(file, ACME).get("acme") == Provider(
        "acme", "https://acme.test/authorize", "https://acme.test/token", rotation=Rotation.STRICT
    )


def test_seconds_become_durations_and_every_field_arrives(file: Path) -> None:
    found = written(
        file,
        ACME
        + """
        issuer = "https://acme.test"
        revoke_uri = "https://acme.test/revoke"
        refresh_uri = "https://acme.test/refresh"
        rotation = "grace"
        replay_window_s = 90
        client_auth = "none"
        scopes = ["a", "b"]
        scope_separator = ","
        scope_on_refresh = true
        authorize_parameters = { duration = "permanent" }
        default_life_s = 600.5
        earliest_refresh_s = 570
        grant_life_s = 86_400
        max_in_flight = 7
        rate_per_second = 0.5

        [acme.errors]
        dead = ["gone"]
        """,
    ).get("acme")
    assert found == Provider(
        name="acme",
        authorize_uri="https://acme.test/authorize",
        token_uri="https://acme.test/token",
        issuer="https://acme.test",
        revoke_uri="https://acme.test/revoke",
        refresh_uri="https://acme.test/refresh",
        rotation=Rotation.GRACE,
        replay_window=timedelta(seconds=90),
        client_auth=ClientAuth.NONE,
        scopes=("a", "b"),
        scope_separator=",",
        scope_on_refresh=True,
        authorize_parameters={"duration": "permanent"},
        default_life=timedelta(seconds=600.5),
        earliest_refresh=timedelta(seconds=570),
        grant_life=timedelta(days=1),
        errors=ErrorStyle(codes={"gone": Meaning.DEAD}),
        max_in_flight=7,
        rate_per_second=0.5,
    )


def test_a_file_overrides_single_fields_of_ours_and_the_last_file_wins(file: Path, tmp_path: Path) -> None:
    file.write_text('[xero]\nreplay_window_s = 60\nscopes = ["one"]\n')
    last = tmp_path / "last.toml"
    last.write_text('[xero]\nscopes = ["two"]\n' + ACME)
    xero = load(file, last).get("xero")
    assert (xero.replay_window, xero.scopes) == (timedelta(minutes=1), ("two",))
    assert xero.token_uri == load().get("xero").token_uri
    assert load(file, last).get("acme")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('rotation = "sometimes"', "rotation"),
        ('client_auth = "mtls"', "client_auth"),
        ("replay_window_s = -1", "replay_window_s"),
        ("default_life_s = 0", "default_life_s"),
        ("default_life_s = inf", "default_life_s"),
        ("default_life_s = 1e300", "default_life_s"),
        ("grant_life_s = nan", "grant_life_s"),
        ("earliest_refresh_s = inf", "earliest_refresh_s"),
        ('rate_per_second = "fast"', "rate_per_second"),
        ("rate_per_second = inf", "rate_per_second"),
        ("max_in_flight = 0", "max_in_flight"),
        ('scope_separator = ""', "scope_separator"),
        ('tokens_uri = "https://acme.test"', "tokens_uri"),
        ("authorize_parameters = { prompt = 1 }", "authorize_parameters.prompt"),
        ('scopes = "read"', "scopes"),
    ],
)
def test_a_wrong_field_is_named_with_its_provider_and_its_file(file: Path, line: str, field: str) -> None:
    [problem] = problems(file, ACME + line)
    assert str(file) in problem
    assert "acme" in problem
    assert f"{field}:" in problem


def test_a_provider_without_its_addresses_names_both(file: Path) -> None:
    [problem] = problems(file, "[acme]\nscopes = []\n")
    assert all(part in problem for part in (str(file), "acme", "authorize_uri and token_uri are missing"))


def test_a_wrong_override_of_ours_names_the_user_s_file_not_ours(file: Path) -> None:
    [problem] = problems(file, '[google]\nrotation = "never"\n')
    assert str(file) in problem
    assert "google" in problem


@pytest.mark.parametrize("text", ["[acme", "acme = 1", "\x00", 'x = "\\q"'])
def test_a_file_that_is_no_list_of_providers_is_named(file: Path, text: str) -> None:
    [problem] = problems(file, text)
    assert str(file) in problem


def test_a_file_that_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"\xff\xfe[acme]")
    with pytest.raises(ConfigurationError, match=r"mine\.toml"):
        load(file)


def test_a_file_that_is_missing_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mine\.toml.*cannot be read"):
        load(file)


def test_every_problem_of_every_file_is_told_at_once(file: Path, tmp_path: Path) -> None:
    file.write_text(ACME + "max_in_flight = 0\n[other]\n")
    with pytest.raises(ConfigurationError) as refused:
        FileProviders([file, tmp_path / "missing.toml"], {"nobody": CLIENT})
    text = str(refused.value)
    for each in ("max_in_flight", "other", "missing.toml", "VAULT_CLIENT_NOBODY_ID"):
        assert each in text


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('[acme.grants.user]\nroot = ""\n', "acme: grants.user.root: String should have at least 1 character"),
        ('[acme.grants.user]\naccount = "id"\n', "acme: grants.user.root: Field required"),
        ('[acme.grants."The User"]\nroot = "user"\n', "grants.The User"),
        ('[acme.grants.user]\nroot = "user"\nscopes = ["read"]\n', "how are the scopes asked for?"),
        (
            'strategy = "exchange_access_token"\nrotation = "none"\n[acme.grants.user]\nroot = "user"\n',
            "further grants",
        ),
    ],
)
def test_a_further_grant_that_cannot_be_is_told_where_it_stands(file: Path, said: str, problem: str) -> None:
    [told] = problems(file, ACME + said)
    assert problem in told
    assert str(file) in told


def test_a_user_s_file_changes_one_field_of_a_further_grant(file: Path) -> None:
    user = written(file, '[slack.grants.user]\nscopes = ["search:read"]\n').get("slack").grants["user"]
    assert (user.scopes, user.root, user.scope_parameter) == (("search:read",), "authed_user", "user_scope")


@pytest.mark.parametrize("like", ['["google"]', "{ a = 1 }", "5", "true", '""'])
def test_what_a_provider_is_like_is_a_name(tmp_path: Path, like: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"[mine]\nlike = {like}\n")
    with pytest.raises(ConfigurationError) as raised:
        FileProviders([file], {})
    assert raised.value.problems == (f"provider file {file}: mine: like: is like a provider that is not known",)


def test_a_long_value_of_a_variable_is_refused_before_its_pattern_is_tried() -> None:
    salesforce = FileProviders([], {}).get("salesforce")
    began = time.monotonic()
    for value in ("-" * 100_000, "a" * 256):
        with pytest.raises(ValueError, match="does not look like this"):
            salesforce.variables_of({"host": value})
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('request_token_uri = "https://a.test/{shop}"', "request_token_uri wants a variable 'shop'"),
        ('request = { headers = { x = "Zo\u00eb" } }', "'x' is no header"),
        ('revoke_uri = "https://zo\u00eb.test/"', "revoke_uri: is no address"),
    ],
)
def test_what_could_not_be_sent_is_found_in_the_file(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[mine]\nauthorize_uri = "https://a.test/"\ntoken_uri = "https://a.test/"\n{line}\n')
    with pytest.raises(ConfigurationError, match=problem):
        FileProviders([file], {})
