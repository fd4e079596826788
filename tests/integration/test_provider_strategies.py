"""Access tokens that are followed by others without a refresh token: each strategy, with the rows that come with us."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent, follow
from vault import ConfigurationError, Connection, ConnectRefused, ReconnectRequired, RefreshPending, Status

SECRET = "cnry-cs-simulator"
SIGNED = {"request_token_uri": "request_token", "authorize_uri": "consent", "token_uri": "access_token"}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def private(key: Key) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def public(key: Key) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


CURVE = ec.generate_private_key(ec.SECP256R1())
PRIMES = rsa.generate_private_key(65537, 2048)
ANOTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """One whose clock nobody moves, since assertions are of the hour."""
    with SimulatorProcess(tmp_path_factory.mktemp("strategies") / "journal.jsonl") as process:
        yield process


def tell(house: House, table: str, **clients: str) -> None:
    """Add to the user's file, and to the environment, before anything reads them."""
    file = house.home / "providers.toml"
    file.write_text(f"{file.read_text()}\n{table}\n")
    for name, secret in clients.items():
        house.environment |= {
            f"VAULT_CLIENT_{name.upper()}_ID": "evergrant",
            f"VAULT_CLIENT_{name.upper()}_SECRET": secret,
        }


def addresses(house: House, name: str, **more: str) -> str:
    uri = {
        each: house.simulator.uri(house.far_side, endpoint)
        for each, endpoint in {
            "authorize_uri": "authorize",
            "token_uri": "token",
            "refresh_uri": "refresh",
            **more,
        }.items()
    }
    return f"[{name}]\n" + "\n".join(f'{field} = "{value}"' for field, value in uri.items())


def connect(house: House, name: str) -> Connection:
    start = house.vault.begin(name, owner="olga")
    said = consent(f"{start.url}&login_hint=olga")
    return house.vault.complete(state=said["state"], code=said["code"], parameters=said)


def api(house: House, connection: Connection) -> int:
    headers = house.vault.get(connection.id).headers()
    return requests.get(house.simulator.uri(house.far_side, "api"), headers=headers, timeout=10).status_code


def handed_over(house: House, name: str, **words: object) -> Connection:
    made = house.vault.store_oauth(name, owner="us", **words)  # type: ignore[arg-type]
    with pytest.raises(RefreshPending):
        house.another_vault(get_deadline_s=0.1).get(made.connection)
    assert house.worker.refresh_scan().refreshed == 1
    return house.vault.connection(made.connection)


# ----------------------------------------------------------------------------------------------------- our own requests


def test_our_registration_gets_a_token_for_itself_again_and_again(house: House) -> None:
    tell(
        house,
        f'[spotify_app]\ntoken_uri = "{house.simulator.uri(house.far_side, "token")}"',
        spotify_app=SECRET,
    )
    connection = handed_over(house, "spotify_app", scopes=["search"])
    assert (api(house, connection), connection.granted_scopes) == (200, ("search",))
    before = house.vault.get(connection.id).access_token
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.vault.get(connection.id).access_token != before


def test_a_service_account_speaks_for_somebody_with_a_key_of_its_own(house: House) -> None:
    house.simulator.configure(house.far_side, dialect={"keys": {"robot@acme.test": public(PRIMES)}})
    token_uri = house.simulator.uri(house.far_side, "token")
    tell(house, f'[google_service]\ntoken_uri = "{token_uri}"', google_service="unused")
    account = json.dumps(
        {
            "type": "service_account",
            "private_key": private(PRIMES),
            "private_key_id": "k1",
            "client_email": "robot@acme.test",
        }
    )
    connection = handed_over(
        house, "google_service", key=account, subject="olga@acme.test", scopes=["calendar", "mail"]
    )
    assert (api(house, connection), connection.granted_scopes) == (200, ("calendar", "mail"))
    sealed = house.sql("SELECT refresh_envelope FROM evergrant.oauth_grant")[0]["refresh_envelope"]
    assert b"PRIVATE KEY" not in sealed
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1


def test_a_server_signs_with_its_registration_s_key(house: House) -> None:
    house.simulator.configure(
        house.far_side, dialect={"keys": {"evergrant": public(PRIMES)}, "audience": "https://login.salesforce.com"}
    )
    table = f'[salesforce_server]\ntoken_uri = "{house.simulator.uri(house.far_side, "token")}"'
    tell(house, table, salesforce_server=private(PRIMES))
    connection = handed_over(house, "salesforce_server", subject="olga@acme.test")
    assert (api(house, connection), connection.account) == (200, None)


def test_an_assertion_that_is_refused_kills_no_grant_at_once(house: House) -> None:
    """Keys and clocks reach all of a provider's machines with some delay."""
    house.simulator.configure(house.far_side, dialect={"keys": {"evergrant": public(PRIMES)}})
    table = f'[salesforce_server]\ntoken_uri = "{house.simulator.uri(house.far_side, "token")}"'
    tell(house, table, salesforce_server=private(PRIMES))
    made = house.vault.store_oauth("salesforce_server", owner="us", subject="olga").connection
    house.simulator.configure(house.far_side, dialect={"keys": {"evergrant": public(CURVE)}})
    assert house.worker.refresh_scan().refreshed == 0
    assert house.state(made) == ("active", "invalid_grant")
    house.simulator.configure(house.far_side, dialect={"keys": {"evergrant": public(PRIMES)}})
    house.make_due(made)
    assert house.worker.refresh_scan().refreshed == 1


def test_a_connection_s_key_that_is_none_is_its_own_trouble_and_a_registration_s_is_ours(house: House) -> None:
    uri = house.simulator.uri(house.far_side, "token")
    tell(
        house,
        f'[google_service]\ntoken_uri = "{uri}"\n[salesforce_server]\ntoken_uri = "{uri}"',
        google_service="-",
        salesforce_server="no key",
    )
    bad = house.vault.store_oauth("google_service", owner="us", key="no key at all").connection
    ours = house.vault.store_oauth("salesforce_server", owner="us", subject="olga").connection
    house.worker.refresh_scan()
    assert house.state(bad) == ("needs_reconnect", "bad_private_key")
    assert house.state(ours) == ("active", "bad_private_key")
    with pytest.raises(ConfigurationError, match="a subject is for providers"):
        house.vault.store_oauth("acme", owner="us", refresh_token="rt", subject="olga")


# --------------------------------------------------------------------------------------------------------------- Apple


def test_apple_music_s_developer_token_is_minted_here_and_minted_again_before_it_ends(house: House) -> None:
    tell(house, '[apple_music.assertion]\nkey_id = "KEY1"', apple_music=private(CURVE))
    connection = handed_over(house, "apple_music")
    token = house.vault.get(connection.id)
    stated = jwt.decode(token.access_token.reveal(), ECKey.import_key(public(CURVE)), algorithms=["ES256"])
    assert stated.header == {"alg": "ES256", "typ": "JWT", "kid": "KEY1"}
    assert stated.claims["iss"] == "evergrant"
    assert stated.claims["exp"] - stated.claims["iat"] == DAY.total_seconds() <= 15_777_000
    assert "aud" not in stated.claims
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.vault.get(connection.id).access_token != token.access_token


def test_a_music_user_token_lives_until_somebody_reports_it_dead(house: House) -> None:
    tell(house, "", apple_music_user="-")
    made = house.vault.store_oauth("apple_music_user", owner="olga", access_token="music-user-token").connection
    assert house.vault.get(made).access_token.reveal() == "music-user-token"
    assert house.vault.connection(made).expires_at is not None, "unknown is not never"
    house.worker.refresh_scan()
    assert house.state(made)[0] == "active"
    house.vault.report_rejected(made)
    house.worker.refresh_scan()
    assert house.state(made) == ("needs_reconnect", "rejected")
    with pytest.raises(ReconnectRequired):
        house.vault.get(made)


def test_sign_in_with_apple_is_shown_a_minted_secret_and_asked_once_a_day(house: House) -> None:
    apple = "https://appleid.apple.com"
    house.simulator.configure(
        house.far_side, rotation={"mode": "non_rotating"},
        dialect={"keys": {"evergrant": public(CURVE)}, "audience": apple},
    )  # fmt: skip
    team = '[apple.assertion]\nissuer = "TEAM1"\nkey_id = "KEY1"'
    tell(
        house,
        f'{addresses(house, "apple")}\nissuer = "{house.simulator.base_uri}/{house.far_side}"\n{team}',
        apple=private(CURVE),
    )
    connection = connect(house, "apple")
    assert api(house, connection) == 200
    house.vault.report_rejected(connection.id)
    assert house.worker.refresh_scan().refreshed == 0, "too early"
    assert DAY - HOUR < house.row(connection.id)["wait"] <= DAY
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1


def test_a_client_shows_itself_by_a_signed_assertion(house: House) -> None:
    house.simulator.configure(
        house.far_side,
        dialect={"keys": {"evergrant": public(PRIMES)}, "audience": house.simulator.uri(house.far_side, "token")},
    )
    row = f'{addresses(house, "bank")}\nclient_auth = "private_key_jwt"\n[bank.assertion]\nalgorithm = "PS256"'
    tell(house, row, bank=private(PRIMES))
    connection = connect(house, "bank")
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1
    assert api(house, connection) == 200


# -------------------------------------------------------------------------------------------------------------- meta's


def test_instagram_s_token_is_lengthened_at_once_and_exchanged_when_it_is_old_enough(house: House) -> None:
    house.simulator.configure(
        house.far_side, rotation={"mode": "non_rotating", "access_token_life": 5_184_000}, client_auth="any",
        dialect={"grant_types": {"ig_exchange_token": "exchange", "ig_refresh_token": "exchange"}, "method": "GET",
                 "names": {"refresh_token": "access_token"}},
    )  # fmt: skip
    row = addresses(house, "instagram", lengthen_uri="token").replace('"instagram"', "")
    names = 'names = { refresh_token = "access_token" }'  # the simulator wants to know who asks at refreshes as well
    tell(
        house,
        "\n".join([row, "[instagram.refresh]", names, "[instagram.lengthen]", names]),
        instagram=SECRET,
    )
    connection = connect(house, "instagram")
    assert api(house, connection) == 200
    before = house.vault.get(connection.id).access_token
    first = next(each.access_token for each in house.oracle.answers("olga") if each.origin.provider == house.far_side)
    assert before.reveal() != first, "the short one was exchanged"
    house.vault.report_rejected(connection.id)
    assert house.worker.refresh_scan().refreshed == 0, "younger than a day it would be refused"
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.vault.get(connection.id).access_token != before
    house.simulator.kill_account(house.far_side, "olga")
    house.make_due(connection.id)
    house.worker.refresh_scan()
    assert house.vault.connection(connection.id).status is Status.NEEDS_RECONNECT


# --------------------------------------------------------------------------------------------------------- when to ask


def test_exact_online_is_never_asked_too_early(house: House) -> None:
    house.simulator.configure(house.far_side, rotation={"access_token_life": 600.0})
    tell(house, addresses(house, "exact_online"), exact_online=SECRET)
    connection = connect(house, "exact_online")
    assert house.row(connection.id)["wait"] >= timedelta(seconds=565)
    house.vault.report_rejected(connection.id)
    assert house.worker.refresh_scan().refreshed == 0
    assert [house.oracle.times_presented(each) for each in house.oracle.lineage("olga", house.far_side)] == [0]
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1


def test_twitch_is_asked_only_when_somebody_wants_a_token(house: House) -> None:
    tell(house, addresses(house, "twitch"), twitch=SECRET)
    connection = connect(house, "twitch")
    house.pass_time(timedelta(minutes=59), connection.id)
    assert house.worker.refresh_scan().refreshed == 0
    house.pass_time(2 * HOUR, connection.id)
    assert house.worker.refresh_scan().refreshed == 0
    with pytest.raises(RefreshPending):
        house.another_vault(get_deadline_s=0.1).get(connection.id)
    assert house.worker.refresh_scan().refreshed == 1
    assert api(house, connection) == 200


def test_an_idle_grant_is_kept_alive_also_where_nobody_refreshes_ahead(house: House) -> None:
    row = f"{addresses(house, 'lazy')}\nproactive = false\nidle_life_s = 864_000"
    tell(house, row, lazy=SECRET)
    connection = connect(house, "lazy")
    assert connection.grant_ends_at is not None
    house.pass_time(7 * DAY, connection.id)
    assert house.worker.refresh_scan().refreshed == 0
    house.pass_time(DAY, connection.id)
    assert house.worker.refresh_scan().refreshed == 1


# ---------------------------------------------------------------------------------------------------------- addresses


def test_a_shop_must_look_like_a_shop_wherever_it_is_named(house: House) -> None:
    tell(house, addresses(house, "shopify").replace(house.far_side, "{shop}"), shopify=SECRET)
    for wrong in ("evil.test/", "shop.evil", "SHOP", "", "a" * 64, "shop\n", "{shop}", "shop%2f"):
        with pytest.raises(ConnectRefused, match="variables"):
            house.vault.begin("shopify", owner="olga", variables={"shop": wrong})
    for given in ({}, {"shop": "acme", "other": "x"}):
        with pytest.raises(ConnectRefused, match="variable"):
            house.vault.begin("shopify", owner="olga", variables=given)
    url = house.vault.begin("shopify", owner="olga", variables={"shop": "acme"}).url
    assert urlsplit(url).path == "/acme/authorize"


def test_a_row_whose_addresses_have_changed_kills_no_grant(house: House) -> None:
    """That is the operator's to mend: the grant's own token lives, and nobody has refused it."""
    file, row = house.home / "providers.toml", addresses(house, "far").replace(house.far_side, "{shop}")
    tell(house, f'{row}\n[far.variables.shop]\npattern = "[a-z0-9-]+"', far=SECRET)
    said = consent(house.vault.begin("far", owner="olga", variables={"shop": house.far_side}).url)
    connection = house.vault.complete(state=said["state"], code=said["code"])
    was = file.read_text()
    file.write_text(was.replace('"[a-z0-9-]+"', '"shop-[0-9]+"'))
    changed = house.another_worker()
    house.pass_time(2 * HOUR, connection.id)
    for _ in range(7):
        house.make_due(connection.id)
        changed.refresh_scan()
    assert house.state(connection.id) == ("active", "no_address")
    file.write_text(was)
    house.make_due(connection.id)
    assert house.another_worker().refresh_scan().refreshed == 1


def test_the_redirect_names_the_data_centre_and_can_name_no_other_place(house: House) -> None:
    simulator = house.simulator
    row = addresses(house, "zoho").replace(f"{simulator.base_uri}/{house.far_side}", "{server}")
    anywhere = f'pattern = "{simulator.base_uri}/provider-[0-9a-f]+"\ndefault = "{simulator.base_uri}/provider-0"'
    tell(house, f"{row}\n[zoho.variables.server]\n{anywhere}", zoho=SECRET)
    simulator.configure("provider-0")
    there = f"{simulator.base_uri}/{house.far_side}"

    def come_back(server: str) -> Connection:
        start = house.vault.begin("zoho", owner="olga")
        said = consent(start.url.replace("/provider-0/", f"/{house.far_side}/"))
        return house.vault.complete(
            state=said["state"], code=said["code"], parameters=said | {"accounts-server": server}
        )

    connection = come_back(there)
    assert api(house, connection) == 200
    house.make_due(connection.id)
    assert house.worker.refresh_scan().refreshed == 1, "it is remembered"
    for elsewhere in ("https://evil.test", f"{there}.evil.test", f"{there}@evil.test", "http://127.0.0.1:1"):
        with pytest.raises(ConnectRefused, match="variables"):
            come_back(elsewhere)


# ---------------------------------------------------------------------------------------------------------- OAuth 1.0a


def test_requests_are_signed_where_tokens_are_not_shown(house: House) -> None:
    tell(house, f'{addresses(house, "discogs", **SIGNED)}\n[discogs.answer]\naccount = "user_id"', discogs=SECRET)
    start = house.vault.begin("discogs", owner="olga")
    back = {
        name: values[0] for name, values in parse_qs(urlsplit(follow(f"{start.url}&login_hint=olga")).query).items()
    }
    assert back["state"] == start.state
    connection = house.vault.complete(state=back["state"], parameters=back)
    assert connection.account == "olga"
    with house.vault.session(connection.id, house.simulator.base_uri) as session:
        answer = session.get(f"{house.far_side}/signed", params={"q": "blue note & more"})
    assert (answer.status_code, answer.json()) == (200, {"account": "olga"})
    with pytest.raises(ValueError, match="session"):
        house.vault.get(connection.id).headers()
    house.worker.refresh_scan()
    assert house.state(connection.id)[0] == "active"


def test_a_request_token_of_somebody_else_s_flow_is_refused(house: House) -> None:
    tell(
        house,
        addresses(
            house, "discogs", request_token_uri="request_token", authorize_uri="consent", token_uri="access_token"
        ),
        discogs=SECRET,
    )
    mine, theirs = (house.vault.begin("discogs", owner=owner) for owner in ("olga", "mallory"))
    stolen = {name: values[0] for name, values in parse_qs(urlsplit(follow(theirs.url)).query).items()}
    with pytest.raises(ConnectRefused, match="other_token"):
        house.vault.complete(state=mine.state, parameters=stolen)


def test_no_request_token_is_told_where_the_flow_begins(house: House) -> None:
    tell(
        house,
        addresses(
            house, "discogs", request_token_uri="request_token", authorize_uri="consent", token_uri="access_token"
        ),
        discogs="wrong secret",
    )
    with pytest.raises(ConnectRefused, match="exchange_refused"):
        house.vault.begin("discogs", owner="olga")


def test_lives_of_all_kinds_end_when_they_say(house: House) -> None:
    """Minted tokens too: nothing here lives longer than it was given."""
    tell(house, "", apple_music=private(ANOTHER))
    connection = handed_over(house, "apple_music")
    assert connection.expires_at is not None
    assert abs(connection.expires_at - datetime.now(UTC) - DAY) < timedelta(minutes=2)
