"""Microsoft's SDK against a Key Vault of ours: what is asked, what goes wrong, and what is said of it."""

from __future__ import annotations

import base64
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from tests.support.azure import NAME, TOKEN, Credential, KeyVault, azure_kms, key_vault
from tests.support.fake_keys import Clock
from tests.support.faulty import Answer, Fault, FaultyServer, trusted
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.kms.azure import AzureKey, AzureKms
from vault.ports import WrappedKey

CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
KEY = bytes(range(32))
PATIENCE = 10.0  # seconds that a call may take, whatever happens


@pytest.fixture
def vault() -> Iterator[KeyVault]:
    with key_vault() as vault:
        yield vault


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kms(vault: KeyVault, clock: Clock) -> AzureKms:
    return AzureKms(AzureKey(vault.uri, NAME, None), credential=Credential(), monotonic=clock)


def refusal(call: Callable[[], object]) -> KeyUnavailable:
    begun = time.monotonic()
    with pytest.raises(KeyUnavailable) as refused:
        call()
    assert time.monotonic() - begun < PATIENCE
    return refused.value


# ------------------------------------------------------------------------------------------------------- what is asked


def test_the_service_does_every_wrapping_itself(vault: KeyVault, kms: AzureKms) -> None:
    """Not this machine with the public key: the service checks rights and validity, and keeps a record."""
    for number in range(1, 4):
        kms.wrap(KEY, CONTEXT)
        assert vault.server.seen["wrapkey"] == number


def test_unwrapping_is_one_call_and_needs_no_right_to_read_the_key(vault: KeyVault, kms: AzureKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    vault.forbidden.add("get")
    vault.server.seen.clear()
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    assert vault.server.seen["keys"] == vault.server.seen["unwrapkey"] == 1


def test_a_version_in_the_uri_wraps_whatever_is_newer_and_needs_no_right_to_read_the_key(vault: KeyVault) -> None:
    first = vault.newest
    vault.rotate()
    vault.forbidden.add("get")
    kms = AzureKms(AzureKey(vault.uri, NAME, first), credential=Credential())
    wrapped = kms.wrap(KEY, CONTEXT)
    assert wrapped.kek_id == kms.describe() == vault.kek_id(first)
    assert kms.unwrap(wrapped, CONTEXT) == KEY


def test_a_new_version_wraps_within_a_minute_and_the_old_goes_on_unwrapping(
    vault: KeyVault, kms: AzureKms, clock: Clock
) -> None:
    old = kms.wrap(KEY, CONTEXT)
    version = vault.rotate()
    clock.pass_by(59)
    assert kms.describe() == old.kek_id
    clock.pass_by(1)
    new = kms.wrap(KEY, CONTEXT)
    assert new.kek_id == kms.describe() == vault.kek_id(version)
    assert kms.unwrap(old, CONTEXT) == kms.unwrap(new, CONTEXT) == KEY


def test_a_version_recorded_for_another_does_not_unwrap(vault: KeyVault, kms: AzureKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped._replace(kek_id=vault.kek_id(vault.rotate())), CONTEXT)
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped._replace(algorithm="RSA-OAEP"), CONTEXT)


def test_many_threads_share_one_kms(kms: AzureKms) -> None:
    with ThreadPoolExecutor(16) as pool:
        wrapped = list(pool.map(lambda _: kms.wrap(KEY, CONTEXT), range(64)))
        assert set(pool.map(lambda each: kms.unwrap(each, CONTEXT), wrapped)) == {KEY}


def test_a_forked_child_has_connections_of_its_own(kms: AzureKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    fork = multiprocessing.get_context("fork")
    answers: SimpleQueue[bytes] = fork.SimpleQueue()
    parents = kms._client
    child = fork.Process(target=lambda: answers.put(kms.unwrap(wrapped, CONTEXT) * (kms._client is not parents)))
    child.start()
    assert answers.get() == kms.unwrap(wrapped, CONTEXT) == KEY
    child.join()


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("shown", [True, False])
def test_a_disabled_version_neither_wraps_nor_unwraps(vault: KeyVault, kms: AzureKms, shown: bool) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    vault.shows_disabled = shown
    vault.change(vault.newest, enabled=False)
    for call in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT), lambda: kms.wrap(KEY, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == ("disabled", False)
        assert vault.uri in refused.key_id
    vault.change(vault.newest, enabled=True)
    assert kms.unwrap(wrapped, CONTEXT) == kms.unwrap(kms.wrap(KEY, CONTEXT), CONTEXT) == KEY, "and all is as before"


def test_after_a_refusal_the_newest_version_is_looked_up_anew(vault: KeyVault, kms: AzureKms) -> None:
    """Somebody who suspects a version makes another and disables it: that need not cost a minute."""
    suspected = vault.newest
    kms.wrap(KEY, CONTEXT)
    version = vault.rotate()
    vault.change(suspected, enabled=False)
    assert refusal(lambda: kms.wrap(KEY, CONTEXT)).reason == "disabled"
    assert kms.wrap(KEY, CONTEXT).kek_id == vault.kek_id(version)


@pytest.mark.parametrize(
    ("attributes", "reason", "transient"),
    [({"expires": 1}, "expired", False), ({"not_before": 1 << 40}, "not_yet_valid", True)],
)
def test_outside_its_time_a_version_does_not_wrap_and_still_unwraps(
    vault: KeyVault, kms: AzureKms, attributes: dict[str, int], reason: str, transient: bool
) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    vault.change(vault.newest, **attributes)
    refused = refusal(lambda: kms.wrap(KEY, CONTEXT))
    assert (refused.reason, refused.transient) == (reason, transient)
    assert kms.unwrap(wrapped, CONTEXT) == KEY


@pytest.mark.parametrize("operation", ["get", "wrapkey", "unwrapkey"])
def test_a_missing_right_is_a_refusal(vault: KeyVault, kms: AzureKms, operation: str) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    vault.forbidden.add(operation)
    kms = AzureKms(AzureKey(vault.uri, NAME, None), credential=Credential())
    call = (lambda: kms.unwrap(wrapped, CONTEXT)) if operation == "unwrapkey" else (lambda: kms.wrap(KEY, CONTEXT))
    refused = refusal(call)
    assert (refused.reason, refused.transient) == ("denied", False)


def test_a_key_or_a_version_that_is_not_there_is_not_found(vault: KeyVault, kms: AzureKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    elsewhere = AzureKms(AzureKey(vault.uri, "other-key", None), credential=Credential())
    gone = wrapped._replace(kek_id=vault.kek_id("0" * 32))
    for call in (elsewhere.describe, lambda: kms.unwrap(gone, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == ("not_found", False)


# -------------------------------------------------------------------------------------------------------------- faults

ERROR = {"error": {"code": "Whatever", "message": "text from outside"}}
FAULTS: dict[str, tuple[Fault, str]] = {
    "throttled": (Fault(Answer(429, ERROR, {"Retry-After": "60"})), "throttled"),
    "internal error": (Fault(Answer(500, ERROR)), "unavailable"),
    "unavailable for a while": (Fault(Answer(503, ERROR, {"Retry-After": "60"})), "unavailable"),
    "a gateway's page": (Fault(Answer(502, ""), raw=b"<html>bad gateway</html>"), "unavailable"),
    "request timeout": (Fault(Answer(408, ERROR)), "unavailable"),
    "unauthorized": (Fault(Answer(401, ERROR)), "denied"),
    "forbidden": (Fault(Answer(403, ERROR)), "denied"),
    "forbidden, in garbage": (Fault(Answer(403, ""), raw=b"\xff\x00{"), "denied"),
    "another error": (Fault(Answer(409, ERROR)), "refused"),
    "truncated": (Fault(cut=True), "unavailable"),
    "garbage": (Fault(raw=b"\xff\xfe{{{"), "unavailable"),
    "empty": (Fault(raw=b""), "unavailable"),
    "not an object": (Fault(raw=b"[]"), "unavailable"),
    "very deep": (Fault(raw=b"[" * 200_000), "unavailable"),
    "of another shape": (Fault(raw=b'{"key": {"kid": 7}, "value": {"a": 1}}'), "unavailable"),
    "another vault's key": (Fault(raw=b'{"key": {"kid": "https://x"}, "value": "!!"}'), "unavailable"),
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_word_and_passes(vault: KeyVault, kms: AzureKms, fault: Fault, reason: str) -> None:
    wrapped, clockwork = kms.wrap(KEY, CONTEXT), AzureKey(vault.uri, NAME, vault.newest)
    newcomer, pinned = (AzureKms(key, credential=Credential()) for key in (clockwork._replace(version=None), clockwork))
    vault.server.fault = fault
    for call in (newcomer.describe, lambda: pinned.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == (reason, reason in ("throttled", "unavailable"))
        assert "outside" not in str(refused)
    vault.server.fault = Fault()
    assert kms.unwrap(wrapped, CONTEXT) == newcomer.unwrap(pinned.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_a_slow_answer_is_not_waited_for(vault: KeyVault, kms: AzureKms) -> None:
    kms.wrap(KEY, CONTEXT)
    vault.server.fault = Fault(delay=60)
    refused = refusal(lambda: kms.wrap(KEY, CONTEXT))
    assert (refused.reason, refused.transient) == ("timeout", True)


def test_bad_request_is_a_refusal_except_to_unwrapping(vault: KeyVault, kms: AzureKms) -> None:
    """Key Vault says so of a ciphertext its key does not open."""
    wrapped = kms.wrap(KEY, CONTEXT)
    vault.server.fault = Fault(Answer(400, ERROR))
    refused = refusal(lambda: kms.wrap(KEY, CONTEXT))
    assert (refused.reason, refused.transient) == ("refused", False)
    with pytest.raises(CannotOpen):
        kms.unwrap(wrapped, CONTEXT)


def test_nobody_there_is_unavailable(vault: KeyVault, kms: AzureKms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    vault.server.__exit__()
    for call in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
        refused = refusal(call)
        assert (refused.reason, refused.transient) == ("unavailable", True)


def test_a_server_that_cannot_prove_its_name_gets_nothing(vault: KeyVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    kms = AzureKms(AzureKey(vault.uri, NAME, None), credential=Credential())
    assert refusal(kms.describe).reason == "unavailable"
    assert not vault.server.seen


def test_a_redirect_is_not_followed(vault: KeyVault, kms: AzureKms) -> None:
    kms.wrap(KEY, CONTEXT)
    with trusted() as tls, FaultyServer(lambda request: Answer(200, {}), tls=tls) as elsewhere:
        vault.server.fault = Fault(Answer(307, {}, {"Location": f"https://{elsewhere.address}/keys"}))
        assert refusal(lambda: kms.wrap(KEY, CONTEXT)).reason == "unavailable"
        assert not elsewhere.seen


# ------------------------------------------------------------------------------------------------------------- sign-in


class Failing:
    """A credential that has no token to give."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def get_token(self, *_: str, **__: object) -> AccessToken:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ClientAuthenticationError(message="AADSTS7000222: the secret s3cr3t has expired"), "no_token"),
        (ServiceRequestError("no way to login.invalid with s3cr3t"), "unavailable"),
    ],
)
def test_without_a_token_nothing_is_sent_and_it_may_come_later(vault: KeyVault, error: Exception, reason: str) -> None:
    kms = AzureKms(AzureKey(vault.uri, NAME, vault.newest), credential=Failing(error))
    refused = refusal(lambda: kms.wrap(KEY, CONTEXT))
    assert (refused.reason, refused.transient) == (reason, True)
    assert "s3cr3t" not in str(refused)


def test_azures_own_credential_is_used_when_none_is_given(vault: KeyVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the environment may be asked here, and it holds none."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    assert refusal(AzureKms(AzureKey(vault.uri, NAME, None)).describe).reason == "no_token"


def test_a_server_that_asks_for_a_token_of_another_realm_gets_none(vault: KeyVault) -> None:
    credential = Failing(AssertionError("nobody may ask"))
    realm = 'Bearer authorization="https://login.invalid/tenant", resource="https://vault.azure.net"'
    vault.server.fault = Fault(Answer(401, ERROR, {"WWW-Authenticate": realm}))
    refused = refusal(AzureKms(AzureKey(vault.uri, NAME, None), credential=credential).describe)
    assert (refused.reason, refused.transient) == ("denied", False)
    assert credential.asked == 0


# -------------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_in_a_text(vault: KeyVault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    drawn: list[bytes] = []

    def random(size: int) -> bytes:
        drawn.append(bytes(range(100, 100 + size)))
        return drawn[-1]

    kms = AzureKms(AzureKey(vault.uri, NAME, None), credential=Credential(), random=random)
    wrapped, texts = kms.wrap(KEY, CONTEXT), list[str]()
    kms.unwrap(wrapped, CONTEXT)
    for fault, _ in FAULTS.values():
        vault.server.fault = fault
        for call in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
            with pytest.raises(VaultError) as error:
                call()
            assert error.value.__context__ is None, "what the SDK raised holds the request"
            texts += [str(error.value), repr(error.value)]
    texts += [caplog.text, repr(kms), repr(vars(kms))]
    assert "wrapkey" in caplog.text
    for secret in (KEY, drawn[0]):
        for shown in (secret.hex(), repr(secret)[2:-1], base64.urlsafe_b64encode(secret).decode()[:40], TOKEN):
            assert not [text for text in texts if shown in text]


def test_what_is_stored_is_what_the_contract_says() -> None:
    with azure_kms() as kms:
        wrapped = kms.wrap(KEY, CONTEXT)
    assert wrapped == WrappedKey(wrapped.kek_id, "RSA-OAEP-256+AES-256-GCM", wrapped.ciphertext)
    assert wrapped.kek_id.startswith("azure-kv:https://127.0.0.1:")
    assert len(wrapped.ciphertext) == 4 + 2 + 256 + 12 + 32 + 16
