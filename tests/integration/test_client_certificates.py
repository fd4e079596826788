"""Requests to providers made with a client certificate out of the credentials (RFC 8705), which may be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from tests.integration.house import House
from tests.integration.waiting import until
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent
from tests.support import certificates
from tests.support.tls_front import TlsFront
from vault import ConfigurationError, ConnectRefused, KeyUnavailable, Maintenance
from vault.oauth import clients


class Bank(House):
    """A house whose provider wants to see a certificate at its token endpoint."""

    front: TlsFront
    certificate: UUID

    def replace(self, name: str) -> None:
        made = certificates.leaf(name, days=100)
        self.vault.put_certificate(self.certificate, made.chain, made.key)


@pytest.fixture
def bank(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Bank]:
    built = Bank(database_url, simulator, tmp_path)
    token_uri = simulator.uri(built.far_side, "token")
    parts = urlsplit(token_uri)
    with TlsFront(tmp_path, (str(parts.hostname), int(parts.port or 0))) as front:
        built.front = front
        registry = tmp_path / "providers.toml"
        secure = token_uri.replace(f"http://{parts.netloc}", f"https://127.0.0.1:{front.port}")
        registry.write_text(registry.read_text().replace(f'token_uri = "{token_uri}"', f'token_uri = "{secure}"'))
        built.environment["VAULT_CA_FILE"] = str(front.authority)
        made = certificates.leaf("evergrant", days=100)
        keeper = Maintenance.from_env(built.environment)
        keeper.close()
        with_it = built.another_vault()
        built.certificate = with_it.store_certificate(made.chain, made.key, name="mTLS at acme").certificate
        built.environment["VAULT_CLIENT_ACME_CERTIFICATE"] = str(built.certificate)
        yield built
        built.close()


def refresh(bank: Bank, connection_id: UUID, worker: Maintenance | None = None) -> None:
    bank.make_due(connection_id)
    (worker or bank.worker).refresh_scan()


def test_the_flow_and_every_refresh_show_the_certificate(bank: Bank) -> None:
    each = bank.connect()
    assert bank.front.names == ["evergrant"]
    refresh(bank, each)
    assert bank.row(each)["version"] == 2
    assert bank.front.names == ["evergrant"] * 2
    reasons = bank.sql("SELECT DISTINCT detail->>'reason' AS why FROM evergrant.audit WHERE event LIKE '%%retrieved'")
    assert [row["why"] for row in reasons] == ["requests to providers"]


def test_a_replaced_certificate_is_shown_from_the_next_look_on(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "LOOK_EVERY", timedelta(0))
    each = bank.connect()
    refresh(bank, each)
    bank.replace("evergrant 2")
    for _ in range(2):
        refresh(bank, each)
    assert bank.row(each)["version"] == 4
    assert bank.front.names[-1] == "evergrant 2", "a connection made with the other is not used again"
    assert bank.front.refused == 0


def test_a_certificate_that_was_taken_away_is_shown_no_more(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by who has held it: it may have leaked."""
    monkeypatch.setattr(clients, "LOOK_EVERY", timedelta(0))
    each = bank.connect()
    refresh(bank, each)
    bank.vault.delete_credentials(bank.certificate)
    before = len(bank.front.names)
    refresh(bank, each)
    assert (len(bank.front.names), bank.row(each)["version"], bank.state(each)[0]) == (before, 2, "active")


@pytest.mark.parametrize("how", ["deleted", "unknown", "no certificate"])
def test_without_its_certificate_nothing_is_asked_and_no_grant_is_touched(bank: Bank, how: str) -> None:
    each = bank.connect()
    before = len(bank.front.names)
    if how == "deleted":
        bank.vault.delete_credentials(bank.certificate)
    wrong = {"unknown": uuid4(), "no certificate": bank.vault.store_api_key("sk")}.get(how, bank.certificate)
    bank.environment["VAULT_CLIENT_ACME_CERTIFICATE"] = str(wrong)
    worker = bank.another_worker()
    refresh(bank, each, worker)
    assert bank.state(each)[0] == "active"
    assert bank.arrivals(each) == 0
    with pytest.raises(KeyUnavailable, match="acme"):
        bank.another_vault().begin("acme", owner="ann")
    assert (len(bank.front.names), bank.front.refused) == (before, 0)
    if how == "deleted":
        bank.vault.undelete_credential(bank.certificate)
        bank.sql("UPDATE evergrant.schedule SET next_at = now()")
        refresh(bank, each, bank.another_worker())
        assert bank.row(each)["version"] == 2


def test_who_does_not_trust_the_provider_sends_it_nothing(bank: Bank) -> None:
    each = bank.connect()
    until(lambda: bank.front.received > 0)
    before = bank.front.received
    worker = bank.another_worker(ca_file=None)
    refresh(bank, each, worker)
    assert bank.arrivals(each) == 0
    assert bank.state(each)[0] == "active"
    vault = bank.another_vault(ca_file=None)
    answer = consent(vault.begin("acme", owner="ann", browser="b").url)
    with pytest.raises(ConnectRefused, match="unreachable"):
        vault.complete(state=answer["state"], code=answer["code"], browser="b", issuer=answer.get("iss"))
    until(lambda: len(bank.front.names) == 3)  # libcurl looks at the certificate when hands are shaken
    assert bank.front.received == before


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("VAULT_CLIENT_ACME_CERTIFICATE", "mine", "must be the id of a credential"),
        ("VAULT_CLIENT_NOBODY_CERTIFICATE", str(UUID(int=1)), "names no known provider"),
    ],
)
def test_what_cannot_be_is_said_at_the_start(bank: Bank, name: str, value: str, problem: str) -> None:
    bank.environment[name] = value
    with pytest.raises(ConfigurationError, match=f"{name}.* {problem}"):
        bank.another_vault()
