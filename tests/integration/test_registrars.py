"""Secrets of webhooks changed at GitHub's and Stripe's doors, by data, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.integration.house import House
from tests.integration.test_credential_rotation import OPEN, ended, rotate, told
from tests.simulator import SimulatorProcess
from tests.simulator.hooks import GITHUB, STRIPE
from vault import RotationBusy, SignatureInvalid

NOW = timedelta(0)
HOOK = "acme/widgets/7"
URL = "https://app.example.com/stripe"
EVENTS = "charge.succeeded, charge.failed"
FIRST = "the-first-secret-of-all"
SHAPES = (GITHUB, STRIPE)
REGISTRARS = """
[github]
base = "{base}/github"

[stripe]
base = "{base}/stripe"
"""


class Yard:
    """A house with a webhook at each of both, whose far side is the simulator."""

    def __init__(self, database_url: str, simulator: SimulatorProcess, home: Path) -> None:
        file = home / "registrars.toml"
        self.house = House(database_url, simulator, home, VAULT_REGISTRARS=str(file))
        self.simulator, self.far_side = simulator, self.house.far_side
        file.write_text(REGISTRARS.format(base=f"{simulator.base_uri}/{self.far_side}"))
        vault = self.house.vault
        connection = self.house.connect()
        told = self.far(key="sk-cnry-key", github={HOOK: FIRST}, stripe=[{"url": URL, "events": EVENTS.split(", ")}])
        key = vault.store_api_key("sk-cnry-key")
        owner, repo, hook_id = HOOK.split("/")
        endpoint = told["added"][0]
        tags = {"url": URL, "events": EVENTS, "endpoint_id": endpoint["id"], "api_key": str(key)}
        self.hooks: dict[str, UUID] = {
            GITHUB: vault.store_webhook_secret(
                FIRST, style=GITHUB, connection=connection, policy={"rotator": "registrar:github"},
                tags={"owner": owner, "repo": repo, "hook_id": hook_id},
            ),
            STRIPE: vault.store_webhook_secret(
                endpoint["secret"], style=STRIPE, policy={"rotator": "registrar:stripe"}, tags=tags
            ),
        }  # fmt: skip

    def far(self, **commands: Any) -> dict[str, Any]:
        return self.simulator.hooks(self.far_side, **commands)

    def fault(self, shape: str, method: str, kind: str, **members: Any) -> None:
        """Have a request go wrong, once unless it is said otherwise."""
        rule = {"endpoint": shape, "grant_type": method, "next": 1, **members}
        self.simulator.add_fault(self.far_side, kind, **rule)

    def registered(self, shape: str) -> set[str]:
        return {each["secret"] for each in self.far()["registered"] if each["shape"] == shape}

    def current(self, shape: str) -> str:
        return self.house.vault.credential(self.hooks[shape]).value.reveal()

    def deliver(self, shape: str) -> list[bool]:
        """Have an event delivered; of each delivery, whether it was believed."""
        believed = []
        for each in self.simulator.deliver(self.far_side, shape, HOOK if shape == GITHUB else URL):
            with suppress(SignatureInvalid):
                self.house.vault.verify_webhook(self.hooks[shape], each["headers"], each["body"].encode())
                believed.append(True)
                continue
            believed.append(False)
        return believed

    def rotate(self, shape: str, **words: Any) -> None:
        self.house.vault.rotate(self.hooks[shape], **words)
        self.house.worker.rotate_credentials()


@pytest.fixture
def yard(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Yard]:
    built = Yard(database_url, simulator, tmp_path)
    yield built
    built.house.close()


def test_github_signs_with_the_new_secret_from_the_call_on_and_both_are_believed(yard: Yard) -> None:
    before = yard.simulator.deliver(yard.far_side, GITHUB, HOOK)[0]
    yard.rotate(GITHUB)
    assert yard.registered(GITHUB) == {yard.current(GITHUB)} != {FIRST}
    assert yard.deliver(GITHUB) == [True]
    yard.house.vault.verify_webhook(yard.hooks[GITHUB], before["headers"], before["body"].encode())
    rotate(yard.house)
    assert ended(yard.house) == ["done"]
    assert yard.deliver(GITHUB) == [True]
    with pytest.raises(SignatureInvalid):
        yard.house.vault.verify_webhook(yard.hooks[GITHUB], before["headers"], before["body"].encode())


def test_stripe_has_two_endpoints_during_the_overlap_and_the_old_one_is_the_one_that_goes(yard: Yard) -> None:
    first = yard.current(STRIPE)
    for number in range(3):
        yard.rotate(STRIPE)
        assert yard.registered(STRIPE) == {first, yard.current(STRIPE)}
        assert yard.deliver(STRIPE) == [True, True]
        rotate(yard.house)
        first = yard.current(STRIPE)
        assert yard.registered(STRIPE) == {first}
        assert ended(yard.house) == ["done"] * (number + 1)
    known = [each.facts.get("endpoint_id") for each in yard.house.vault.history(yard.hooks[STRIPE])]
    assert known[0] in {each["of"] for each in yard.far()["registered"]}
    assert (len(set(known)), known[-1]) == (4, None), "the first one is known by its tag"
    [new] = [each for each in yard.far()["registered"] if each["shape"] == STRIPE]
    assert new["enabled_events"] == EVENTS.split(", ")


def test_a_new_endpoint_delivers_nothing_before_its_secret_is_stored_here(yard: Yard) -> None:
    yard.fault(STRIPE, "POST", "drop_after", next=1)
    yard.rotate(STRIPE)
    assert len(yard.registered(STRIPE)) == 2, "it was made, and nobody here knows its secret"
    assert yard.deliver(STRIPE) == [True]
    rotate(yard.house)
    assert yard.registered(STRIPE) == {yard.current(STRIPE)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "rate_limited", "malformed"])
def test_whatever_becomes_of_answers_nothing_is_lost_and_nothing_is_left(yard: Yard, shape: str, kind: str) -> None:
    """Every call goes wrong once."""
    for method in ("PATCH", "POST", "GET", "DELETE"):
        yard.fault(shape, method, kind)
    first = yard.current(shape)
    yard.rotate(shape)
    for _ in range(8):
        assert any(yard.deliver(shape))
        rotate(yard.house, 1)
    assert yard.registered(shape) == {yard.current(shape)} != {first}
    assert ended(yard.house) == ["done"]


@pytest.mark.parametrize("forgotten", [False, True])
def test_an_endpoint_that_somebody_made_who_died_is_found_again_or_taken_away(yard: Yard, *, forgotten: bool) -> None:
    """Stripe remembers an idempotency key for a day; later, what was made is found by what it is marked with."""
    yard.fault(STRIPE, "POST", "drop_after")
    yard.rotate(STRIPE)
    lost = yard.registered(STRIPE) - {yard.current(STRIPE)}
    yard.far(forget_keys=forgotten)
    rotate(yard.house, 1)
    assert (yard.registered(STRIPE) >= lost) is not forgotten
    rotate(yard.house)
    assert yard.registered(STRIPE) == {yard.current(STRIPE)}
    assert ({yard.current(STRIPE)} == lost) is not forgotten


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_refused_for_good_is_undone_and_what_it_signed_is_believed_for_a_while(yard: Yard, shape: str) -> None:
    first, method = yard.current(shape), "GET"
    if shape == STRIPE:
        method = "POST"
        yard.fault(shape, method, "slow", delay=0.0)  # the first, by which the endpoint is made
    yard.fault(shape, method, "error_before", status=422)
    yard.rotate(shape)
    assert yard.registered(shape) == {first} == {yard.current(shape)}
    assert yard.deliver(shape) == [True]
    assert yard.house.finds(f"{OPEN} AND reason = 'undone'")
    serving = "SELECT 1 FROM evergrant.credential_version WHERE stage = 'pending' AND serves_until > now()"
    assert yard.house.finds(serving)
    rotate(yard.house)
    assert ended(yard.house) == ["failed"]
    assert told(yard.house) == ["credential.rotation_failed"]
    yard.rotate(shape)
    rotate(yard.house)
    assert yard.registered(shape) == {yard.current(shape)} != {first}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_that_has_leaked_counts_no_more_from_the_end_of_the_rotation_on(yard: Yard, shape: str) -> None:
    of = HOOK if shape == GITHUB else URL
    before = yard.simulator.deliver(yard.far_side, shape, of)[0]
    yard.rotate(shape, overlap=NOW)
    assert yard.registered(shape) == {yard.current(shape)}
    assert yard.deliver(shape) == [True]
    with pytest.raises(SignatureInvalid):
        yard.house.vault.verify_webhook(yard.hooks[shape], before["headers"], before["body"].encode())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_second_rotation_within_the_overlap_is_refused_unless_it_is_forced(yard: Yard, shape: str) -> None:
    yard.rotate(shape)
    second = yard.current(shape)
    with pytest.raises(RotationBusy):
        yard.house.vault.rotate(yard.hooks[shape])
    yard.rotate(shape, force=True)
    third = yard.current(shape)
    assert third != second
    assert yard.registered(shape) == ({third} if shape == GITHUB else {second, third})
    assert all(yard.deliver(shape))
    rotate(yard.house)
    assert yard.registered(shape) == {third}


@pytest.mark.parametrize("shape", SHAPES)
def test_one_of_180_days_is_rotated_by_itself(yard: Yard, shape: str) -> None:
    hook, first = yard.hooks[shape], yard.current(shape)
    shown = yard.house.vault.describe_credential(hook)
    assert shown.rotate_at == shown.rotated_at + timedelta(days=180)
    assert yard.house.worker.rotate_credentials() == 0
    yard.house.sql("UPDATE evergrant.credential SET rotate_at = now() WHERE id = %s", (hook,))
    yard.house.worker.rotate_credentials()
    assert yard.current(shape) != first
    assert yard.current(shape) in yard.registered(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_who_goes_back_within_the_overlap_has_the_registration_go_back_as_well(yard: Yard, shape: str) -> None:
    first = yard.current(shape)
    yard.rotate(shape)
    yard.house.vault.roll_back(yard.hooks[shape])
    assert all(yard.deliver(shape))
    yard.house.worker.rotate_credentials()
    assert yard.registered(shape) == {first} == {yard.current(shape)}
    assert yard.deliver(shape) == [True]
    rotate(yard.house)
    assert yard.registered(shape) == {first}
    yard.rotate(shape)
    rotate(yard.house)
    assert yard.registered(shape) == {yard.current(shape)} != {first}


def test_what_is_written_meanwhile_is_what_github_is_told_in_the_end(yard: Yard) -> None:
    """The one from before the rotation would be the wrong one to put back."""
    yard.fault(GITHUB, "GET", "error_before")
    yard.rotate(GITHUB)
    yard.house.vault.put(yard.hooks[GITHUB], "written-by-hand-meanwhile")
    rotate(yard.house)
    assert yard.registered(GITHUB) == {"written-by-hand-meanwhile"}


def test_a_new_endpoint_of_one_that_was_deleted_meanwhile_is_taken_away_even_if_nobody_had_heard_of_it(
    yard: Yard,
) -> None:
    first = yard.current(STRIPE)
    yard.fault(STRIPE, "POST", "drop_after")
    yard.rotate(STRIPE)
    assert len(yard.registered(STRIPE)) == 2
    yard.fault(STRIPE, "DELETE", "error_before")
    yard.house.vault.delete_credentials(yard.hooks[STRIPE])
    rotate(yard.house)
    assert yard.registered(STRIPE) == {first}
    assert ended(yard.house) == ["failed"]


def test_another_rotation_is_forced_beside_one_that_is_undone_already(yard: Yard) -> None:
    yard.fault(GITHUB, "GET", "error_before", status=422)
    yard.rotate(GITHUB)
    assert yard.house.finds(f"{OPEN} AND reason = 'undone'")
    with pytest.raises(RotationBusy):
        yard.house.vault.rotate(yard.hooks[GITHUB])
    yard.rotate(GITHUB, force=True)
    assert yard.registered(GITHUB) == {yard.current(GITHUB)} != {FIRST}
    rotate(yard.house)
    assert yard.registered(GITHUB) == {yard.current(GITHUB)} != {FIRST}


def test_an_undoing_that_is_refused_is_tried_on_for_days_and_the_secret_counts_meanwhile(yard: Yard) -> None:
    yard.fault(GITHUB, "GET", "error_before", status=422)
    yard.house.vault.rotate(yard.hooks[GITHUB])
    yard.fault(GITHUB, "PATCH", "slow", delay=0.0)  # the first, by which the new secret is set
    yard.fault(GITHUB, "PATCH", "error_before", status=403, next=2)
    yard.house.worker.rotate_credentials()
    with pytest.raises(RotationBusy):
        yard.house.vault.rotate(yard.hooks[GITHUB], force=True)
    [signed] = yard.simulator.deliver(yard.far_side, GITHUB, HOOK)
    believe = partial(yard.house.vault.verify_webhook, yard.hooks[GITHUB], signed["headers"], signed["body"].encode())
    while yard.registered(GITHUB) != {FIRST}:
        believe()
        rotate(yard.house, 1)
    believe()
    rotate(yard.house, 1)
    assert ended(yard.house) == ["failed"]
    assert yard.deliver(GITHUB) == [True]
    with pytest.raises(SignatureInvalid):
        believe()


def test_nothing_is_begun_that_could_not_be_ended(yard: Yard) -> None:
    """Without the id of the first endpoint nobody could take it away."""
    tags = dict(yard.house.vault.describe_credential(yard.hooks[STRIPE]).tags)
    del tags["endpoint_id"]
    yard.house.vault.change_credential(yard.hooks[STRIPE], tags=tags)
    yard.rotate(STRIPE)
    assert len(yard.registered(STRIPE)) == 1
    [failed] = yard.house.sql("SELECT step, reason FROM evergrant.credential_rotation")
    assert failed["step"] == "failed"


def test_a_far_side_that_asks_for_patience_gets_it(yard: Yard) -> None:
    yard.fault(GITHUB, "PATCH", "rate_limited", retry_after=3000)
    yard.rotate(GITHUB)
    assert yard.house.finds(f"{OPEN} AND next_at > now() + interval '49 min' AND reason = 'set: http_429'")


def test_no_secret_is_in_any_word_about_a_rotation(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    secrets = {yard.current(GITHUB), yard.current(STRIPE), "sk-cnry-key", *yard.registered(STRIPE)}
    for method in ("PATCH", "POST", "GET", "DELETE"):
        for shape in SHAPES:
            yard.fault(shape, method, "error_after", body='{"message": "you said cnry-what"}')
    for shape in SHAPES:
        yard.rotate(shape)
    for _ in range(6):
        rotate(yard.house, 1)
    secrets |= {yard.current(GITHUB), yard.current(STRIPE)}
    rows = yard.house.sql("SELECT reason FROM evergrant.credential_rotation")
    rows += yard.house.sql("SELECT detail FROM evergrant.audit")
    rows += yard.house.sql("SELECT facts FROM evergrant.credential_version")
    heard = "".join(capfd.readouterr()) + str(rows)
    assert [secret for secret in secrets if secret in heard] == []
    assert "cnry-" not in heard
