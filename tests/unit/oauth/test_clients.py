"""Who we are at each provider: environment and store merged, looked at now and then, and secrets that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.support.fake_keys import Rig
from vault.egress.once import Http
from vault.egress.rules import Egress
from vault.engine.identities import Identities
from vault.engine.registrations import sealed
from vault.errors import StoreUnavailable, UnknownProvider, VaultError
from vault.events import EventType, Fact
from vault.oauth.clients import LOOK_EVERY, REFUSAL_LIFE, ClientRegistry
from vault.oauth.discovery import Discovery
from vault.oauth.providers import FileProviders
from vault.ports import StoredClient
from vault.provider import Client, Provider, TlsIdentity
from vault.secret import Secret

MOMENT = timedelta(seconds=1)


class FakeStore:
    """The registrations of a database that may be away."""

    def __init__(self) -> None:
        self.rows: list[StoredClient] = []
        self.away: VaultError | None = None
        self.looks = 0
        self.told: list[Fact] = []

    def tell(self, facts: Sequence[Fact]) -> None:
        if self.away:
            raise self.away
        self.told += facts

    def clients(self) -> Sequence[StoredClient]:
        self.looks += 1
        if self.away:
            raise self.away
        return list(self.rows)


NOWHERE = Discovery(Http(Egress(), timedelta(seconds=1)), lambda: 0.0)
"""Nobody is to be asked here."""


class NoCertificates(Identities):
    """For registrations without any."""

    def __init__(self) -> None: ...

    def read(self, certificate_id: UUID, known: TlsIdentity | None) -> TlsIdentity:
        raise AssertionError(certificate_id, known)


class Scene:
    """A registry over fakes, and time."""

    def __init__(self, **environment: Client) -> None:
        self.rig, self.store = Rig(), FakeStore()
        self.environment = environment
        self.registry = self.another_process()

    def another_process(self) -> ClientRegistry:
        files = FileProviders([], self.environment)
        return ClientRegistry(files, self.store, self.rig.another_process(), NoCertificates(), NOWHERE, self.rig.clock)

    def keep(self, generation: int, client: Client, provider: str = "google") -> None:
        """Put a registration into the store, or new secrets into one that is there."""
        row_id = UUID(int=generation)
        before = [row for row in self.store.rows if row.id == row_id]
        version = 1 + (before[0].version if before else 0)
        row = StoredClient(row_id, provider, generation, client.client_id, version, row_id, None, None)
        self.store.rows = [row for row in self.store.rows if row.id != row_id]
        self.store.rows.append(sealed(self.rig.keyring, row, client))

    def look(self) -> Provider:
        """Google after the next look."""
        self.rig.clock.pass_by(LOOK_EVERY + MOMENT)
        self.registry.look()
        return self.registry.get("google")


def client(name: str, secret: str | None = None, other: str | None = None) -> Client:
    return Client(name, Secret(secret) if secret else None, Secret(other) if other else None)


def shown(provider: Provider) -> list[tuple[str, str | None, str | None]]:
    """Every registration with its secrets, the current one first."""

    def told(secret: Secret | None) -> str | None:
        return None if secret is None else secret.reveal()

    found = [each.client for each in (provider, *provider.former) if each.client]
    return [(each.client_id, told(each.client_secret), told(each.other_secret)) for each in found]


# ------------------------------------------------------------------------------------------------------------- merging


def test_what_the_environment_says_is_known_without_asking_anybody() -> None:
    scene = Scene(google=client("a", "s"), atlassian=client("b"))
    assert shown(scene.registry.get("google")) == [("a", "s", None)]
    assert [each.name for each in scene.registry.all()] == ["atlassian", "google"]
    assert scene.registry.get("xero").client is None
    with pytest.raises(UnknownProvider, match="known: airtable"):
        scene.registry.get("acme")
    assert scene.store.looks == 0
    assert not scene.rig.kms.calls


def test_the_newest_of_the_store_is_current_and_the_others_serve_their_grants() -> None:
    scene = Scene()
    for generation, name in enumerate(("a", "b", "c"), start=1):
        scene.keep(generation, client(name, f"of {name}"))
    google = scene.look()
    assert shown(google) == [("c", "of c", None), ("b", "of b", None), ("a", "of a", None)]
    for name in ("a", "b", "c"):
        asked_as = google.asking_as(name).client
        assert asked_as is not None
        assert asked_as.client_id == name
        assert google.asking_as(name) is google.asking_as(name), "made once"
    assert google.asking_as("nobody's") is google
    assert [each.name for each in scene.registry.all()] == ["google"]


def test_the_environment_is_current_whatever_the_store_has() -> None:
    scene = Scene(google=client("a", "s"))
    scene.keep(1, client("b", "t", "u"))
    assert shown(scene.look()) == [("a", "s", None), ("b", "t", "u")]


@pytest.mark.parametrize(
    ("environment", "stored", "together"),
    [
        (("s", None), ("t", None), ("s", "t")),
        (("s", None), ("s", None), ("s", None)),
        (("s", None), ("s", "t"), ("s", "t")),
        (("s", "former"), ("t", None), ("s", "t")),
        (("s", "former"), ("s", None), ("s", "former")),
        ((None, None), ("t", "u"), ("t", "u")),
        (("s", None), (None, None), ("s", None)),
        ((None, None), (None, None), (None, None)),
    ],
)
def test_of_one_client_in_both_the_environment_s_secret_comes_first(
    environment: Any, stored: Any, together: Any
) -> None:
    scene = Scene(google=client("a", *environment))
    scene.keep(1, client("a", *stored))
    assert shown(scene.look()) == [("a", *together)]


def test_an_unknown_provider_is_a_warning_told_once() -> None:
    scene = Scene()
    scene.keep(1, client("a", "s"), provider="gone")
    with capture_logs() as logs:
        scene.look()
        scene.keep(2, client("b", "s"))
        assert shown(scene.look()) == [("b", "s", None)]
    assert [each["log_level"] for each in logs if each["event"] == "clients.unknown_provider"] == ["warning"]


# ------------------------------------------------------------------------------------------------------------- looking


def test_a_look_is_one_query_every_half_minute_and_opens_only_what_has_changed() -> None:
    scene = Scene()
    scene.keep(1, client("a", "s"))
    before = scene.look()
    for _ in range(100):
        scene.registry.look()
    assert scene.store.looks == 1
    scene.rig.kms.unavailable(transient=True)
    scene.rig.clock.pass_by(timedelta(minutes=10))  # keys have left the cache: whatever is opened would fail
    with capture_logs() as logs:
        assert scene.look() is before
    assert logs == []
    scene.rig.kms.recover()
    scene.keep(1, client("a", "new", "s"))
    assert shown(scene.look()) == [("a", "new", "s")]
    scene.store.rows.clear()
    assert shown(scene.look()) == []
    assert scene.registry.all() == ()


def test_a_look_at_once_does_not_wait_for_its_time() -> None:
    scene = Scene()
    scene.look()
    scene.keep(1, client("a", "s"))
    scene.registry.look(at_once=True)
    assert shown(scene.registry.get("google")) == [("a", "s", None)]


@pytest.mark.parametrize(
    "error", [StoreUnavailable("db", "refused"), ValueError("whatever it is")], ids=["ours", "any"]
)
def test_while_the_database_is_away_what_is_known_stays(error: Any) -> None:
    scene = Scene()
    scene.keep(1, client("a", "s"))
    before = scene.look()
    with capture_logs() as logs:
        scene.store.away = error
        assert scene.look() is before
        assert scene.look() is before
        scene.store.away = None
        scene.look()
        scene.look()
    assert [(each["event"], each["what"]) for each in logs] == [
        ("clients.unavailable", "registrations"),
        ("clients.available", "registrations"),
    ]


def test_while_the_kms_is_away_the_secret_before_stays_and_what_was_never_opened_is_not_asked_as() -> None:
    scene = Scene()
    scene.keep(1, client("a", "s"))
    scene.look()
    scene.keep(1, client("a", "t"))
    scene.keep(2, client("b", "u"))
    scene.rig.kms.unavailable(transient=True)
    scene.rig.clock.pass_by(timedelta(minutes=10))
    with capture_logs() as logs:
        scene.look()
        google = scene.look()
    assert shown(google) == [("a", "s", None)]
    assert google.locked == {"b"}
    assert [each["what"] for each in logs] == ["google a", "google b"]
    cold = scene.another_process()
    cold.look()
    assert cold.all() == ()
    assert cold.get("google").locked == {"a", "b"}
    scene.rig.kms.recover()
    with capture_logs() as logs:
        google = scene.look()
    assert shown(google) == [("b", "u", None), ("a", "t", None)]
    assert google.locked == google.former[0].locked == frozenset()
    assert [each["event"] for each in logs] == ["clients.available"] * 2


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_refused_secret_gives_way_to_the_other_once_for_all_that_were_in_flight() -> None:
    scene = Scene(google=client("a", "new", "old"))
    in_flight = scene.registry.get("google")
    with capture_logs() as logs:
        assert [scene.registry.refused(in_flight) for _ in range(5)] == [True] * 5
    assert shown(scene.registry.get("google")) == [("a", "old", "new")]
    assert [(each["event"], each["instead"]) for each in logs] == [("client.secret_refused", "other")]
    assert "new" not in str(logs)


def test_when_both_are_refused_there_is_nothing_left_for_half_an_hour() -> None:
    scene = Scene(google=client("a", "new", "old"))
    first = scene.registry.get("google")
    assert scene.registry.refused(first)
    second = scene.registry.get("google")
    with capture_logs() as logs:
        assert not scene.registry.refused(second)
        assert not scene.registry.refused(second)
        assert not scene.registry.refused(first), "of one that was on its way"
    assert [each["instead"] for each in logs] == ["nothing"]
    assert scene.registry.get("google") is second
    scene.rig.clock.pass_by(REFUSAL_LIFE + MOMENT)
    assert scene.registry.refused(second)
    assert shown(scene.registry.get("google")) == [("a", "new", "old")]


def test_a_single_secret_that_is_refused_is_told_once_in_half_an_hour() -> None:
    scene = Scene(google=client("a", "only"))
    google = scene.registry.get("google")
    with capture_logs() as logs:
        assert not any(scene.registry.refused(google) for _ in range(5))
        scene.rig.clock.pass_by(REFUSAL_LIFE + MOMENT)
        assert not scene.registry.refused(google)
    assert [each["instead"] for each in logs] == ["nothing"] * 2


def test_a_public_client_and_a_provider_without_one_have_no_secret_to_refuse() -> None:
    scene = Scene(google=client("a"))
    with capture_logs() as logs:
        assert not scene.registry.refused(scene.registry.get("google"))
        assert not scene.registry.refused(scene.registry.get("xero"))
    assert logs == []


def test_a_refusal_is_one_registration_s_own_and_outlives_a_look_until_its_secrets_change() -> None:
    scene = Scene()
    scene.keep(1, client("a", "s", "t"))
    scene.keep(2, client("b", "u", "v"))
    google = scene.look()
    assert scene.registry.refused(google.asking_as("a"))
    assert shown(scene.registry.get("google")) == [("b", "u", "v"), ("a", "t", "s")]
    scene.keep(3, client("c", "w"))
    assert shown(scene.look()) == [("c", "w", None), ("b", "u", "v"), ("a", "t", "s")]
    scene.keep(1, client("a", "x", "t"))
    assert shown(scene.look())[-1] == ("a", "x", "t")
    assert scene.registry.refused(google.asking_as("a")), "of one in flight: a new one is in use by now"


def test_no_secret_shows_in_what_a_provider_says_of_itself() -> None:
    scene = Scene(google=client("a", "sEcReT", "oThEr"))
    said = f"{scene.registry.get('google')!r} {scene.registry!r}"
    assert "sEcReT" not in said
    assert "oThEr" not in said


def test_operators_are_told_of_a_refused_secret_at_the_next_look_and_every_process_tells_the_same() -> None:
    scene = Scene(google=client("ours", "old", "new"))
    facts = []
    for registry in (scene.registry, scene.another_process()):
        assert registry.refused(registry.get("google"))
        scene.store.away = StoreUnavailable("db", "refused")
        registry.look()
        assert scene.store.told == []
        scene.store.away = None
        registry.look()
        registry.look()
        facts.append(scene.store.told)
        scene.store.told = []
    assert facts[0] == facts[1]
    [fact] = facts[0]
    assert (fact.tenant, fact.type) == ("*", EventType.CLIENT_SECRET_REFUSED)
    assert fact.data == {"provider": "google", "client_id": "ours", "instead": "other"}
    assert "old" not in fact.key
