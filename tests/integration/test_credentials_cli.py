"""``evergrant credential``: everything about credentials at an operator's word; values come from stdin or a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration.house import House
from tests.support import certificates
from vault.cli import EXIT_FAILED, EXIT_USAGE, main

VALUE = "sk_live_cnry_51H"


def run(house: House, *words: str, given: str | None = None) -> Result:
    return CliRunner(env={**house.environment}).invoke(main, ["--json", *words], input=given)


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def key(house: House) -> str:
    words = ("--provider", "acme", "--owner", "ann", "--name", "billing", "--tag", "team=blue")
    more = ("--policy", "max_age=30")
    made: str = said(run(house, "credential", "store", "api-key", *words, *more, given=f"{VALUE}\n"))["id"]
    return made


def test_a_value_goes_in_by_stdin_and_comes_out_only_when_it_is_asked_for(house: House, key: str) -> None:
    shown = run(house, "credential", "show", key)
    assert VALUE not in shown.output
    facts = said(shown)
    assert (facts["owner"], facts["tags"], facts["version"]) == ("ann", {"team": "blue"}, 1)
    assert (facts["policy"]["max_age"], facts["policy"]["sources"]["max_age"]) == (30 * 86_400, "credential")
    assert [each["stage"] for each in facts["versions"]] == ["current"]
    assert VALUE not in run(house, "credential", "get", key).output
    assert said(run(house, "credential", "get", key, "--reveal", "--reason", "to try"))["value"] == VALUE
    plain = CliRunner(env={**house.environment}).invoke(main, ["credential", "get", key, "--reveal"])
    assert plain.stdout == f"{VALUE}\n", "for a pipe"
    told = house.sql("SELECT detail->>'reason' AS reason FROM evergrant.audit WHERE event = 'credential.retrieved'")
    assert [row["reason"] for row in told] == ["", "to try", ""]


def test_for_people_there_are_tables(house: House, key: str) -> None:
    runner = CliRunner(env={**house.environment, "COLUMNS": "200"})
    listed = runner.invoke(main, ["credential", "list"])
    assert all(word in listed.output for word in (key, "api_key", "ann", "billing"))
    shown = runner.invoke(main, ["credential", "show", key])
    assert "max_age 30 d (credential)" in shown.output
    assert "current" in shown.output
    assert VALUE not in listed.output + shown.output


def test_credentials_are_found_by_what_they_are(house: House, key: str) -> None:
    other = said(run(house, "credential", "store", "secret", given="anything"))["id"]
    for words, ids in (
        ((), {key, other}), (("--owner", "ann"), {key}),
        (("--tag", "team=blue"), {key}), (("--tag", "team=red"), set()),
        (("--kind", "custom_secret"), {other}), (("--provider", "acme"), {key}), (("--state", "deleted"), set()),
        (("--tenant", "umbra"), set()), (("--limit", "1"), {min(key, other)}), (("--after", max(key, other)), set()),
    ):  # fmt: skip
        assert {each["id"] for each in said(run(house, "credential", "list", *words))} == ids, words


def test_a_value_is_replaced_rolled_back_and_its_versions_destroyed(house: House, key: str) -> None:
    file = house.home / "value"
    file.write_text("two\n")
    assert said(run(house, "put", key, "--file", str(file), "--expected-version", "1"))["version"] == 2
    conflict = run(house, "credential", "put", key, "--expected-version", "1", given="three")
    assert conflict.exit_code == EXIT_FAILED
    assert "VersionConflict" in conflict.output
    assert said(run(house, "credential", "roll-back", key))["version"] == 3
    assert said(run(house, "credential", "get", key, "--reveal"))["value"] == VALUE
    assert said(run(house, "credential", "get", key, "--version", "2", "--reveal"))["value"] == "two"
    assert said(run(house, "credential", "destroy", key, "--version", "2", "--yes"))["version_destroyed"] == 2
    assert run(house, "credential", "get", key, "--version", "2").exit_code == EXIT_FAILED


def test_what_is_deleted_comes_back_and_what_is_destroyed_does_not(house: House, key: str) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    result = run(house, "credential", "delete", key, unknown)
    assert result.exit_code == EXIT_FAILED
    assert json.loads(result.stdout) == {"deleted": [key], "unknown": [unknown]}
    assert said(run(house, "credential", "undelete", key))["state"] == "active"
    assert run(house, "credential", "destroy", key, given="n\n").exit_code == EXIT_FAILED
    assert said(run(house, "credential", "destroy", key, "--yes"))["destroyed"] == [key]
    assert run(house, "credential", "undelete", key).exit_code == EXIT_FAILED


def test_every_kind_can_be_kept(house: House) -> None:
    made = certificates.leaf("ann", days=20)
    for name, text in (("chain", made.chain), ("key", made.key)):
        (house.home / name).write_text(text)
    pair = said(
        run(house, "credential", "store", "certificate", "--file", str(house.home / "chain"), "--key-file",
            str(house.home / "key"))
    )  # fmt: skip
    assert set(pair) == {"certificate", "key"}
    both = said(run(house, "credential", "store", "basic-auth", "--username", "ann", given="correct horse"))
    assert said(run(house, "credential", "get", both["password"], "--reveal"))["value"] == "correct horse"
    hook = said(run(house, "credential", "store", "webhook-secret", "--generate"))["id"]
    assert said(run(house, "credential", "get", hook, "--reveal"))["value"].startswith("whsec_")
    exact = said(run(house, "credential", "store", "secret", "--exact", given=" spaces \n"))["id"]
    assert said(run(house, "credential", "get", exact, "--reveal"))["value"] == " spaces \n"
    newer = certificates.leaf("ann", days=400)
    for name, text in (("chain", newer.chain), ("key", newer.key)):
        (house.home / name).write_text(text)
    files = ("--file", str(house.home / "chain"), "--key-file", str(house.home / "key"))
    assert said(run(house, "put", pair["certificate"], *files))["version"] == 2


def test_what_ends_and_what_is_due_is_listed_and_told(house: House, key: str) -> None:
    ends = (datetime.now(UTC) + timedelta(days=5)).strftime("%Y-%m-%d")
    soon = said(run(house, "credential", "store", "secret", "--ends", ends, given="anything"))["id"]
    assert [each["id"] for each in said(run(house, "expiring"))] == [soon]
    assert said(run(house, "expiring", "--days", "1")) == []
    past = "rotate_at = now() - interval '1 day', rotated_at = now() - interval '31 days', warn_at = now()"
    house.sql(f"UPDATE evergrant.credential SET {past} WHERE id = %s", (key,))
    assert [each["id"] for each in said(run(house, "credential", "expiring", "--aged"))] == [key]
    assert said(run(house, "expiring", "--tell"))["told"] == 1


def test_a_rotation_is_asked_for_and_done_here_when_it_is_due(house: House) -> None:
    hook = said(run(house, "credential", "store", "webhook-secret", "--generate"))["id"]
    before = said(run(house, "credential", "get", hook, "--reveal"))["value"]
    assert said(run(house, "credential", "rotate", hook, "--overlap-hours", "1"))["id"] == hook
    assert said(run(house, "credential", "rotate", "--due"))["steps"] > 0
    assert said(run(house, "credential", "get", hook, "--reveal"))["value"] != before
    busy = run(house, "credential", "rotate", hook)
    assert (busy.exit_code, "RotationBusy" in busy.output) == (EXIT_FAILED, True)
    given = "whsec_" + "A" * 43 + "="
    assert said(run(house, "credential", "rotate", hook, "--given", "--force", given=given))["rotation"]
    run(house, "credential", "rotate", "--due")
    assert said(run(house, "credential", "get", hook, "--reveal"))["value"] == given


def test_words_and_numbers_are_changed(house: House, key: str) -> None:
    said(run(house, "credential", "change", key, "--name", "x", "--tag", "a=b=c", "--policy", "max_age=null"))
    facts = said(run(house, "credential", "show", key))
    assert (facts["name"], facts["tags"], facts["rotate_at"]) == ("x", {"a": "b=c"}, None)


WRONG = {
    "no value": (["store", "api-key"], ""),
    "no user name": (["store", "basic-auth"], "x"),
    "a user name of nobody": (["store", "api-key", "--username", "ann"], "x"),
    "no key": (["store", "certificate"], "x"),
    "made out of nothing": (["store", "api-key", "--generate"], "x"),
    "a tag without a name": (["store", "api-key", "--tag", "=b"], "x"),
    "a tag without a value": (["list", "--tag", "b"], None),
    "nothing to rotate": (["rotate"], None),
    "a file that is not there": (["store", "api-key", "--file", "nowhere"], None),
    "no id": (["show", "nonsense"], None),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_said_before_anything_is_done(house: House, name: str) -> None:
    words, given = WRONG[name]
    result = run(house, "credential", *words, given=given)
    assert result.exit_code == EXIT_USAGE, result.output
    assert "Traceback" not in result.output
    assert not house.finds("SELECT 1 FROM evergrant.credential")


def test_what_is_refused_is_said_without_the_value(house: House) -> None:
    result = run(house, "credential", "store", "api-key", "--exact", given=f"{VALUE} ")
    assert result.exit_code == EXIT_FAILED
    assert "InvalidCredential" in result.output
    assert VALUE not in result.output
