"""Azure Key Vault without a network: which URIs there are, which KEKs are ours, and what is missing is said."""

from __future__ import annotations

import sys

import pytest

from vault.errors import ConfigurationError, KeyUnavailable
from vault.kms import open_kms
from vault.kms.azure import AzureKms
from vault.ports import WrappedKey

VAULT = "https://myvault.vault.azure.net"
VERSION = "0698c2156c1a4e1da5b6bab6f6422fd6"
KEK_ID = f"azure-kv:{VAULT}/keys/master-key/{VERSION}"


@pytest.mark.parametrize(
    "uri",
    [
        KEK_ID,
        f"azure-kv:https://MyVault.vault.azure.net/keys/master-key/{VERSION}",
        f"azure-kv:https://myvault.vault.azure.net:443/keys/master-key/{VERSION}",
    ],
)
def test_a_version_in_the_uri_is_named_in_full_without_asking(uri: str) -> None:
    assert open_kms(uri).describe() == KEK_ID


@pytest.mark.parametrize(
    "uri",
    [
        "azure-kv:https://myhsm.managedhsm.azure.net/keys/k",
        "azure-kv:https://myvault.vault.azure.cn/keys/k/1",
        "azure-kv:https://10.0.0.7:8443/keys/k",
    ],
    ids=["managed HSM", "another cloud", "another port"],
)
def test_other_places_of_the_service_are_accepted(uri: str) -> None:
    assert isinstance(open_kms(uri), AzureKms)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "myvault/master-key",
        "http://myvault.vault.azure.net/keys/k",
        "https://myvault.vault.azure.net",
        "https://myvault.vault.azure.net/keys/",
        "https://myvault.vault.azure.net/secrets/k",
        "https://myvault.vault.azure.net/keys/k/",
        "https://myvault.vault.azure.net/keys/k/1/2",
        "https://myvault.vault.azure.net/keys/k?x=1",
        "https://myvault.vault.azure.net/keys/k#1",
        "https://myvault.vault.azure.net/keys/k k",
        "https://user:pass@myvault.vault.azure.net/keys/k",
        "https://a\\b/keys/k",
        "https:///keys/k",
        " https://myvault.vault.azure.net/keys/k",
        "https://myvault.vault.azure.net/keys/k\n",
    ],
)
def test_a_uri_that_names_no_key_says_how_it_must_read(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="must read azure-kv:https://") as refusal:
        open_kms(f"azure-kv:{rest}")
    assert "pass@" not in str(refusal.value)


def test_every_version_of_the_key_is_held_and_nothing_else() -> None:
    for uri in (f"azure-kv:{VAULT}/keys/master-key", KEK_ID):
        kms = open_kms(uri)
        assert kms.holds(KEK_ID)
        assert kms.holds(f"azure-kv:{VAULT}/keys/master-key/1")
        assert kms.holds(f"azure-kv:{VAULT}/keys/Master-Key/1"), "Key Vault takes them for the same"
        for other in (
            f"azure-kv:{VAULT}/keys/master-key",
            f"azure-kv:{VAULT}/keys/master-key/",
            f"azure-kv:{VAULT}/keys/other-key/{VERSION}",
            f"azure-kv:https://other.vault.azure.net/keys/master-key/{VERSION}",
            f"azure-kv:{VAULT}:8443/keys/master-key/{VERSION}",
            f"azure-kv:{KEK_ID}",
            f"{VAULT}/keys/master-key/{VERSION}",
            f"{KEK_ID}\n",
            "local:primary#00000000",
            "",
        ):
            assert not kms.holds(other)


def test_a_key_under_somebody_elses_kek_is_not_sent_anywhere() -> None:
    theirs = "azure-kv:https://other.vault.azure.net/keys/master-key/1"
    with pytest.raises(KeyUnavailable, match="not_held") as refusal:
        open_kms(KEK_ID).unwrap(WrappedKey(theirs, "RSA-OAEP-256+AES-256-GCM", b""), {})
    assert not refusal.value.transient
    assert refusal.value.key_id == theirs


@pytest.mark.parametrize("missing", ["azure.identity", "azure.keyvault.keys"])
def test_missing_packages_are_named_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'evergrant\[azure\]'"):
        open_kms(KEK_ID)
