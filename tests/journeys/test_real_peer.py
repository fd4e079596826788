"""The whole journey at an authorization server that nobody here wrote: from discovery to the last goodbye."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.waiting import until
from tests.peers.oidc import CALLBACK, LIFE_S, OidcPeer, secret_of
from vault import (
    ConnectRefused,
    Maintenance,
    ReconnectRequired,
    Status,
    TokenKind,
    TokenRefused,
    Vault,
)
from vault.credentials.grants import refresh_token_id

ZERO = timedelta(0)


@pytest.fixture
def environment(database_url: str, redis_url: str, oidc_peer: OidcPeer, tmp_path: Path) -> dict[str, str]:
    """Settings with a provider's row as its documents have it, which say of themselves where they are."""
    said = oidc_peer.metadata
    (tmp_path / "providers.toml").write_text(
        f'[real]\nissuer = "{said["issuer"]}"\nauthorize_uri = "{said["authorization_endpoint"]}"\n'
        f'token_uri = "{said["token_endpoint"]}"\nrevoke_uri = "{said["revocation_endpoint"]}"\n'
        f'introspect_uri = "{said["introspection_endpoint"]}"\nrotation = "strict"\n'
        'authorize_parameters = { prompt = "consent" }\nscopes = ["openid", "offline_access", "read"]\n'
    )
    return {
        "VAULT_DATABASE_URL": database_url, "VAULT_REDIS_URL": redis_url, "VAULT_HOME": str(tmp_path),
        "VAULT_PROVIDERS": str(tmp_path / "providers.toml"), "VAULT_INSECURE_HOSTS": "127.0.0.1",
        "VAULT_CLIENT_REAL_ID": "evergrant", "VAULT_CLIENT_REAL_SECRET": secret_of("evergrant"),
        "VAULT_REDIRECT_URI": CALLBACK, "VAULT_INTROSPECTION_SHARE": "1",
    }  # fmt: skip


@pytest.fixture
def vault(environment: dict[str, str]) -> Iterator[Vault]:
    app = Vault.from_env(environment)
    yield app
    app.close()


@pytest.fixture
def worker(environment: dict[str, str]) -> Iterator[Maintenance]:
    maintenance = Maintenance.from_env(environment)
    yield maintenance
    maintenance.close()


def test_the_life_of_a_connection_at_a_real_peer(vault: Vault, worker: Maintenance, oidc_peer: OidcPeer) -> None:
    # The server says of itself that it can do what we rely on.
    assert oidc_peer.metadata["code_challenge_methods_supported"] == ["S256"]
    assert oidc_peer.metadata["authorization_response_iss_parameter_supported"]

    # Olga signs in there, agrees, and comes back; the code is exchanged with its verifier.
    start = vault.begin("real", owner="olga", browser="her session")
    assert "code_challenge_method=S256" in start.url
    answer = oidc_peer.consent(start.url, "olga")
    assert answer["iss"] == oidc_peer.issuer
    connection = vault.complete(state=answer["state"], code=answer["code"], browser="her session", issuer=answer["iss"])
    assert (connection.status, connection.missing_scopes) == (Status.ACTIVE, ())
    olga = connection.id

    # Its issuer says that the token is good, of whom, and for what.
    first = vault.get(olga)
    assert ZERO < first.ttl <= timedelta(seconds=LIFE_S)
    found = vault.validate(first.access_token, provider="real")
    assert (found.kind, found.subject, found.client_id) == (TokenKind.BEARER, "olga", "evergrant")
    assert "read" in found.scopes
    spent = vault.credential(refresh_token_id(olga), reason="to be stolen").value

    # It grows old; a worker refreshes it, and the refresh token with it.
    until(lambda: worker.overdue().rows == 1)
    assert worker.refresh_scan().refreshed == 1
    second = vault.get(olga)
    assert second.access_token != first.access_token
    assert vault.credential(refresh_token_id(olga)).value != spent
    assert oidc_peer.is_active(second.access_token.reveal())
    assert vault.validate_connection(olga).expires_at == second.expires_at

    # Olga takes it back: the secrets are gone at once, and the server is told.
    kept = vault.credential(refresh_token_id(olga)).value
    vault.disconnect(olga)
    with pytest.raises(ReconnectRequired, match="disconnected"):
        vault.get(olga)
    worker.refresh_scan()
    assert not oidc_peer.is_active(kept.reveal())
    with pytest.raises(TokenRefused, match="inactive"):
        vault.validate(second.access_token, provider="real")
    events = [row.event for row in worker.audit.tail(20) if row.connection_id == olga]
    assert events[-2:] == ["connection.disconnected", "connection.revoked"]


def test_a_refresh_token_that_somebody_stole_ends_the_grant_and_its_owner_gives_another(
    vault: Vault, worker: Maintenance, oidc_peer: OidcPeer
) -> None:
    start = vault.begin("real", owner="nina", browser="her session")
    answer = oidc_peer.consent(start.url, "nina")
    nina = vault.complete(state=answer["state"], code=answer["code"], browser="her session", issuer=answer["iss"]).id
    stolen = vault.credential(refresh_token_id(nina), reason="to be stolen").value
    until(lambda: worker.overdue().rows == 1)
    assert worker.refresh_scan().refreshed == 1
    token = vault.get(nina)

    # Whoever stole the one before uses it. The server sees it twice and ends the whole family.
    replayed = oidc_peer.post("token", grant_type="refresh_token", refresh_token=stolen.reveal())
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert not oidc_peer.is_active(token.access_token.reveal())
    with pytest.raises(TokenRefused, match="inactive"):
        vault.validate(token.access_token, provider="real")

    # The next refresh finds out: the connection is flagged with the reason, not silently dead.
    until(lambda: worker.overdue().rows == 1)
    assert worker.refresh_scan().refreshed == 0
    gone = vault.connection(nina)
    assert (gone.status, gone.reason) == (Status.NEEDS_RECONNECT, "invalid_grant")

    # Nina gives it anew, in place.
    start = vault.begin("real", owner="nina", browser="her session", reconnect=nina)
    answer = oidc_peer.consent(start.url, "nina")
    again = vault.complete(state=answer["state"], code=answer["code"], browser="her session", issuer=answer["iss"])
    assert (again.id, again.status) == (nina, Status.ACTIVE)
    assert oidc_peer.is_active(vault.get(nina).access_token.reveal())


def test_a_code_is_good_once_for_the_browser_it_was_meant_for_and_from_the_issuer_it_came_from(
    vault: Vault, oidc_peer: OidcPeer
) -> None:
    def come_back() -> dict[str, str]:
        return oidc_peer.consent(vault.begin("real", owner="oleg", browser="his session").url, "oleg")

    answer = come_back()
    with pytest.raises(ConnectRefused, match="other_browser"):
        vault.complete(state=answer["state"], code=answer["code"], browser="hers", issuer=answer["iss"])
    answer = come_back()
    with pytest.raises(ConnectRefused, match="other_issuer"):
        vault.complete(
            state=answer["state"], code=answer["code"], browser="his session", issuer="https://elsewhere.example"
        )
    first, second = come_back(), come_back()
    made = vault.complete(state=second["state"], code=second["code"], browser="his session", issuer=second["iss"])
    with pytest.raises(ConnectRefused, match="exchange_refused"):  # another flow's code: its verifier is another
        vault.complete(state=first["state"], code=second["code"], browser="his session", issuer=first["iss"])
    assert vault.connection(made.id).status is Status.ACTIVE
