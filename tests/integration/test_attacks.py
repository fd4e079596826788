"""Whoever attacks a connect flow is refused with the documented reason; nothing is stored, and no secret is told."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.integration.attacks import CASES, LAST
from tests.integration.house import House
from tests.integration.scene_of_attacks import AFTER, BROWSER, OTHER_CALLBACK, Case, Flow, Scene, furnish
from tests.simulator import SimulatorProcess
from vault import ConnectRefused, Status, VaultError

DOCS = Path(__file__).resolve().parents[2] / "docs"
CANARY = "cnry-"
"""In every token, code and secret of the simulator."""


@pytest.fixture(scope="module")
def scene(
    module_database_url: str, simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    house = House(module_database_url, simulator, tmp_path_factory.mktemp("attacked"))
    furnish(house)
    yield Scene(house)
    house.close()


def refused(scene: Scene, case: Case) -> Exception:
    with pytest.raises((VaultError, ValueError)) as refusal:
        case.attack(scene)
    return refusal.value


def reason(error: Exception) -> str:
    return error.reason if isinstance(error, ConnectRefused) else type(error).__name__


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attack_is_refused(scene: Scene, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    scene.prepared = case.before(scene) if case.before else None
    before = scene.kept()
    with capture_logs() as told, caplog.at_level(logging.DEBUG, "vault"):
        error = refused(scene, case)
    assert reason(error) == case.reason, error
    said = "".join((str(error), repr(error), *traceback.format_exception_only(error), str(told), caplog.text))
    secrets = [CANARY, BROWSER]
    if isinstance(scene.prepared, Flow):
        secrets += [scene.prepared.start.state, *filter(None, [scene.prepared.back.get("code")])]
    assert not [each for each in secrets if each in said], "a secret was told"
    assert len(said) < 4000
    if case.reason != "other_account":  # the grant of that one is handed to revocation
        assert scene.kept() == before, "something was stored"
    if case.victim == "open":
        assert scene.prepared.complete().status is Status.ACTIVE
    elif case.victim == "spent":
        with pytest.raises(ConnectRefused, match="unknown_state"):
            scene.prepared.complete()


@pytest.mark.parametrize("case", LAST, ids=lambda case: case.name)
def test_of_several_at_once_one_wins(scene: Scene, case: Case) -> None:
    assert case.before is not None
    scene.prepared = case.before(scene)
    count = "SELECT count(*) AS n FROM evergrant.connection"
    before = scene.house.sql(count)[0]["n"]
    assert reason(refused(scene, case)) == case.reason
    assert scene.house.sql(count)[0]["n"] == before + 1


def test_a_parameter_without_a_name_stands_for_no_variable(scene: Scene) -> None:
    flow = scene.flow("shop", variables={"shop": scene.house.far_side})
    assert flow.complete(parameters={"": "evil"}).status is Status.ACTIVE


def test_what_an_honest_app_does_is_let_through(scene: Scene) -> None:
    for place in ("/", "/next?to=https://evil.example//x#y", AFTER, f"{AFTER}/", f"{AFTER}/x?y", "https://two.example"):
        flow = scene.flow(return_to=place, redirect_uri=OTHER_CALLBACK)
        assert flow.complete(parameters=flow.back).return_to == place


@pytest.mark.parametrize(
    ("said", "life_s"),
    [("1e400", 3600), ("NaN", 3600), ("-1", 3600), ('"soon"', 3600), ("[]", 3600), ("true", 3600), ("1e30", None)],
)
def test_a_life_that_makes_no_sense_is_the_provider_s_usual_one(scene: Scene, said: str, life_s: int | None) -> None:
    flow = scene.flow()
    scene.answers(status=200, body=f'{{"access_token": "x", "token_type": "OAuth1", "expires_in": {said}}}')
    made = flow.complete()
    token = scene.vault.get(made.id)
    assert token.headers() == {"Authorization": "Bearer x"}, "what signs requests comes in other answers"
    if life_s is not None:
        assert life_s - 60 < token.ttl.total_seconds() <= life_s


def test_the_table_of_reasons_is_that_of_the_code() -> None:
    """Each word that ``ConnectRefused`` is made with stands in docs/connect.md, and no other."""
    table = re.findall(r"^\| `(\w+)` \|", (DOCS / "connect.md").read_text(), re.MULTILINE)
    sources = "".join(file.read_text() for file in (DOCS.parent / "vault").rglob("*.py"))
    assert set(table) == set(re.findall(r'ConnectRefused\(\s*"(\w+)"', sources))
    assert len(table) == len(set(table))


def test_there_are_as_many_attacks_as_there_should_be() -> None:
    names = [case.name for case in (*CASES, *LAST)]
    print(f"{len(names)} attacks")
    assert len(names) == len(set(names)) >= 150
