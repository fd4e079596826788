"""AWS KMS over real sockets: what each failure becomes and how soon, and that nothing secret comes out with it."""

from __future__ import annotations

import base64
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.aws import HOME, SECRET_KEY, SESSION_TOKEN, AwsStandIn, aws_stand_in, refusal, use_credentials
from tests.support.fake_keys import Clock
from tests.support.kms_faults import Act, Answer
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.kms.aws import RESOLUTION_LIFE_S, AwsKms
from vault.kms.aws_clients import RENEWAL_S
from vault.kms.aws_uri import read_uri
from vault.ports import WrappedKey

KEY = bytes(range(200, 232))
CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
ACME, UMBRA = CONTEXT, {**CONTEXT, "tenant": "umbra", "key_id": "8"}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[AwsStandIn]:
    with aws_stand_in() as started:
        yield started


@pytest.fixture(scope="module")
def wrapped(stand_in: AwsStandIn) -> WrappedKey:
    """The key, wrapped by somebody else under the same KEK and context."""
    sealed = stand_in.admin.encrypt(KeyId=stand_in.key, Plaintext=KEY, EncryptionContext=CONTEXT)
    return WrappedKey(f"aws-kms:{stand_in.key}", "SYMMETRIC_DEFAULT", sealed["CiphertextBlob"])


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def opened(stand_in: AwsStandIn, clock: Clock) -> AwsKms:
    return AwsKms(read_uri(stand_in.uri(stand_in.key), lambda: HOME), monotonic=clock)


@pytest.fixture
def aws(stand_in: AwsStandIn, monkeypatch: pytest.MonkeyPatch) -> AwsStandIn:
    """A KMS in which nothing has happened yet."""
    use_credentials(monkeypatch)
    stand_in.proxy.forget()
    return stand_in


@pytest.fixture
def kms(aws: AwsStandIn, opened: AwsKms, clock: Clock) -> AwsKms:
    """One for all tests, as in a process that lives on; it has forgotten what it was told."""
    clock.pass_by(RESOLUTION_LIFE_S)
    return opened


# ----------------------------------------------------------------------------------------------------------- failures


class Failing(NamedTuple):
    act: Act
    reason: str
    transient: bool
    calls: int
    """How often AWS is asked: what may pass is tried twice."""


PENDING = "arn:aws:kms:eu-central-1:123456789012:key/x is pending deletion."
FAILURES = {
    "5xx": Failing(Answer(503, b"<html>Bad day</html>"), "unavailable", True, 2),
    "internal": Failing(refusal("KMSInternalException", 500), "unavailable", True, 2),
    "throttled": Failing(refusal("ThrottlingException"), "throttled", True, 2),
    "denied": Failing(refusal("AccessDeniedException", message=f"User {SECRET_KEY}"), "denied", False, 1),
    "expired": Failing(refusal("ExpiredTokenException"), "denied", False, 1),
    "disabled": Failing(refusal("DisabledException"), "disabled", False, 1),
    "pending deletion": Failing(refusal("KMSInvalidStateException", message=PENDING), "pending_deletion", False, 1),
    "not found": Failing(refusal("NotFoundException"), "not_found", False, 1),
    "reset": Failing("reset", "unavailable", True, 2),
    "truncated": Failing("truncate", "unavailable", True, 1),
    "garbage": Failing("garbage", "unavailable", True, 1),
    "empty": Failing(Answer(200, b"{}"), "unavailable", True, 1),
    "other types": Failing(Answer(200, b'{"KeyId": 1, "CiphertextBlob": 2, "Plaintext": []}'), "unavailable", True, 1),
    "a list": Failing(Answer(200, b"[]"), "unavailable", True, 1),
    "latin-1": Failing(Answer(200, b'{"KeyId": "\xe9"}'), "unavailable", True, 1),
}  # fmt: skip


@pytest.fixture(params=["wrap", "unwrap", "describe"])
def act(request: pytest.FixtureRequest, kms: AwsKms, wrapped: WrappedKey) -> Callable[[], object]:
    """One of the three things a KMS is for, ready to be done."""
    acts: dict[str, Callable[[], object]] = {
        "wrap": lambda: kms.wrap(KEY, CONTEXT),
        "unwrap": lambda: kms.unwrap(wrapped, CONTEXT),
        "describe": kms.describe,
    }
    return acts[request.param]


@pytest.mark.parametrize("failing", FAILURES.values(), ids=list(FAILURES))
def test_a_failure_is_named_and_passes_or_not(aws: AwsStandIn, act: Callable[[], object], failing: Failing) -> None:
    """And when it is over, the next call succeeds."""
    with aws.proxy.trouble(failing.act), pytest.raises(KeyUnavailable) as refused:
        act()
    assert (refused.value.reason, refused.value.transient) == (failing.reason, failing.transient)
    assert refused.value.key_id == f"aws-kms:{aws.key}"
    assert len(aws.proxy.seen) == failing.calls
    act()


def test_a_connection_that_closed_while_idle_costs_nobody_an_error(aws: AwsStandIn, act: Callable[[], object]) -> None:
    with aws.proxy.trouble("reset", times=1):
        act()
    assert len(aws.proxy.seen) == 2


def test_trouble_with_one_tenants_calls_is_nobody_elses(aws: AwsStandIn, kms: AwsKms) -> None:
    wrapped = {context["tenant"]: kms.wrap(KEY, context) for context in (ACME, UMBRA)}
    with aws.proxy.trouble(refusal("AccessDeniedException"), operation="Decrypt", value="acme"):
        with pytest.raises(KeyUnavailable, match="denied"):
            kms.unwrap(wrapped["acme"], ACME)
        assert kms.unwrap(wrapped["umbra"], UMBRA) == KEY


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_what_aws_cannot_open_is_one_error(aws: AwsStandIn, kms: AwsKms, wrapped: WrappedKey, code: str) -> None:
    with aws.proxy.trouble(refusal(code)), pytest.raises(CannotOpen):
        kms.unwrap(wrapped, CONTEXT)


def test_an_answer_about_another_key_is_not_taken(aws: AwsStandIn, kms: AwsKms, wrapped: WrappedKey) -> None:
    plaintext, blob = base64.b64encode(KEY).decode(), base64.b64encode(wrapped.ciphertext).decode()
    other = Answer(200, json.dumps({"KeyId": aws.other, "Plaintext": plaintext, "CiphertextBlob": blob}).encode())
    with aws.proxy.trouble(other):
        for act in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
            with pytest.raises(KeyUnavailable, match="unavailable"):
                act()


def test_a_kms_that_does_not_answer_is_given_up_within_its_time(aws: AwsStandIn, kms: AwsKms) -> None:
    begun = time.monotonic()
    with aws.proxy.trouble(delay=60), pytest.raises(KeyUnavailable) as refused:
        kms.wrap(KEY, CONTEXT)
    assert (refused.value.reason, refused.value.transient) == ("timeout", True)
    assert time.monotonic() - begun < 12
    assert len(aws.proxy.seen) == 2


def test_a_kms_nobody_runs_is_unavailable(aws: AwsStandIn) -> None:
    kms = AwsKms(read_uri(f"{aws.key}?endpoint=http://127.0.0.1:1", lambda: None))
    with pytest.raises(KeyUnavailable) as refused:
        kms.describe()
    assert (refused.value.reason, refused.value.transient) == ("unavailable", True)


# -------------------------------------------------------------------------------------------------------- credentials


def test_without_credentials_nothing_is_sent_and_they_are_found_when_they_come(
    aws: AwsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    kms = AwsKms(read_uri(aws.uri(aws.key), lambda: HOME), monotonic=clock)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(KeyUnavailable, match="no_credentials") as refused:
        kms.describe()
    assert not refused.value.transient
    assert aws.proxy.seen == []
    use_credentials(monkeypatch)
    clock.pass_by(RENEWAL_S)
    assert kms.describe()


def test_credentials_may_come_from_a_web_identity(
    aws: AwsStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a pod with a service account (IRSA): STS gives them, within the same time as KMS has."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("eyJhbGciOiJub25lIn0.e30.")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/evergrant")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.admin.meta.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", HOME)
    assert aws.open().describe() == f"aws-kms:{aws.key}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    with pytest.raises(KeyUnavailable, match="unavailable") as refused:
        aws.open().describe()
    assert refused.value.transient


# -------------------------------------------------------------------------------------------------------------- secrets

SECRETS = (
    KEY, base64.b64encode(KEY), repr(KEY).encode(), KEY.hex().encode(),
    SECRET_KEY.encode(), SESSION_TOKEN.encode(),
)  # fmt: skip


def every_word_of(error: BaseException) -> bytes:
    """Whatever a log or a crash report shows of an error and those it carries along."""
    words = "".join([str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)])
    carried = [each for each in (error.__cause__, error.__context__) if each is not None]
    return words.encode() + b"".join(every_word_of(each) for each in carried)


ECHO = json.dumps({"echo": base64.b64encode(KEY).decode(), "Plaintext": f"?{base64.b64encode(KEY).decode()}"}).encode()


def test_no_error_carries_a_secret_nor_an_exception_of_botos(aws: AwsStandIn, kms: AwsKms, wrapped: WrappedKey) -> None:
    troubles = [failing.act for failing in FAILURES.values()] + [Answer(status, ECHO) for status in (200, 400, 500)]
    for trouble in troubles:
        for act in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
            with aws.proxy.trouble(trouble), pytest.raises(VaultError) as refused:
                act()
            assert refused.value.__context__ is None
            assert [secret for secret in SECRETS if secret in every_word_of(refused.value)] == []


def test_a_context_that_cannot_be_sent_does_not_bring_the_key_into_the_error(kms: AwsKms) -> None:
    odd: Any = {"tenant": KEY.hex(), "key_id": KEY}
    with pytest.raises(KeyUnavailable, match="refused") as refused:
        kms.wrap(KEY, odd)
    assert [secret for secret in SECRETS if secret in every_word_of(refused.value)] == []


def test_no_log_at_any_level_shows_a_secret(aws: AwsStandIn, caplog: pytest.LogCaptureFixture) -> None:
    """boto logs whole requests and answers; others' calls are theirs to log."""
    caplog.set_level(logging.DEBUG)
    kms = aws.open()
    wrapped = kms.wrap(KEY, CONTEXT)
    kms.unwrap(wrapped, CONTEXT)
    for trouble in ("reset", "garbage", Answer(503)):
        with aws.proxy.trouble(trouble), pytest.raises(KeyUnavailable):
            kms.unwrap(wrapped, CONTEXT)
    shown = caplog.text.encode()
    assert "Loading JSON file" in caplog.text, "boto's debug log is on"
    assert [secret for secret in SECRETS if secret in shown] == []
    caplog.clear()
    aws.admin.encrypt(KeyId=aws.key, Plaintext=KEY)
    assert base64.b64encode(KEY).decode() in caplog.text


def test_nothing_about_a_kms_shows_credentials(aws: AwsStandIn) -> None:
    kms = aws.open()
    kms.describe()
    shown = f"{kms!r} {vars(kms)!r}".encode()
    assert [secret for secret in SECRETS if secret in shown] == []
