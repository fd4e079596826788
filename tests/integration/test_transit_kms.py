"""hvac against a transit engine of ours: what is asked, what goes wrong, and what is said of it."""

from __future__ import annotations

import base64
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.faulty import Answer, Fault, FaultyServer
from tests.support.transit import MOUNT, NAME, TOKEN, Transit, transit_engine
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.kms.transit import TransitKey, TransitKms, open_transit
from vault.ports import WrappedKey
from vault.secret import Secret

CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
KEY = bytes(range(32))
PATIENCE = 10.0  # seconds that a call may take, whatever happens


@pytest.fixture
def engine() -> Iterator[Transit]:
    with transit_engine() as engine:
        yield engine


@pytest.fixture
def kms(engine: Transit) -> TransitKms:
    return made(engine)


def made(engine: Transit, **changes: str) -> TransitKms:
    return TransitKms(TransitKey(engine.uri, MOUNT, NAME)._replace(**changes), lambda: Secret(TOKEN))


def refusal(call: Callable[[], object]) -> KeyUnavailable:
    begun = time.monotonic()
    with pytest.raises(KeyUnavailable) as refused:
        call()
    assert time.monotonic() - begun < PATIENCE
    return refused.value


# ------------------------------------------------------------------------------------------------------- what is asked


def test_a_wrapping_is_one_call_and_an_unwrapping_another(engine: Transit, kms: TransitKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    assert (engine.server.seen["encrypt"], engine.server.seen["decrypt"]) == (1, 0)
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    assert (engine.server.seen["encrypt"], engine.server.seen["decrypt"]) == (1, 1)


def test_a_new_version_wraps_at_once_and_the_old_goes_on_unwrapping(engine: Transit, kms: TransitKms) -> None:
    old = kms.wrap(KEY, CONTEXT)
    engine.rotate()
    new = kms.wrap(KEY, CONTEXT)
    assert (old.kek_id, new.kek_id, kms.describe()) == (engine.kek_id(1), engine.kek_id(2), engine.kek_id(2))
    assert kms.unwrap(old, CONTEXT) == kms.unwrap(new, CONTEXT) == KEY


def test_the_version_is_named_without_any_right_but_that_to_wrap(engine: Transit, kms: TransitKms) -> None:
    engine.forbidden.add("decrypt")
    assert kms.describe() == engine.kek_id(1)
    assert engine.server.seen["keys"] == 0


def test_a_version_recorded_for_another_does_not_unwrap_and_is_not_asked_for(engine: Transit, kms: TransitKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    engine.rotate()
    for forged in (wrapped._replace(kek_id=engine.kek_id(2)), wrapped._replace(algorithm="none")):
        with pytest.raises(CannotOpen):
            kms.unwrap(forged, CONTEXT)
    assert engine.server.seen["decrypt"] == 0


def test_every_byte_counts(kms: TransitKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    for position in range(len(wrapped.ciphertext)):
        damaged = bytearray(wrapped.ciphertext)
        damaged[position] ^= 1
        with pytest.raises(CannotOpen):
            kms.unwrap(wrapped._replace(ciphertext=bytes(damaged)), CONTEXT)


@pytest.mark.parametrize("kind", ["derived", "RSA"])
def test_keys_of_other_kinds_work_and_hold_to_the_context(engine: Transit, kms: TransitKms, kind: str) -> None:
    if kind == "derived":
        engine.derived = True
    else:
        engine.keys = [rsa.generate_private_key(65537, 2048)]
    wrapped = kms.wrap(KEY, CONTEXT)
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped, {**CONTEXT, "tenant": "umbra"})
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped._replace(ciphertext=wrapped.ciphertext.replace(b"vault:v1:", b"vault:v1:A", 1)), CONTEXT)
    damaged = bytearray(wrapped.ciphertext)
    damaged[40] = ord("A") if damaged[40] != ord("A") else ord("B")
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped._replace(ciphertext=bytes(damaged)), CONTEXT)


def test_a_namespace_is_asked_and_named(engine: Transit) -> None:
    engine.namespace = "admin/team"
    kms = made(engine, namespace="admin/team")
    wrapped = kms.wrap(KEY, CONTEXT)
    assert wrapped.kek_id == f"{engine.kek_id(1)}?namespace=admin/team"
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    assert refusal(made(engine).describe).reason == "not_found"


def test_by_https_too() -> None:
    with transit_engine("https") as engine:
        kms = open_transit(f"{engine.uri}/{MOUNT}/{NAME}", {"VAULT_TOKEN": TOKEN})
        assert kms.unwrap(kms.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_many_threads_share_one_kms(kms: TransitKms) -> None:
    with ThreadPoolExecutor(16) as pool:
        wrapped = list(pool.map(lambda _: kms.wrap(KEY, CONTEXT), range(64)))
        assert set(pool.map(lambda each: kms.unwrap(each, CONTEXT), wrapped)) == {KEY}


def test_a_forked_child_has_connections_of_its_own(kms: TransitKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    fork = multiprocessing.get_context("fork")
    answers: SimpleQueue[bytes] = fork.SimpleQueue()
    parents = kms._client
    child = fork.Process(target=lambda: answers.put(kms.unwrap(wrapped, CONTEXT) * (kms._client is not parents)))
    child.start()
    assert answers.get() == kms.unwrap(wrapped, CONTEXT) == KEY
    child.join()


# ----------------------------------------------------------------------------------------------------------- the token


def test_a_token_file_is_read_anew_when_an_agent_renews_it(engine: Transit, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    kms = open_transit(f"{engine.uri}/{MOUNT}/{NAME}", {"VAULT_TOKEN_FILE": str(file), "VAULT_TOKEN": "another"})
    wrapped = kms.wrap(KEY, CONTEXT)
    engine.token = "hvs.renewed"
    assert refusal(lambda: kms.unwrap(wrapped, CONTEXT)).reason == "denied"
    file.write_text("hvs.renewed")
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    file.unlink()
    refused = refusal(lambda: kms.unwrap(wrapped, CONTEXT))
    assert (refused.reason, refused.transient) == ("no_token", True)


def test_no_token_is_looked_for_elsewhere(engine: Transit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would take one from the environment or the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    (tmp_path / ".vault-token").mkdir()  # whoever tries to read that fails
    kms = TransitKms(TransitKey(engine.uri, MOUNT, NAME), lambda: None)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    assert refusal(kms.describe).reason == "no_token"
    assert not engine.server.seen


# ------------------------------------------------------------------------------------------------------------ refusals


def deleted(engine: Transit) -> None:
    engine.exists = False


def soft_deleted(engine: Transit) -> None:
    engine.soft_deleted = True


def denied(engine: Transit) -> None:
    engine.forbidden = {"encrypt", "decrypt"}


def sealed(engine: Transit) -> None:
    engine.sealed = True


def of_another_namespace(engine: Transit) -> None:
    engine.namespace = "elsewhere"


@pytest.mark.parametrize(
    ("happens", "reason", "transient"),
    [
        (deleted, "not_found", False),
        (soft_deleted, "disabled", False),
        (denied, "denied", False),
        (sealed, "unavailable", True),
        (of_another_namespace, "not_found", False),
    ],
)
def test_what_happens_to_a_key_has_its_word(
    engine: Transit, kms: TransitKms, happens: Callable[[Transit], None], reason: str, transient: bool
) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    happens(engine)
    for call in (kms.describe, lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == (reason, transient)


def test_a_version_below_the_least_for_decryption_is_disabled_and_the_others_are_not(
    engine: Transit, kms: TransitKms
) -> None:
    old = kms.wrap(KEY, CONTEXT)
    engine.rotate()
    new = kms.wrap(KEY, CONTEXT)
    engine.min_decryption_version = 2
    refused = refusal(lambda: kms.unwrap(old, CONTEXT))
    assert (refused.reason, refused.transient, refused.key_id) == ("disabled", False, engine.kek_id(1))
    assert kms.unwrap(new, CONTEXT) == KEY


def test_a_version_that_a_new_key_of_that_name_does_not_have_is_not_found(engine: Transit, kms: TransitKms) -> None:
    engine.rotate()
    wrapped = kms.wrap(KEY, CONTEXT)
    engine.keys = engine.keys[:1]
    refused = refusal(lambda: kms.unwrap(wrapped, CONTEXT))
    assert (refused.reason, refused.transient) == ("not_found", False)


def test_a_key_of_a_mistyped_name_is_not_made_by_wrapping(engine: Transit) -> None:
    """Transit makes keys that are not there for a token that may create them."""
    engine.may_create, engine.exists = True, False
    assert refusal(lambda: made(engine).wrap(KEY, CONTEXT)).reason == "not_found"
    assert not engine.exists


# -------------------------------------------------------------------------------------------------------------- faults

ERROR = {"errors": ["text from outside"]}
FAULTS: dict[str, tuple[Fault, str]] = {
    "a quota": (Fault(Answer(429, ERROR, {"Retry-After": "60"})), "throttled"),
    "internal error": (Fault(Answer(500, ERROR)), "unavailable"),
    "not initialised": (Fault(Answer(501, ERROR)), "unavailable"),
    "a gateway's page": (Fault(Answer(502, ""), raw=b"<html>bad gateway</html>"), "unavailable"),
    "another error": (Fault(Answer(409, ERROR)), "refused"),
    "behind the others": (Fault(Answer(412, ERROR)), "unavailable"),
    "forbidden": (Fault(Answer(403, ERROR)), "denied"),
    "forbidden, in garbage": (Fault(Answer(403, ""), raw=b"\xff\x00{"), "denied"),
    "nothing mounted": (Fault(Answer(404, {"errors": []})), "not_found"),
    "another engine": (Fault(Answer(405, ERROR)), "refused"),
    "truncated": (Fault(cut=True), "unavailable"),
    "garbage": (Fault(raw=b"\xff\xfe{{{"), "unavailable"),
    "empty": (Fault(raw=b""), "unavailable"),
    "not an object": (Fault(raw=b"[]"), "unavailable"),
    "very deep": (Fault(raw=b"[" * 200_000), "unavailable"),
    "of another shape": (Fault(raw=b'{"data": {"ciphertext": 7, "plaintext": {}}}'), "unavailable"),
    "without data": (Fault(raw=b'{"data": null}'), "unavailable"),
    "not a ciphertext": (Fault(raw=b'{"data": {"ciphertext": "vault:v0:AA==", "plaintext": "A=="}}'), "unavailable"),
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_word_and_passes(engine: Transit, kms: TransitKms, fault: Fault, reason: str) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    engine.server.fault = fault
    for call in (kms.describe, lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == (reason, reason in ("throttled", "unavailable"))
        assert "outside" not in str(refused)
    engine.server.fault = Fault()
    assert kms.unwrap(wrapped, CONTEXT) == kms.unwrap(kms.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_a_slow_answer_is_not_waited_for(engine: Transit, kms: TransitKms) -> None:
    engine.server.fault = Fault(delay=60)
    refused = refusal(lambda: kms.wrap(KEY, CONTEXT))
    assert (refused.reason, refused.transient) == ("timeout", True)


def test_bad_request_is_a_refusal_except_to_unwrapping(engine: Transit, kms: TransitKms) -> None:
    """Transit says so of a ciphertext its key does not open, in words that depend on the key's kind."""
    wrapped = kms.wrap(KEY, CONTEXT)
    engine.server.fault = Fault(Answer(400, ERROR))
    refused = refusal(lambda: kms.wrap(KEY, CONTEXT))
    assert (refused.reason, refused.transient) == ("refused", False)
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped, CONTEXT)


def test_nobody_there_is_unavailable(engine: Transit, kms: TransitKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    engine.server.__exit__()
    for call in (kms.describe, lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == ("unavailable", True)


def test_a_server_that_cannot_prove_its_name_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with transit_engine("https") as engine:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        assert refusal(made(engine).describe).reason == "unavailable"
        assert not engine.server.seen


def test_a_redirect_is_not_followed(engine: Transit, kms: TransitKms) -> None:
    with FaultyServer(lambda request: Answer(200, {})) as elsewhere:
        engine.server.fault = Fault(Answer(307, {}, {"Location": f"http://{elsewhere.address}/v1/sys"}))
        assert refusal(lambda: kms.wrap(KEY, CONTEXT)).reason == "unavailable"
        assert not elsewhere.seen


# -------------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_in_a_text(engine: Transit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    drawn: list[bytes] = []

    def random(size: int) -> bytes:
        drawn.append(bytes(range(100, 100 + size)))
        return drawn[-1]

    kms = TransitKms(TransitKey(engine.uri, MOUNT, NAME), lambda: Secret(TOKEN), random=random)
    wrapped, texts = kms.wrap(KEY, CONTEXT), list[str]()
    kms.unwrap(wrapped, CONTEXT)
    for fault, _ in FAULTS.values():
        engine.server.fault = fault
        for call in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
            with pytest.raises(VaultError) as error:
                call()
            assert error.value.__context__ is None, "what the client raised holds the request"
            texts += [str(error.value), repr(error.value)]
    texts += [caplog.text, repr(kms), repr(vars(kms))]
    assert "encrypt" in caplog.text
    for secret in (KEY, drawn[0]):
        for shown in (secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()[:40], TOKEN):
            assert not [text for text in texts if shown in text]


def test_what_is_stored_is_what_the_contract_says(engine: Transit, kms: TransitKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    of_transit = len("vault:v1:") + len(base64.b64encode(bytes(12 + 32 + 16)))
    assert wrapped == WrappedKey(engine.kek_id(1), "vault-transit+AES-256-GCM", wrapped.ciphertext)
    assert len(wrapped.ciphertext) == 4 + 2 + of_transit + 12 + 32 + 16
