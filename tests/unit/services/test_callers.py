"""Whose a key is: asked for once in a while, judged each time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from vault.api_keys import ApiKey, FoundKey, digest_of
from vault.errors import ApiKeyRefused, ConfigurationError
from vault.ports import Flow, Ticket
from vault.services.api_keys import KeyKeeping
from vault.services.callers import REMEMBERED, Callers

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
KEY, OTHER = "egk_" + "a" * 43, "egk_" + "b" * 43


class Store:
    """Keys in a dict, and how often they were asked for."""

    def __init__(self) -> None:
        self.found: dict[bytes, FoundKey] = {}
        self.asked = 0

    def put(self, text: str, left: timedelta | None = None, revoked_at: datetime | None = None) -> None:
        key = ApiKey(uuid4(), "a", "test", ("tokens:read",), BEGAN, None, revoked_at, None)
        self.found[digest_of(text)] = FoundKey(key, left)

    def find_key(self, digest: bytes) -> FoundKey | None:
        self.asked += 1
        return self.found.get(digest)

    def add_key(self, key: ApiKey, digest: bytes, life: timedelta | None) -> ApiKey:
        self.found[digest] = FoundKey(key, life)
        return key

    def keys(self, tenant: str | None) -> list[ApiKey]:
        return []

    def revoke_key(self, key_id: object) -> None: ...

    def keys_used(self, key_ids: object) -> None: ...


class Flows:
    """None."""

    def add_ticket(self, digest: bytes, ticket: Ticket, life: timedelta) -> None: ...

    def take_ticket(self, digest: bytes) -> None: ...

    def flow(self, state_digest: bytes) -> Flow | None: ...


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(store: Store, clock: Clock) -> Callers:
    return Callers(store, Flows(), life=timedelta(seconds=5), monotonic=clock, new_token=lambda: "t")


def test_a_key_is_asked_for_once_in_its_time_at_hand(callers: Callers, store: Store, clock: Clock) -> None:
    store.put(KEY)
    assert callers.caller_at_hand(KEY) is None
    for _ in range(3):
        assert callers.caller(KEY).tenant == "a"
    assert callers.caller_at_hand(KEY) is not None
    assert store.asked == 1
    clock.now += 5.1
    assert callers.caller_at_hand(KEY) is None
    callers.caller(KEY)
    assert store.asked == 2


def test_what_is_no_key_is_asked_of_nobody_and_what_is_unknown_rarely(callers: Callers, store: Store) -> None:
    for text in ("", "egk_", KEY + "a", KEY[:-1] + "!", "sk_" + "a" * 43, KEY[:-1] + "\n"):
        with pytest.raises(ApiKeyRefused, match="unknown"):
            callers.caller(text)
    assert store.asked == 0
    for _ in range(3):
        with pytest.raises(ApiKeyRefused, match="unknown"):
            callers.caller(OTHER)
    assert store.asked == 1


def test_guessing_pushes_no_key_out(callers: Callers, store: Store) -> None:
    store.put(KEY)
    callers.caller(KEY)
    for number in range(REMEMBERED + 10):
        with pytest.raises(ApiKeyRefused):
            callers.caller(f"egk_{number:043d}")
    assert callers.caller_at_hand(KEY) is not None


def test_a_key_at_hand_ends_to_the_moment(callers: Callers, store: Store, clock: Clock) -> None:
    store.put(KEY, left=timedelta(seconds=2))
    callers.caller(KEY)
    clock.now += 1.9
    assert callers.caller_at_hand(KEY)
    clock.now += 0.2
    with pytest.raises(ApiKeyRefused, match="expired"):
        callers.caller_at_hand(KEY)


def test_a_revoked_key_is_told_as_such(callers: Callers, store: Store) -> None:
    store.put(KEY, revoked_at=BEGAN)
    with pytest.raises(ApiKeyRefused, match="revoked"):
        callers.caller(KEY)


def test_scopes_allow_what_they_say_and_admin_nothing_beyond_its_tenant() -> None:
    key = ApiKey(uuid4(), "a", "n", ("tokens:read",), BEGAN, None, None, None)
    assert key.allows("tokens:read")
    assert not key.allows("connections:read")
    admin = key._replace(scopes=("admin",))
    assert admin.allows("credentials:reveal")
    assert not admin.allows("metrics:read")


def test_a_new_key_is_kept_as_a_digest_alone(store: Store) -> None:
    made = KeyKeeping(store, new_id=uuid4, new_token=lambda: "a" * 43).create("a", "n", ["admin", "admin"], None)
    assert made.secret.reveal() == KEY
    assert made.key.scopes == ("admin",)
    assert list(store.found) == [digest_of(KEY)]
    assert KEY not in repr(made)


@pytest.mark.parametrize(
    ("name", "scopes", "life"),
    [
        ("n", [], None),
        ("n", ["all"], None),
        ("", ["admin"], None),
        ("a\n", ["admin"], None),
        ("x" * 201, ["admin"], None),
        ("n", ["admin"], timedelta(0)),
    ],
)
def test_words_that_cannot_be_are_refused(store: Store, name: str, scopes: list[str], life: timedelta | None) -> None:
    with pytest.raises(ConfigurationError):
        KeyKeeping(store, new_id=uuid4, new_token=lambda: "a" * 43).create("a", name, scopes, life)
    assert store.found == {}
