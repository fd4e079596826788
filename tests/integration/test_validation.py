"""Tokens that are presented to an app: sessions by rules, connections with a refresh, others' at a real issuer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.integration.house import House
from tests.peers.oidc import OidcPeer, secret_of
from tests.simulator import SimulatorProcess
from tests.support.receiver import Receiver, slowly, status
from vault import (
    ConfigurationError,
    ReconnectRequired,
    RefreshPending,
    TokenKind,
    TokenRefused,
    UnknownConnection,
    ValidationUnavailable,
    Vault,
)

ZERO, MINUTE = timedelta(0), timedelta(minutes=1)
RULES = """
[listen]
method = "GET /v1/tracks/*"
any = ["read", "admin"]

[change]
method = "POST /v1/tracks/*"
all = ["read", "write"]
subscription = "plus"

[look]
method = "tracks.look"
any = ["read"]
refresh = false

[anybody]
method = "ping"
"""
LISTEN, CHANGE = "GET /v1/tracks/7", "POST /v1/tracks/7"


@pytest.fixture
def house(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    """A house with rules."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    environment = {"VAULT_SESSION_ROUNDS": "4", "VAULT_SCOPE_RULES": str(rules)}
    built = House(database_url, simulator, tmp_path)
    built.environment.update(environment)
    yield built
    built.close()


def look(vault: Vault, token: str, **words: Any) -> str:
    """``good``, ``cached``, or why it is refused; what nobody can say now begins with a question mark."""
    try:
        return "cached" if vault.validate(token, **words).cached else "good"
    except TokenRefused as refusal:
        return refusal.reason
    except ValidationUnavailable as unknown:
        return f"? {unknown.reason}"


# ------------------------------------------------------------------------------------------------------------- sessions


@pytest.mark.parametrize(
    ("scopes", "level", "method", "expected"),
    [
        (["read"], "free", LISTEN, "good"), (["admin"], "free", LISTEN, "good"), (["write"], "free", LISTEN, None),
        ([], "pro", "ping", "good"), ([], "pro", None, "good"), (["read"], "pro", CHANGE, "insufficient_scope"),
        (["read", "write"], "free", CHANGE, "insufficient_subscription"), (["read", "write"], "plus", CHANGE, "good"),
        (["read", "write"], "pro", CHANGE, "good"), (["read"], "pro", "DELETE /v1/tracks/7", "no_rule"),
    ],
)  # fmt: skip
def test_a_session_must_bring_what_the_rule_of_a_method_says(
    house: House, scopes: list[str], level: str, method: str | None, expected: str | None
) -> None:
    made = house.vault.create_session("olga", scopes=scopes, subscription=level)
    assert look(house.vault, made.token.reveal(), method=method) == (expected or "insufficient_scope")


def test_a_refusal_says_who_is_to_act_what_to_answer_and_what_is_missing(house: House) -> None:
    made = house.vault.create_session("olga", scopes=["write"])
    with pytest.raises(TokenRefused) as refused:
        house.vault.validate(made.token, method=CHANGE)
    refusal = refused.value
    assert (refusal.who, refusal.code, refusal.missing) == ("user", "insufficient_scope", ("read",))
    assert "read" in str(refusal)
    assert made.token.reveal() not in str(refusal)
    with pytest.raises(TokenRefused) as refused:
        house.vault.validate(made.token, method="nobody.thought.of")
    assert (refused.value.reason, refused.value.who) == ("no_rule", "operator")
    with pytest.raises(TokenRefused) as refused:
        house.vault.validate("evs_unknown")
    assert (refused.value.who, refused.value.code) == ("user", "invalid_token")


def test_a_good_session_says_whose_it_is(house: House) -> None:
    made = house.vault.create_session("olga", scopes=["read"], subscription="plus")
    found = house.vault.validate(made.token, method=LISTEN)
    assert (found.kind, found.subject, found.scopes) == (TokenKind.SESSION, "olga", ("read",))
    assert (found.subscription, found.session_id, found.expires_at) == (
        made.session.subscription,
        made.session.id,
        made.session.expires_at,
    )


def test_what_is_wrong_with_rules_is_said_when_a_process_starts(house: House) -> None:
    (house.home / "rules.toml").write_text('[a]\nmethod = "x"\nsubscription = "gold"\n')
    with pytest.raises(ConfigurationError, match=r"scope rule file .*rules\.toml: a: subscription"):
        house.another_vault()


def test_a_token_in_hand_is_served_on_while_the_database_is_away(house: House) -> None:
    vault = house.vault
    token = vault.create_session("olga").token.reveal()
    assert look(vault, token) == "good"
    house.sql("ALTER TABLE evergrant.user_sessions RENAME TO away")
    assert look(vault, token) == "cached"
    house.sql("ALTER TABLE evergrant.away RENAME TO user_sessions")


# ---------------------------------------------------------------------------------------------------------- connections


def test_a_connection_is_good_for_what_its_owner_granted(house: House) -> None:
    olga = house.connect("olga", scopes=["read"])
    found = house.vault.validate_connection(olga, method=LISTEN)
    assert (found.kind, found.subject, found.connection_id) == (TokenKind.CONNECTION, "olga", olga)
    assert found.expires_at == house.vault.get(olga).expires_at
    with pytest.raises(TokenRefused) as refused:
        house.vault.validate_connection(olga, method=CHANGE)
    assert refused.value.missing == ("write",)
    for nobody in (uuid4(), "no id"):
        with pytest.raises(UnknownConnection):
            house.vault.validate_connection(nobody)


def test_a_token_near_its_end_is_asked_to_be_refreshed_where_the_rule_lets_it(house: House) -> None:
    vault = house.another_vault(inline_refresh=True)
    olga = house.connect("olga", scopes=["read"])
    house.pass_time(timedelta(minutes=59, seconds=30))
    kept = vault.validate_connection(olga, method="tracks.look")
    assert house.arrivals(olga) == 0
    found = vault.validate_connection(olga, method=LISTEN)
    assert house.arrivals(olga) == 1
    assert kept.expires_at is not None
    assert found.expires_at is not None
    assert found.expires_at - kept.expires_at > timedelta(minutes=59)
    house.pass_time(timedelta(minutes=61))
    with pytest.raises(TokenRefused, match="expired"):
        vault.validate_connection(olga, method="tracks.look")
    assert house.arrivals(olga) == 1


def test_without_workers_a_dead_token_is_asked_for_and_nobody_calls_it_bad(house: House) -> None:
    vault = house.another_vault(get_deadline_s=0.1)
    olga = house.connect("olga", scopes=["read"])
    house.pass_time(timedelta(minutes=61))
    with pytest.raises(RefreshPending):
        vault.validate_connection(olga, method=LISTEN)
    assert house.row(olga)["urgent"], "a worker will find it"
    vault.disconnect(olga)
    for method in (LISTEN, "tracks.look"):
        with pytest.raises(ReconnectRequired):
            vault.validate_connection(olga, method=method)
    assert vault.statistics().validations.by_outcome == {"pending": 1, "reconnect": 2}


# --------------------------------------------------------------------------------------------------------------- others


@pytest.fixture
def issuer(house: House, oidc_peer: OidcPeer) -> OidcPeer:
    """The real issuer, in the registry as ``real``; a look in five asks again."""
    (house.home / "real.toml").write_text(
        f'[real]\nissuer = "{oidc_peer.issuer}"\nauthorize_uri = "{oidc_peer.metadata["authorization_endpoint"]}"\n'
        f'token_uri = "{oidc_peer.metadata["token_endpoint"]}"\n'
        f'introspect_uri = "{oidc_peer.metadata["introspection_endpoint"]}"\n'
    )
    house.environment["VAULT_PROVIDERS"] += f",{house.home / 'real.toml'}"
    house.environment |= {"VAULT_CLIENT_REAL_ID": "evergrant", "VAULT_CLIENT_REAL_SECRET": secret_of("evergrant")}
    house.environment["VAULT_INTROSPECTION_SHARE"] = "0.2"
    return oidc_peer


def test_a_token_of_a_real_issuer_is_good_until_it_is_revoked_there(house: House, issuer: OidcPeer) -> None:
    token = issuer.issue("read write")
    found = house.vault.validate(token, provider="real", method=LISTEN)
    assert (found.kind, found.client_id, found.scopes) == (TokenKind.BEARER, "app", ("read", "write"))
    assert found.expires_at is not None
    assert not found.cached
    issuer.revoke(token)
    ends = [look(house.vault, token, provider="real") for _ in range(6)]
    first = ends.index("inactive")
    assert first <= 5, "a look in five asks again"
    assert set(ends[:first]) <= {"cached"}
    assert set(ends[first:]) == {"inactive"}
    assert look(house.another_vault(), token, provider="real") == "inactive"


@pytest.mark.parametrize("token", ["nonsense", "a" * 8192, "x&token=y", "%00", "a=b&active=true", "{}", "'\";--"])
def test_what_a_real_issuer_does_not_know_is_refused(house: House, issuer: OidcPeer, token: str) -> None:
    assert look(house.vault, token, provider="real") == "inactive"


@pytest.mark.parametrize("token", ["", "a b", "a" * 8193, "a\r\nX: y", "a\0b", "\ud800", "ü"], ids=repr)
def test_what_cannot_be_a_token_is_asked_of_nobody(house: House, issuer: OidcPeer, token: str) -> None:
    vault = house.another_vault(introspection_deadline_s=0.001)
    assert look(vault, token, provider="real") == "malformed"


def test_rules_hold_for_tokens_of_others_too(house: House, issuer: OidcPeer) -> None:
    token = issuer.issue("read")
    assert look(house.vault, token, provider="real", method=LISTEN) == "good"
    assert look(house.vault, token, provider="real", method="nobody.thought.of") == "no_rule"
    assert look(house.vault, token, provider="real", method=CHANGE) == "insufficient_scope"
    both = issuer.issue("read write")
    assert look(house.vault, both, provider="real", method=CHANGE) == "insufficient_subscription"
    assert look(house.vault, token, provider="real", audience="https://music.example") == "other_audience"


def test_a_wrong_secret_of_ours_makes_no_token_bad_and_the_other_one_is_shown(house: House, issuer: OidcPeer) -> None:
    token = issuer.issue()
    right, house.environment["VAULT_CLIENT_REAL_SECRET"] = secret_of("evergrant"), "cnry-cs-wrong"
    assert look(house.another_vault(), token, provider="real") == "? client_refused"
    house.environment["VAULT_CLIENT_REAL_SECRET_FORMER"] = right
    assert look(house.another_vault(), token, provider="real") == "good"


def test_while_a_real_issuer_is_away_its_last_word_counts(house: House) -> None:
    with OidcPeer() as mortal:
        endpoints = {name: mortal.metadata[f"{name}_endpoint"] for name in ("authorization", "token", "introspection")}
        (house.home / "real.toml").write_text(
            f'[real]\nauthorize_uri = "{endpoints["authorization"]}"\ntoken_uri = "{endpoints["token"]}"\n'
            f'introspect_uri = "{endpoints["introspection"]}"\n'
        )
        house.environment["VAULT_PROVIDERS"] += f",{house.home / 'real.toml'}"
        secret = secret_of("evergrant")
        vault = Vault.from_env(
            {**house.environment, "VAULT_CLIENT_REAL_ID": "evergrant", "VAULT_CLIENT_REAL_SECRET": secret},
            introspection_share=1.0,
        )
        known, new = mortal.issue(), mortal.issue()
        assert look(vault, known, provider="real") == "good"
        mortal.stop()
        assert look(vault, known, provider="real") == "cached"
        assert look(vault, new, provider="real") == "? connect"
    vault.close()


@pytest.fixture
def broken(house: House) -> Iterator[Receiver]:
    """An issuer that is told how to misbehave, in the registry as ``broken``."""
    with Receiver() as there:
        (house.home / "broken.toml").write_text(
            f'[broken]\nauthorize_uri = "{there.url("/a")}"\ntoken_uri = "{there.url("/t")}"\n'
            f'introspect_uri = "{there.url("/introspect")}"\n'
        )
        house.environment["VAULT_PROVIDERS"] += f",{house.home / 'broken.toml'}"
        house.environment |= {"VAULT_CLIENT_BROKEN_ID": "ours", "VAULT_CLIENT_BROKEN_SECRET": "cnry-cs-x"}
        yield there


def test_an_issuer_that_takes_too_long_is_not_waited_for(house: House, broken: Receiver) -> None:
    broken.answers["/introspect"] = slowly(3.0)
    vault = house.another_vault(introspection_deadline_s=0.2)
    assert look(vault, "t", provider="broken") == "? timeout"


def test_an_address_that_may_not_be_reached_is_asked_nothing(house: House, broken: Receiver) -> None:
    vault = house.another_vault(insecure_hosts=())
    assert look(vault, "t", provider="broken") == "? refused_uri"
    assert broken.received == []


def test_many_looks_at_once_ask_an_issuer_once(house: House, broken: Receiver) -> None:
    broken.answers["/introspect"] = status(200, b'{"active": true}')
    with ThreadPoolExecutor(8) as threads:
        found = sorted(threads.map(lambda _: look(house.vault, "t", provider="broken"), range(8)))
    assert found == [*["cached"] * 7, "good"]
    assert len(broken.received) == 1


# -------------------------------------------------------------------------------------------------------------- figures


def test_every_validation_is_counted_in_the_figures_of_its_tenant(house: House) -> None:
    vault, other = house.vault, house.vault.for_tenant("other")
    token = vault.create_session("olga").token.reveal()
    assert [look(vault, token) for _ in range(3)] == ["good", "cached", "cached"]
    look(vault, "evs_nobody's"), look(other, token), look(vault, token, method="nobody.thought.of")
    counted = vault.statistics().validations
    assert (counted.valid, counted.refused, counted.undecided) == (3, 2, 0)
    assert counted.by_outcome == {"valid": 3, "no_rule": 1, "unknown": 1}
    assert counted.by_kind == {"session": 5}
    assert other.statistics().validations.by_outcome == {"unknown": 1}
    assert sum(house.worker.statistics().validations.by_outcome.values()) == 6
    house.worker.fold_statistics()
    assert house.worker.recount_statistics() == [], "nobody can count them anew, so nobody mends them"
    assert vault.statistics().validations == counted
    look(vault, token)
    vault.close()
    assert house.worker.statistics("default").validations.valid == 4, "what is not handed in yet is when it closes"


def test_figures_that_cannot_be_handed_in_are_kept_and_keep_nobody_from_anything(house: House) -> None:
    vault = house.vault
    token = vault.create_session("olga").token.reveal()
    house.sql("ALTER FUNCTION evergrant.tally_validations RENAME TO away")
    vault._wiring.validation.counts.hand_in()
    assert look(vault, token) == "good"
    vault._wiring.validation.counts.hand_in()
    house.sql("ALTER FUNCTION evergrant.away RENAME TO tally_validations")
    assert vault.statistics().validations.valid == 1


def test_roles_of_processes_may_hand_in_figures_and_write_none(house: House) -> None:
    role = f"web_{uuid4().hex[:8]}"
    with psycopg.connect(house.database_url, autocommit=True) as session:
        session.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        try:
            house.worker.grant_rights(role, "web")
            session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            hand_in = (
                "SELECT evergrant.tally_validations(ARRAY[%s, 'a'], ARRAY['b', 'b'], ARRAY['c', 'c'], ARRAY[7, -1])"
            )
            session.execute(hand_in, ("*",))
            session.execute(hand_in, ("mine",))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("INSERT INTO evergrant.tally_change SELECT '', '', '', '', '', 1")
            session.execute("RESET ROLE")
            found = session.execute("SELECT tenant, what, amount FROM evergrant.tally_change").fetchall()
            assert found == [("mine", "validation", 7)], "nothing can be taken away, and nothing told of all tenants"
        finally:
            session.execute("RESET ROLE")
            session.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
