"""Credentials rotated at a far side, by whoever lives: on real PostgreSQL, with processes that are killed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest

from tests.integration import far_side
from tests.integration.far_side import FIRST, STEPS
from tests.integration.house import House
from tests.integration.victims import KILLED, exit_code, rotate_and_die
from tests.simulator import SimulatorProcess
from vault import (
    InvalidCredential,
    RotationBusy,
    RotationRequest,
    Secret,
    SignatureInvalid,
    UnknownCredential,
    Vault,
    WebhookStyle,
    sign_webhook,
)
from vault.services import rotating

DAY = timedelta(days=1)
NOW = timedelta(0)
POLICY = {"rotator": "far-side", "automatic": True}
OPEN = "SELECT 1 FROM evergrant.credential_rotation WHERE ended_at IS NULL"


@pytest.fixture
def house(
    database_url: str, simulator: SimulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    """A house where the far side's rotator is installed, as a package would have it."""
    installed = tmp_path / "site" / "far_side-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: far-side\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[evergrant.rotators]\nfar-side = tests.integration.far_side:FarSide\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv(far_side.PATH, str(tmp_path / "far_side.db"))
    far_side.begin()
    built = House(database_url, simulator, tmp_path)
    yield built
    built.close()


@pytest.fixture
def key(house: House) -> UUID:
    return house.vault.store_api_key(FIRST, owner="ann", policy=POLICY)


def current(vault: Vault, credential_id: UUID) -> str:
    return vault.credential(credential_id).value.reveal()


def let_time_pass(house: House) -> None:
    """The overlap is over, and whatever waited has waited."""
    house.sql("UPDATE evergrant.credential_version SET serves_until = now() WHERE serves_until > now()")
    house.sql(
        "UPDATE evergrant.credential_rotation SET next_at = now(), lease_until = to_timestamp(0) WHERE ended_at IS NULL"
    )


def rotate(house: House, times: int = 4) -> None:
    """Do all there is to do, whatever time it takes."""
    for _ in range(times):
        let_time_pass(house)
        house.worker.rotate_credentials()


def ended(house: House) -> list[str]:
    return [row["step"] for row in house.sql("SELECT step FROM evergrant.credential_rotation ORDER BY begun_at")]


def told(house: House) -> list[str]:
    return [row["type"] for row in house.sql("SELECT type FROM evergrant.event ORDER BY created_at")]


def test_a_rotation_makes_tries_and_keeps_a_new_value_and_ends_the_old_one_when_its_time_is_over(
    house: House, key: UUID
) -> None:
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    new = current(house.vault, key)
    assert far_side.accepted() == {FIRST, new}, "both work for a day"
    assert [each.stage for each in house.vault.history(key)] == ["current", "previous"]
    house.worker.rotate_credentials()
    assert far_side.accepted() == {FIRST, new}
    let_time_pass(house)
    house.worker.rotate_credentials()
    assert far_side.accepted() == {new}
    assert [each.stage for each in house.vault.history(key)] == ["current", "retired"]
    assert far_side.calls() == STEPS
    assert ended(house) == ["done"]
    assert told(house) == ["credential.rotated"]


def test_what_is_past_its_age_is_rotated_by_itself(house: House, key: UUID) -> None:
    assert house.worker.rotate_credentials() == 0
    house.sql("UPDATE evergrant.credential SET rotate_at = now()")
    house.worker.rotate_credentials()
    shown = house.vault.describe_credential(key)
    assert (shown.version, shown.rotate_at) == (2, shown.rotated_at + 90 * DAY)
    other = house.vault.store_api_key("by hand")
    house.sql("UPDATE evergrant.credential SET rotate_at = now()")
    rotate(house)
    assert house.vault.describe_credential(other).version == 1, "nobody but its owner rotates this one"


def test_a_value_can_be_brought_along(house: House, key: UUID) -> None:
    house.vault.rotate(key, value="brought", overlap=NOW)
    rotate(house)
    assert current(house.vault, key) == "brought"
    assert far_side.accepted() == {"brought"}
    assert far_side.calls() == STEPS[1:]


def test_a_value_that_has_leaked_is_ended_at_once(house: House, key: UUID) -> None:
    house.vault.rotate(key, overlap=NOW)
    house.worker.rotate_credentials()
    assert far_side.accepted() == {current(house.vault, key)}


def test_a_second_rotation_waits_for_the_end_of_the_first_unless_it_is_forced(house: House, key: UUID) -> None:
    house.vault.rotate(key)
    with pytest.raises(RotationBusy):
        house.vault.rotate(key, force=True)
    house.worker.rotate_credentials()
    second = current(house.vault, key)
    with pytest.raises(RotationBusy) as refusal:
        house.vault.rotate(key)
    assert refusal.value.step == "retire"
    house.vault.rotate(key, force=True)
    house.worker.rotate_credentials()
    third = current(house.vault, key)
    assert third != second
    assert far_side.accepted() == {second, third}, "the first one's time was over"
    rotate(house)
    assert far_side.accepted() == {third}
    assert ended(house) == ["done", "done"]


@pytest.mark.parametrize("step", ["create", "set", "test"])
def test_a_step_that_can_never_be_done_undoes_the_rotation(house: House, key: UUID, step: str) -> None:
    far_side.trouble(step, permanent=True)
    house.vault.rotate(key)
    rotate(house)
    assert current(house.vault, key) == FIRST
    assert far_side.accepted() == {FIRST}
    assert ended(house) == ["failed"]
    assert told(house) == ["credential.rotation_failed"]
    assert {each.stage for each in house.vault.history(key)} <= {"current", "destroyed"}
    far_side.recover()
    house.vault.rotate(key)
    rotate(house)
    assert far_side.accepted() == {current(house.vault, key)} != {FIRST}


@pytest.mark.parametrize("step", [*STEPS, "undo"])
def test_a_step_that_cannot_be_done_for_a_while_is_done_later(house: House, key: UUID, step: str) -> None:
    far_side.trouble(step, permanent=False)
    if step == "undo":
        far_side.trouble("test", permanent=True)
    house.vault.rotate(key)
    rotate(house)
    assert current(house.vault, key) in far_side.accepted()
    assert house.finds(f"{OPEN} AND reason = 'out of order'")
    far_side.recover()
    rotate(house)
    assert far_side.accepted() == {current(house.vault, key)}


def test_a_credential_that_is_written_meanwhile_keeps_what_was_written(house: House, key: UUID) -> None:
    far_side.trouble("test", permanent=False)
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    house.vault.put(key, FIRST)
    far_side.recover()
    rotate(house)
    assert current(house.vault, key) == FIRST
    assert far_side.accepted() == {FIRST}, "what was made for nobody is taken away"
    assert ended(house) == ["failed"]


def test_a_credential_that_is_deleted_meanwhile_is_not_rotated(house: House, key: UUID) -> None:
    house.vault.rotate(key)
    house.vault.delete_credentials(key)
    rotate(house)
    assert ended(house) == ["failed"]
    with pytest.raises(UnknownCredential):
        house.vault.rotate(key)


def test_what_a_deleted_credential_leaves_at_the_far_side_is_taken_away_nevertheless(house: House, key: UUID) -> None:
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    new = current(house.vault, key)
    house.vault.delete_credentials(key)
    rotate(house)
    assert far_side.accepted() == {new}, "the old value's time is over; the new one can be brought back"
    house.vault.undelete_credential(key)
    far_side.trouble("test", permanent=False)
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    house.vault.delete_credentials(key)
    rotate(house)
    assert far_side.accepted() == {new}
    assert ended(house) == ["done", "failed"]


def test_a_value_that_is_none_of_its_kind_is_taken_away_again(
    house: House, key: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = far_side.FarSide.create

    def with_a_line_break(self: far_side.FarSide, request: RotationRequest, old: Secret) -> Secret:
        made = create(self, request, old).reveal()
        far_side.FarSide._remove(Secret(made))
        far_side.accept(f"{made}\n")
        return Secret(f"{made}\n")

    monkeypatch.setattr(far_side.FarSide, "create", with_a_line_break)
    house.vault.rotate(key)
    rotate(house)
    assert far_side.accepted() == {FIRST} == {current(house.vault, key)}
    assert ended(house) == ["failed"]


def test_who_has_lost_a_rotation_takes_nothing_away_from_who_has_it_now(
    house: House, key: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the very same new value in hand."""
    create, other = far_side.FarSide.create, house.another_worker()

    def slowly(self: far_side.FarSide, request: RotationRequest, old: Secret) -> Secret:
        made = create(self, request, old)
        monkeypatch.setattr(far_side.FarSide, "create", create)
        house.sql("UPDATE evergrant.credential_rotation SET lease_until = to_timestamp(0)")
        other.rotate_credentials()
        return made

    monkeypatch.setattr(far_side.FarSide, "create", slowly)
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    assert current(house.vault, key) != FIRST
    assert far_side.accepted() == {FIRST, current(house.vault, key)}


def test_what_was_taken_in_hand_too_long_ago_is_left_to_others(
    house: House, key: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease might end in the middle of a call."""
    hold = rotating.HOLD
    monkeypatch.setattr(rotating, "HOLD", NOW)
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    assert far_side.calls() == []
    monkeypatch.setattr(rotating, "HOLD", hold)
    rotate(house, 1)
    assert far_side.calls() == STEPS[:4]


def test_one_that_is_in_the_hands_of_a_rotation_is_not_begun_again_by_its_age(
    house: House, key: UUID, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    house.vault.rotate(key)
    house.worker.rotate_credentials()
    house.sql("UPDATE evergrant.credential SET rotate_at = now()")
    house.worker.rotate_credentials()
    assert "not_begun" not in caplog.text + "".join(capfd.readouterr())
    assert house.vault.describe_credential(key).version == 2


def test_what_has_no_rotator_says_so(house: House) -> None:
    plain = house.vault.store_api_key("sk")
    with pytest.raises(InvalidCredential, match="nobody rotates it"):
        house.vault.rotate(plain)
    unknown = house.vault.store_api_key("sk", policy={"rotator": "nobody-has-it"})
    house.vault.rotate(unknown)
    house.worker.rotate_credentials()
    assert house.finds(f"{OPEN} AND reason = 'unknown_rotator'")


def test_a_webhook_secret_is_rotated_without_anybodys_help(house: House) -> None:
    secret = house.vault.store_webhook_secret()
    first = current(house.vault, secret)
    house.sql("UPDATE evergrant.credential SET rotate_at = now() WHERE kind = 'webhook_secret'")
    house.worker.rotate_credentials()
    assert current(house.vault, secret) != first
    rotate(house)
    assert ended(house) == ["done"]


def test_webhooks_are_verified_by_every_secret_that_counts_while_one_is_rotated(house: House) -> None:
    vault, body = house.vault, b'{"a": 1}'
    hook = vault.store_webhook_secret()
    before = vault.sign_webhook(hook, body, message_id="1")
    vault.verify_webhook(hook, before, body)
    with pytest.raises(SignatureInvalid):
        vault.verify_webhook(hook, before, body + b" ")
    vault.rotate(hook)
    house.worker.rotate_credentials()
    assert len(vault.sign_webhook(hook, body, message_id="2")["webhook-signature"].split()) == 2
    vault.verify_webhook(hook, before, body)
    let_time_pass(house)
    after = vault.sign_webhook(hook, body, message_id="3")
    assert len(after["webhook-signature"].split()) == 1
    vault.verify_webhook(hook, after, body)
    with pytest.raises(SignatureInvalid):
        vault.verify_webhook(hook, before, body)
    with pytest.raises(UnknownCredential):
        vault.verify_webhook(vault.store_api_key("sk"), after, body)


@pytest.mark.parametrize("style", ["standard", "github", "stripe"])
def test_a_sender_who_has_been_told_the_next_secret_is_believed_before_it_is_the_current_one(
    house: House, style: str
) -> None:
    next_one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
    hook = house.vault.store_webhook_secret("whsec_" + "A" * 44, style=style, policy={"rotator": "far-side"})
    far_side.accept(current(house.vault, hook))
    far_side.trouble("test", permanent=False)
    house.vault.rotate(hook, value=next_one)
    house.worker.rotate_credentials()
    said = sign_webhook(WebhookStyle(style), [Secret(next_one)], b"{}", now=datetime.now(UTC), message_id="1")
    house.vault.verify_webhook(hook, said, b"{}")
    assert current(house.vault, hook) != next_one


# -------------------------------------------------------------------------------------------------------------- killed


@pytest.mark.timeout(240)
@pytest.mark.parametrize("undone", [False, True])
def test_whoever_dies_wherever_a_value_that_works_is_there_and_the_next_one_finishes(
    house: House, key: UUID, tmp_path: Path, *, undone: bool
) -> None:
    """One process after another comes one point further, until one comes through."""
    environment = {**house.environment, far_side.PATH: os.environ[far_side.PATH]}
    died = Counter[bool]()
    if undone:
        far_side.trouble("test", permanent=True)
    for fatal in count(1):
        house.vault.rotate(key, overlap=NOW)
        died[exit_code(rotate_and_die, environment, str(tmp_path / "site"), fatal) == KILLED] += 1
        assert current(house.vault, key) in far_side.accepted()
        rotate(house, 2)
        assert far_side.accepted() == {current(house.vault, key)}, "nothing that was made is left lying about"
        assert not house.finds(OPEN)
        if died[False]:
            break
    assert died[True] >= (10 if undone else 15), died
