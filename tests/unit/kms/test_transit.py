"""Vault's transit engine without a network: which URIs there are, which KEKs are ours, where the token comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.kms import open_kms
from vault.kms.transit import TransitKms, open_transit
from vault.ports import WrappedKey

KEY = "https://vault.example:8200/transit/master-key"
TOKEN = {"VAULT_TOKEN": "hvs.something-secret"}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN_FILE", raising=False)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN["VAULT_TOKEN"])


@pytest.mark.parametrize(
    "rest",
    [
        KEY,
        "https://vault.example/team/transit/master-key",
        f"{KEY}?namespace=admin/team",
        "http://127.0.0.1:8200/transit/master-key",
        "http://localhost:8200/transit/master-key",
        "http://[::1]:8200/transit/master-key",
        "https://[2001:db8::7]:8200/transit/master.key_2",
    ],
)
def test_a_uri_names_server_mount_and_key(rest: str) -> None:
    kms = open_kms(f"vault-transit:{rest}")
    path, question, namespace = rest.partition("?")
    assert isinstance(kms, TransitKms)
    assert kms.holds(f"vault-transit:{path}/v1{question}{namespace}")


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "master-key",
        "https://vault.example:8200",
        "https://vault.example:8200/master-key",
        "https://vault.example:8200/transit/",
        "https://vault.example:8200/transit//master-key",
        "https://vault.example:8200/transit/../master-key",
        "https://vault.example:8200/transit/master key",
        "https://vault.example:8200/transit/master-key#1",
        "https://vault.example:8200/transit/master-key?version=1",
        "https://vault.example:8200/transit/master-key?namespace=",
        "https://vault.example:8200/transit/master-key?namespace=a%0Ab",
        "https://vault.example:8200/transit/master-key?namespace=a&namespace=b",
        "https://vault.example:8200/transit/master-key\n",
        "https://vault example/transit/master-key",
        "https://vault.example:port/transit/master-key",
        "https://user:pass@vault.example:8200/transit/master-key",
        "https://[::1/transit/master-key",
        "https:///transit/master-key",
        "http://vault.example:8200/transit/master-key",
        "http://10.0.0.1:8200/transit/master-key",
        "http://localhost.example:8200/transit/master-key",
        "ftp://127.0.0.1/transit/master-key",
        "https://vault.example:8200/transit/schlüssel",
    ],
)
def test_a_uri_that_names_no_key_says_how_it_must_read(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="must read vault-transit:https://") as refusal:
        open_kms(f"vault-transit:{rest}")
    assert "pass@" not in str(refusal.value)


def test_every_version_of_the_key_is_held_and_nothing_else() -> None:
    kms = open_kms(f"vault-transit:{KEY}")
    assert kms.holds(f"vault-transit:{KEY}/v1")
    assert kms.holds(f"vault-transit:{KEY}/v20")
    for other in (
        f"vault-transit:{KEY}",
        f"vault-transit:{KEY}/v0",
        f"vault-transit:{KEY}/v01",
        f"vault-transit:{KEY}/v",
        f"vault-transit:{KEY}/v1\n",
        f"vault-transit:{KEY}/v1?namespace=team",
        f"vault-transit:{KEY}-2/v1",
        f"vault-transit:{KEY.replace('.example', '-example')}/v1",
        f"vault-transit:{KEY.replace('transit', 'other')}/v1",
        f"{KEY}/v1",
        "local:primary#00000000",
        "",
    ):
        assert not kms.holds(other)


def test_a_server_has_one_name() -> None:
    assert open_kms(f"vault-transit:{KEY.replace('vault', 'VAULT')}").holds(f"vault-transit:{KEY}/v1")
    usual = open_kms("vault-transit:https://vault.example:443/transit/k")
    assert usual.holds("vault-transit:https://vault.example/transit/k/v1")


def test_keys_of_two_namespaces_are_two_keys() -> None:
    ours = open_kms(f"vault-transit:{KEY}?namespace=ours")
    assert ours.holds(f"vault-transit:{KEY}/v1?namespace=ours")
    assert not ours.holds(f"vault-transit:{KEY}/v1?namespace=theirs")
    assert not ours.holds(f"vault-transit:{KEY}/v1")


def test_a_key_under_somebody_elses_kek_is_not_sent_anywhere() -> None:
    theirs = "vault-transit:https://other.example/transit/master-key/v1"
    with pytest.raises(KeyUnavailable, match="not_held") as refusal:
        open_kms(f"vault-transit:{KEY}").unwrap(WrappedKey(theirs, "vault-transit+AES-256-GCM", b""), {})
    assert not refusal.value.transient
    assert refusal.value.key_id == theirs


def test_what_is_not_a_wrapping_of_ours_is_not_sent_anywhere() -> None:
    kms, kek_id = open_kms(f"vault-transit:{KEY}"), f"vault-transit:{KEY}/v1"
    for wrapped in (WrappedKey(kek_id, "vault-transit+AES-256-GCM", b"vault:v1:AAAA"), WrappedKey(kek_id, "none", b"")):
        with pytest.raises(CannotOpen):
            kms.unwrap(wrapped, {})


@pytest.mark.parametrize("environ", [{}, {"VAULT_TOKEN": ""}, {"VAULT_TOKEN": "two\nlines"}, {"VAULT_TOKEN_FILE": ""}])
def test_no_token_at_all_is_a_configuration_error(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="set VAULT_TOKEN_FILE, or VAULT_TOKEN") as refusal:
        open_transit(KEY, environ)
    assert "lines" not in str(refusal.value)


def test_a_wrong_uri_and_a_missing_token_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_transit("nonsense", {})
    assert len(refusal.value.problems) == 2


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"two\nlines", "schlüssel".encode()])
def test_a_token_file_without_a_token_may_have_one_later(tmp_path: Path, content: bytes | None) -> None:
    """The agent that writes it may start after us."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    kms = open_transit(KEY, {"VAULT_TOKEN_FILE": str(file), **TOKEN})
    with pytest.raises(KeyUnavailable, match="no_token") as refusal:
        kms.wrap(bytes(32), {})
    assert refusal.value.transient


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'evergrant\[transit\]'"):
        open_kms(f"vault-transit:{KEY}")


def test_nothing_shows_the_token() -> None:
    kms = open_kms(f"vault-transit:{KEY}")
    for shown in (repr(kms), repr(vars(kms)), str(vars(kms))):
        assert "something-secret" not in shown
