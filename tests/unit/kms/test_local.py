"""The keyring file: who may read it, who may write it, and what becomes of it when things go wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.vectors import make
from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.kms import open_kms
from vault.kms.keyring_file import read
from vault.kms.local import LocalKms

CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
KEY = b"k" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "keyring.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------------------------------------------------- first start


def test_the_first_start_makes_a_file_and_a_directory_for_us_alone(path: Path) -> None:
    umask = os.umask(0)  # the friendliest there is
    try:
        kms = LocalKms(path)
    finally:
        os.umask(umask)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert kms.describe().startswith("local:primary#")


def test_the_second_start_finds_the_same_key(path: Path) -> None:
    wrapped = LocalKms(path).wrap(KEY, CONTEXT)
    before = path.read_bytes()
    assert LocalKms(path).unwrap(wrapped, CONTEXT) == KEY
    assert path.read_bytes() == before


def test_the_name_in_the_uri_names_the_first_key(path: Path) -> None:
    assert open_kms(f"local:{path}#2026").describe().startswith("local:2026#")


def test_a_directory_that_exists_keeps_its_rights(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    LocalKms(shared / "keyring.json")
    assert mode(shared) == 0o755


def test_processes_that_start_at_the_same_moment_share_one_key(path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start, described = fork.Barrier(8), fork.SimpleQueue()
    processes = [fork.Process(target=_start_and_describe, args=(path, start, described)) for _ in range(8)]
    for process in processes:
        process.start()
    names = {described.get() for _ in processes}
    for process in processes:
        process.join()
    assert names == {LocalKms(path).describe()}
    assert [found.name for found in path.parent.iterdir()] == ["keyring.json"], "nothing is left lying about"


def _start_and_describe(path: Path, start: Barrier, described: SimpleQueue[str]) -> None:
    start.wait()
    described.put(LocalKms(path).describe())


def test_a_killed_writers_half_a_file_is_in_nobodys_way(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    half = path.with_name(f".{path.name}.new")
    half.write_text('{"evergrant_keyring": 1, "cur')
    kms = LocalKms(path)
    kms.add_key("next")
    assert not half.exists()


# ---------------------------------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize("open_to", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_open_to_others_is_refused_with_the_remedy(path: Path, open_to: int) -> None:
    LocalKms(path)
    path.chmod(open_to)
    with pytest.raises(ConfigurationError, match=rf"mode {open_to:04o}\): run chmod 600 "):
        LocalKms(path)
    assert mode(path) == open_to, "the operator decides, not we"


@pytest.mark.parametrize("closed_to_writing", [0o600, 0o400])
def test_a_file_for_us_alone_is_accepted(path: Path, closed_to_writing: int) -> None:
    LocalKms(path)
    path.chmod(closed_to_writing)
    assert LocalKms(path).describe()


def test_a_file_opened_to_others_while_we_run_stops_us(path: Path) -> None:
    kms = LocalKms(path)
    wrapped = kms.wrap(KEY, CONTEXT)
    path.chmod(0o644)
    with pytest.raises(KeyUnavailable, match="chmod 600") as refusal:
        kms.unwrap(wrapped, CONTEXT)
    assert not refusal.value.transient
    path.chmod(0o600)
    assert kms.unwrap(wrapped, CONTEXT) == KEY


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_is_a_configuration_error(path: Path) -> None:
    LocalKms(path)
    path.chmod(0o000)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        LocalKms(path)


def test_a_directory_in_the_place_of_the_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="keyring file"):
        LocalKms(tmp_path)


def test_a_file_in_the_place_of_the_directory_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        LocalKms(tmp_path / "file" / "keyring.json")


# --------------------------------------------------------------------------------------------------------------- damage

WHOLE = {"evergrant_keyring": 1, "current": "a", "keys": {"a": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}}
DAMAGED = {
    "empty": b"",
    "truncated": json.dumps(WHOLE).encode()[:-20],
    "garbage": bytes(range(256)),
    "not an object": b"[]",
    "another format": json.dumps({**WHOLE, "evergrant_keyring": 2}).encode(),
    "no keys": json.dumps({**WHOLE, "keys": {}}).encode(),
    "keys of another sort": json.dumps({**WHOLE, "keys": ["a"]}).encode(),
    "current unknown": json.dumps({**WHOLE, "current": "b"}).encode(),
    "current of another sort": json.dumps({**WHOLE, "current": ["a"]}).encode(),
    "a short key": json.dumps({**WHOLE, "keys": {"a": "QUFB"}}).encode(),
    "not base64": json.dumps({**WHOLE, "keys": {"a": "QUFB!" * 9}}).encode(),
    "a strange name": json.dumps({**WHOLE, "keys": {**WHOLE["keys"], "b#c": WHOLE["keys"]["a"]}}).encode(),  # type: ignore[dict-item,index]
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="damaged or no keyring") as refusal:
        LocalKms(path)
    assert path.read_bytes() == content
    assert "QUFB" not in str(refusal.value)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_file_damaged_while_we_run_makes_keys_unavailable_and_is_not_overwritten(path: Path, content: bytes) -> None:
    kms = LocalKms(path)
    wrapped, whole = kms.wrap(KEY, CONTEXT), path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(KeyUnavailable, match="damaged"):
        kms.unwrap(wrapped, CONTEXT)
    with pytest.raises(ConfigurationError, match="damaged"):
        kms.add_key("next")
    assert path.read_bytes() == content
    path.write_bytes(whole)
    assert kms.unwrap(wrapped, CONTEXT) == KEY, "a restored file is noticed"


def test_a_file_that_vanishes_while_we_run_makes_keys_unavailable_and_is_not_made_anew(path: Path) -> None:
    kms = LocalKms(path)
    wrapped = kms.wrap(KEY, CONTEXT)
    path.unlink()
    for use in (lambda: kms.unwrap(wrapped, CONTEXT), lambda: kms.wrap(KEY, CONTEXT), kms.describe):
        with pytest.raises(KeyUnavailable, match="cannot be read"):
            use()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        kms.add_key("next")
    assert not path.exists()


# --------------------------------------------------------------------------------------------------------- several keys


def test_a_new_current_key_wraps_and_the_old_one_goes_on_unwrapping_without_a_restart(path: Path) -> None:
    worker, operator = LocalKms(path), LocalKms(path)
    old = worker.wrap(KEY, CONTEXT)
    operator.add_key("2026")
    assert worker.describe() == old.kek_id, "adding alone changes nothing"
    operator.set_current("2026")
    new = worker.wrap(KEY, CONTEXT)
    assert new.kek_id.startswith("local:2026#")
    assert worker.unwrap(old, CONTEXT) == worker.unwrap(new, CONTEXT) == KEY


def test_a_key_named_in_the_uri_wraps_whatever_the_file_calls_current(path: Path) -> None:
    LocalKms(path).add_key("mine")
    assert open_kms(f"local:{path}#mine").describe().startswith("local:mine#")
    assert open_kms(f"local:{path}").describe().startswith("local:primary#")


def test_a_replaced_key_under_an_old_name_is_another_key(path: Path, tmp_path: Path) -> None:
    wrapped = LocalKms(path).wrap(KEY, CONTEXT)
    other = LocalKms(tmp_path / "other.json")
    assert other.describe() != wrapped.kek_id
    with pytest.raises(KeyUnavailable) as refusal:
        other.unwrap(wrapped, CONTEXT)
    assert not refusal.value.transient


def test_a_key_swapped_under_a_forged_id_does_not_unwrap(path: Path) -> None:
    kms = LocalKms(path)
    wrapped = kms.wrap(KEY, CONTEXT)
    kms.add_key("next")
    kms.set_current("next")
    for forged in (wrapped._replace(kek_id=kms.describe()), wrapped._replace(algorithm="none")):
        with pytest.raises(CannotOpen):
            kms.unwrap(forged, CONTEXT)


def test_a_name_twice_or_unknown_or_strange_is_refused(path: Path) -> None:
    kms = LocalKms(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="already holds"):
        kms.add_key("primary")
    with pytest.raises(ConfigurationError, match="holds no key 'x'; it holds: primary"):
        kms.set_current("x")
    with pytest.raises(ConfigurationError, match="holds no key 'x'; it holds: primary"):
        LocalKms(path, "x")
    for strange in ("", "a#b", "a/b", ".hidden", "a b", "x" * 65, "ä"):
        with pytest.raises(ConfigurationError, match="a key name has"):
            kms.add_key(strange)
    assert path.read_bytes() == before


def test_keys_added_at_the_same_moment_are_all_kept(path: Path) -> None:
    LocalKms(path)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: LocalKms(path).add_key(f"key-{number}"), range(16)))
    keys, _ = read(path)
    assert set(keys.by_name) == {"primary", *(f"key-{number}" for number in range(16))}
    assert len(set(keys.by_name.values())) == 17
    assert mode(path) == 0o600


def test_a_link_stays_a_link_when_the_file_behind_it_changes(path: Path, tmp_path: Path) -> None:
    LocalKms(path)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    LocalKms(link).add_key("next")
    assert link.is_symlink()
    assert set(read(path)[0].by_name) == {"primary", "next"}


def test_a_process_that_changes_its_directory_still_finds_the_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.chdir(path.parent)
    kms = open_kms("local:keyring.json")
    wrapped = kms.wrap(KEY, CONTEXT)
    monkeypatch.chdir(tmp_path)
    os.utime(path)
    assert kms.unwrap(wrapped, CONTEXT) == KEY


# -------------------------------------------------------------------------------------------------------------- details


def test_wrapping_has_exactly_the_pinned_bytes(path: Path) -> None:
    case = make.vectors()["local_wrap"]
    given = {"kek": bytes.fromhex(case["kek"]), "nonce": bytes.fromhex(case["nonce"])}
    kms = LocalKms(path, case["name"], random=lambda size: given["kek" if size == 32 else "nonce"])
    wrapped = kms.wrap(bytes.fromhex(case["key"]), case["context"])
    assert wrapped.kek_id == case["kek_id"]
    assert wrapped.ciphertext.hex() == case["ciphertext"]
    assert wrapped.algorithm == "AES-256-GCM"


def test_nothing_shows_a_key(path: Path) -> None:
    kms = LocalKms(path, random=lambda size: b"\x0a" * size)
    keys, _ = read(path)
    for shown in (repr(kms), repr(vars(kms)), repr(keys), kms.describe()):
        assert "\\n\\n" not in shown
        assert "CgoK" not in shown
        assert "0a0a0a" not in shown


@pytest.mark.parametrize("uri", ["", "keyring.json", "/keyring.json", "aws:key", "LOCAL:keyring.json", "http://x"])
def test_an_unknown_kind_of_uri_lists_the_known_ones(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"known kinds: .*local:"):
        open_kms(uri)


@pytest.mark.parametrize("uri", ["local:", "local:#name", "local:keyring.json#", "local:directory/", "local://"])
def test_a_local_uri_that_names_no_file_or_no_key_says_how_it_must_read(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="local:FILE"):
        open_kms(uri)


@pytest.mark.parametrize("form", ["local:{}", "local://{}", "local:~/keyring.json", "local:keyring.json"])
def test_the_forms_of_a_local_uri_name_the_same_file(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    open_kms(form.format(tmp_path / "keyring.json"))
    assert (tmp_path / "keyring.json").is_file()
