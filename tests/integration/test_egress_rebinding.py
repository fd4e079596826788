"""Everything that sends, in an Internet where each address is somebody's: what counts is where packets go.

Names are asked of a real nameserver there, by the resolver that production uses, and change their mind.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration import egress_hostile
from tests.integration import egress_scene as scene
from tests.support.own_internet import PUBLIC, PUBLIC_6, CannotLeave

Inside = Callable[..., Any]
PATIENCE_S = 100


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A process in an Internet of its own, to play scenes in."""
    with _moved_out(tmp_path_factory.mktemp("internet")) as play:
        yield play


@pytest.fixture(scope="module")
def astray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Another one, for what does go astray: the last packets of it are late."""
    with _moved_out(tmp_path_factory.mktemp("internet")) as play:
        yield play


@contextmanager
def _moved_out(home: Path) -> Iterator[Inside]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:

        def play(act: Callable[..., Any], *words: object) -> Any:
            return process.submit(act, *words).result(timeout=PATIENCE_S)

        try:
            play(scene.settle, home)
        except CannotLeave as error:
            pytest.skip(f"{error} (it takes Linux, root or user namespaces, and iproute2)")
        yield play


@pytest.fixture
def database(database_url: str) -> str:
    """One that can be reached from any network: by its unix socket, as ours is unless another server is given."""
    if urlsplit(database_url).hostname:
        pytest.skip("the database that is given (VAULT_TEST_DATABASE_URL) is reached by this machine's network only")
    return database_url


@pytest.mark.parametrize("sender", scene.SENDERS)
def test_a_name_that_changes_its_mind_leads_nobody_inside(
    inside: Inside, sender: str, database: str, tmp_path: Path
) -> None:
    seen: scene.Seen = inside(scene.rebound, sender, database, tmp_path)
    assert set(seen.first) == {*scene.LATER, *scene.MIXED}, "all were served while their names were public"
    assert set(seen.first.values()) == {PUBLIC, PUBLIC_6}
    assert seen.astray == {}
    assert set(seen.then) == set(scene.MIXED), "where an answer has a public address too, it is gone to"
    assert set(seen.then.values()) == {PUBLIC, PUBLIC_6}
    if sender in ("exchange", "introspect", "discover"):
        assert set(seen.said) == set(scene.LATER)
        assert all("refused_uri" in why for why in seen.said.values()), seen.said


@pytest.mark.parametrize("sender", scene.SENDERS)
def test_without_the_check_every_one_of_them_would_be_inside(
    astray: Inside, sender: str, database: str, tmp_path: Path
) -> None:
    """The same round where every network is let through: the nameserver rebinds, and packets are seen."""
    seen: scene.Seen = astray(scene.rebound, sender, database, tmp_path, scene.EVERYWHERE)
    assert set(seen.then) == {*scene.LATER, *scene.MIXED}
    assert {kind for kind in scene.LATER if seen.then[kind] in (PUBLIC, PUBLIC_6)} == set()
    assert set(seen.astray) >= {"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.0.0.192", "::1", "64:ff9b::7f00:1"}


@pytest.mark.parametrize("way", egress_hostile.WAYS)
def test_no_hostile_address_gets_a_packet_of_any_kind(inside: Inside, way: str) -> None:
    """Neither do names of what is inside."""
    assert inside(scene.approach, way) == {}


def test_without_the_check_more_than_three_hundred_of_them_would(astray: Inside) -> None:
    """The others are no address, are not sent to without TLS, or are ones to which no system opens a connection."""
    targets: dict[str, dict[str, int]] = astray(scene.approach, "once", scene.EVERYWHERE)
    assert len(targets) >= 300
    print(
        f"{len(egress_hostile.urls(443)) + len(scene.INSIDERS)} addresses, {len(targets)} of them unchecked get packets"
    )
