"""Strings: what they cost the KMS, what they open, and what they refuse."""

from __future__ import annotations

import base64
import itertools
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.support import second
from tests.support.fake_keys import Clock, FakeKeks, FakeKms
from vault.errors import CannotOpen, KeyUnavailable
from vault.legacy import kind, pack_string, unpack_string
from vault.services.strings import Strings

LEGACY_KEY = b"\x07" * 32
SEALED = second.encrypt(LEGACY_KEY, b"iv of twelve", b"of before")
V1 = f"{b'iv of twelve'.hex()}:{SEALED[-16:].hex()}:{SEALED[:-16].hex()}"
FOREIGN = f"kms:v2:{base64.b64encode(b'blob').decode()}:{base64.b64encode(b'iv of twelve' + SEALED).decode()}"


class Rig:
    """Strings over a fake KMS, with a clock in the hand of the test."""

    def __init__(self) -> None:
        self.clock, self.kms = Clock(), FakeKms()
        self._numbers = itertools.count(1)

    def strings(self, tenant: str = "acme", **arguments: Any) -> Strings:
        """As another process would have them."""
        return Strings(tenant, FakeKeks(self.kms), monotonic=self.clock, random=self._bytes, **arguments)

    def _bytes(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ----------------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("text", ["", "a token", "Größe · 東京 · 🔑", "kms:v2:AAAA:AAAA", V1, "x" * 100_000])
def test_a_string_comes_back_here_and_in_another_process(rig: Rig, text: str) -> None:
    strings = rig.strings()
    encrypted = strings.encrypt(text)
    assert kind(encrypted) == "v2"
    assert strings.decrypt(encrypted) == rig.strings().decrypt(encrypted) == text


def test_the_same_string_twice_gives_two_texts(rig: Rig) -> None:
    strings = rig.strings()
    assert strings.encrypt("a token") != strings.encrypt("a token")


def test_what_was_encrypted_before_a_change_of_kek_still_opens(rig: Rig) -> None:
    encrypted = rig.strings().encrypt("a token")
    rig.kms.in_use = "kek-2"
    assert rig.strings().decrypt(encrypted) == "a token"
    assert unpack_string(rig.strings().encrypt("another")).wrapped.kek_id == "kek-2"


# ----------------------------------------------------------------------------------------------------------------- cost


def test_a_thousand_strings_cost_one_wrapping_and_a_thousand_decrypted_elsewhere_one_unwrapping(rig: Rig) -> None:
    strings = rig.strings()
    encrypted = [strings.encrypt(f"token {n}") for n in range(1000)]
    assert [strings.decrypt(text) for text in encrypted] == [f"token {n}" for n in range(1000)]
    assert rig.kms.calls == [("wrap", "acme"), ("unwrap", "acme")], "the unwrapping proves the wrapping"
    rig.kms.calls.clear()
    elsewhere = rig.strings()
    assert [elsewhere.decrypt(text) for text in encrypted] == [f"token {n}" for n in range(1000)]
    assert rig.kms.calls == [("unwrap", "acme")]


def test_a_data_key_serves_for_one_cache_life(rig: Rig) -> None:
    strings, ids = rig.strings(life=timedelta(minutes=4)), set()
    for _ in range(8):
        ids.add(unpack_string(strings.encrypt("x")).key_id)
        rig.clock.pass_by(timedelta(minutes=1))
    assert len(ids) == rig.kms.count("wrap") == 2


def test_an_unwrapped_key_is_asked_for_again_after_its_life(rig: Rig) -> None:
    encrypted, elsewhere = rig.strings().encrypt("x"), rig.strings(life=timedelta(minutes=4))
    rig.kms.calls.clear()
    for _ in range(8):
        assert elsewhere.decrypt(encrypted) == "x"
        rig.clock.pass_by(timedelta(minutes=1))
    assert rig.kms.calls == [("unwrap", "acme")] * 2


def test_the_life_counts_from_before_the_kms_was_asked(rig: Rig) -> None:
    """A slow answer must not stretch the time that revoking a key takes to work."""
    encrypted, elsewhere = rig.strings().encrypt("x"), rig.strings(life=timedelta(minutes=4))
    rig.kms.during_call = lambda tenant: rig.clock.pass_by(timedelta(minutes=3))
    elsewhere.decrypt(encrypted)
    rig.kms.unavailable(transient=False)
    elsewhere.decrypt(encrypted)
    rig.clock.pass_by(timedelta(minutes=2))
    with pytest.raises(KeyUnavailable):
        elsewhere.decrypt(encrypted)


def test_nobody_keeps_a_key_for_longer_than_five_minutes(rig: Rig) -> None:
    with pytest.raises(ValueError, match="0:05:00"):
        rig.strings(life=timedelta(minutes=5, seconds=1))


def test_a_data_key_is_bounded_in_uses_both_ways(rig: Rig) -> None:
    strings = rig.strings(uses=10)
    texts = [strings.encrypt("x") for _ in range(30)]
    assert len({unpack_string(text).key_id for text in texts}) == rig.kms.count("wrap") == 3
    elsewhere = rig.strings(uses=10)
    rig.kms.calls.clear()
    for _ in range(30):
        elsewhere.decrypt(texts[0])
    assert 2 <= rig.kms.count("unwrap") <= 3


def test_no_more_keys_are_held_than_allowed(rig: Rig) -> None:
    texts = [rig.strings().encrypt(f"{n}") for n in range(20)]
    strings = rig.strings(capacity=4)
    for text in texts:
        strings.decrypt(text)
    rig.kms.calls.clear()
    for text in texts[-4:]:
        strings.decrypt(text)
    assert rig.kms.calls == []
    strings.decrypt(texts[0])
    assert rig.kms.calls == [("unwrap", "acme")]
    assert len(strings._opening) <= 4
    assert len(strings._inquiries) <= 5


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_a_hundred_threads_make_one_call(rig: Rig, verb: str) -> None:
    encrypted, strings = rig.strings().encrypt("x"), rig.strings()
    rig.kms.calls.clear()
    together, asked = threading.Barrier(100), threading.Event()

    def take_time(tenant: str) -> None:
        asked.wait(0.05)

    rig.kms.during_call = take_time

    def one(_: int) -> str:
        together.wait()
        return strings.encrypt("x") if verb == "encrypt" else strings.decrypt(encrypted)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(one, range(100)))
    assert rig.kms.calls == [("wrap", "acme"), ("unwrap", "acme")][verb == "decrypt" :]


def test_one_data_key_that_is_slow_to_come_holds_up_nobody_else(rig: Rig) -> None:
    slow, quick, strings = rig.strings().encrypt("slow"), rig.strings().encrypt("quick"), rig.strings()
    at_kms, go_on = threading.Event(), threading.Event()

    def wait_once(tenant: str) -> None:
        rig.kms.during_call = lambda tenant: None
        at_kms.set()
        assert go_on.wait(10)

    rig.kms.during_call = wait_once
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(strings.decrypt, slow)
        assert at_kms.wait(10)
        assert strings.decrypt(quick) == "quick"
        assert strings.decrypt(strings.encrypt("here")) == "here"
        assert not waiting.done()
        go_on.set()
        assert waiting.result(10) == "slow"


# -------------------------------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize("transient", [True, False])
def test_a_kms_that_refuses_is_asked_once_a_second_and_keys_in_hand_go_on(rig: Rig, transient: bool) -> None:
    encrypted, new = rig.strings().encrypt("x"), rig.strings()
    rig.kms.unavailable(transient=transient)
    rig.kms.calls.clear()
    for _ in range(5):
        for act, text in ((new.encrypt, "x"), (new.decrypt, encrypted)):
            with pytest.raises(KeyUnavailable) as refusal:
                act(text)
            assert refusal.value.transient is transient
    assert rig.kms.calls == [("wrap", "acme"), ("unwrap", "acme")]
    rig.kms.recover()
    rig.clock.pass_by(1.5)
    assert new.decrypt(encrypted) == new.decrypt(new.encrypt("x")) == "x"
    rig.kms.unavailable(transient=transient)
    assert new.decrypt(encrypted) == new.decrypt(new.encrypt("x")) == "x"


def test_a_wrapping_that_does_not_open_is_never_written_with(rig: Rig) -> None:
    strings = rig.strings()
    rig.kms.unwrap = lambda wrapped, context: bytes(32)  # type: ignore[method-assign]
    with pytest.raises(CannotOpen):
        strings.encrypt("x")


@pytest.mark.parametrize("raw", [b"", bytes(16), bytes(33)])
def test_a_kms_that_gives_back_no_key_at_all_is_one_error_more(rig: Rig, raw: bytes) -> None:
    encrypted, strings = rig.strings().encrypt("x"), rig.strings()
    rig.kms.unwrap = lambda wrapped, context: raw  # type: ignore[method-assign]
    with pytest.raises(CannotOpen):
        strings.decrypt(encrypted)


def test_another_tenants_string_does_not_open(rig: Rig) -> None:
    encrypted = rig.strings("acme").encrypt("x")
    with pytest.raises(CannotOpen):
        rig.strings("umbra").decrypt(encrypted)


def test_the_halves_of_two_texts_do_not_fit_and_the_kms_is_not_bothered(rig: Rig) -> None:
    first, other = (unpack_string(rig.strings().encrypt(text)) for text in ("one", "two"))
    rig.kms.calls.clear()
    for mixed in (pack_string(first.wrapped, other.envelope), pack_string(other.wrapped, first.envelope)):
        with pytest.raises(CannotOpen):
            rig.strings().decrypt(mixed)
    assert rig.kms.calls == []


@pytest.mark.parametrize("tenant", ["acme", "umbra"])
def test_a_string_is_wrapped_for_its_tenant_and_purpose(rig: Rig, tenant: str) -> None:
    wrapped = unpack_string(rig.strings(tenant).encrypt("x")).wrapped
    bound_to = {"app": "evergrant", "tenant": tenant, "purpose": "string"}
    assert len(rig.kms.unwrap(wrapped, bound_to)) == 32
    for name in bound_to:
        with pytest.raises(CannotOpen):
            rig.kms.unwrap(wrapped, {**bound_to, name: "another"})


def test_a_string_that_is_no_text_is_refused_without_being_shown(rig: Rig) -> None:
    with pytest.raises(ValueError, match="surrogates") as refusal:
        rig.strings().encrypt("secret \ud800")
    assert refusal.value.__cause__ is None
    assert "secret" not in repr(refusal.value)


def test_a_forked_child_starts_without_keys(rig: Rig) -> None:
    strings = rig.strings()
    encrypted = strings.encrypt("x")
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        before = len(rig.kms.calls)
        opened = strings.decrypt(encrypted) == "x"
        os._exit(0 if opened and len(rig.kms.calls) == before + 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_of_a_key_shows(rig: Rig) -> None:
    strings = rig.strings(legacy_key=LEGACY_KEY)
    strings.encrypt("x")
    assert "\\x07" not in repr(strings)
    with pytest.raises(TypeError):
        pickle.dumps(strings._writing.get(0))


# ------------------------------------------------------------------------------------------------------- formats before


def test_v1_opens_with_the_key_of_before_and_without_the_kms(rig: Rig) -> None:
    assert rig.strings(legacy_key=LEGACY_KEY).decrypt(V1) == "of before"
    assert rig.kms.calls == []


def test_v1_without_its_key_says_what_to_set(rig: Rig) -> None:
    with pytest.raises(KeyUnavailable, match=r"ENCRYPTION_KEY.* set it to the key") as refusal:
        rig.strings(plaintext=True).decrypt(V1)
    assert not refusal.value.transient


def test_v1_under_another_key_is_no_plain_text_either(rig: Rig) -> None:
    with pytest.raises(CannotOpen):
        rig.strings(legacy_key=bytes(32), plaintext=True).decrypt(V1)


def test_another_systems_v2_opens_with_the_data_key_its_kms_gives(rig: Rig) -> None:
    keys = {b"blob": LEGACY_KEY}
    assert rig.strings(foreign=keys.__getitem__).decrypt(FOREIGN) == "of before"


def test_another_systems_v2_without_its_kms_says_so(rig: Rig) -> None:
    with pytest.raises(KeyUnavailable, match="another system") as refusal:
        rig.strings(plaintext=True).decrypt(FOREIGN)
    assert not refusal.value.transient


def test_plain_text_is_refused_unless_it_was_allowed(rig: Rig) -> None:
    for text in ("", "a token", "a:b:c"):
        with pytest.raises(CannotOpen):
            rig.strings(legacy_key=LEGACY_KEY).decrypt(text)
        assert rig.strings(plaintext=True).decrypt(text) == text


def test_nothing_that_looks_encrypted_is_ever_handed_out_as_plain_text(rig: Rig) -> None:
    strings = rig.strings(legacy_key=LEGACY_KEY, foreign=lambda blob: LEGACY_KEY, plaintext=True)
    encrypted = strings.encrypt("x")
    envelope = unpack_string(encrypted).envelope
    looks = [encrypted[:-5], f"{encrypted}x", "kms:", "kms:v3:AAAA:AAAA", V1[:-2], f"{V1}!", f"{V1[:58]}00"]
    for text in (*looks, envelope.hex(), base64.b64encode(envelope).decode(), FOREIGN[:-4]):
        with pytest.raises(CannotOpen):
            strings.decrypt(text)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_what_opens_to_something_else_than_text_does_not_open(rig: Rig, encoding: str) -> None:
    sealed = second.encrypt(LEGACY_KEY, b"iv of twelve", "größe".encode(encoding))
    text = f"{b'iv of twelve'.hex()}:{sealed[-16:].hex()}:{sealed[:-16].hex()}"
    with pytest.raises(CannotOpen) as refusal:
        rig.strings(legacy_key=LEGACY_KEY).decrypt(text)
    assert refusal.value.__cause__ is None
