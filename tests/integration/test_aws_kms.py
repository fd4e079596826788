"""AWS KMS over real sockets: what is sent and recorded, what each failure becomes and how soon, and who stands in."""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.support.aws import (
    ALIAS,
    HOME,
    REPLICAS,
    SECRET_KEY,
    SESSION_TOKEN,
    AwsStandIn,
    aws_stand_in,
    refusal,
    use_credentials,
)
from tests.support.fake_keys import Clock
from tests.support.kms_faults import Act, Answer
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.kms.aws import DETOUR_LIFE_S, RESOLUTION_LIFE_S, AwsKms
from vault.kms.aws_clients import RENEWAL_S
from vault.kms.aws_uri import read_uri
from vault.ports import Kms, WrappedKey

KEY = bytes(range(200, 232))
CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
ACME, UMBRA = CONTEXT, {**CONTEXT, "tenant": "umbra", "key_id": "8"}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[AwsStandIn]:
    with aws_stand_in() as started:
        yield started


@pytest.fixture
def aws(stand_in: AwsStandIn, monkeypatch: pytest.MonkeyPatch) -> AwsStandIn:
    """A KMS in which nothing has happened yet."""
    use_credentials(monkeypatch)
    stand_in.point_alias(stand_in.key)
    stand_in.proxy.forget()
    return stand_in


@pytest.fixture(scope="module")
def wrapped(stand_in: AwsStandIn) -> WrappedKey:
    """The key, wrapped by somebody else under the same KEK and context."""
    sealed = stand_in.admin.encrypt(KeyId=stand_in.key, Plaintext=KEY, EncryptionContext=CONTEXT)
    return WrappedKey(f"aws-kms:{stand_in.key}", "SYMMETRIC_DEFAULT", sealed["CiphertextBlob"])


def opened(aws: AwsStandIn, key: str, **parameters: str) -> tuple[AwsKms, Clock]:
    """A KMS, and the clock that it goes by."""
    clock = Clock()
    return AwsKms(read_uri(aws.uri(key, **parameters), lambda: HOME), monotonic=clock), clock


def regions_asked(aws: AwsStandIn) -> list[str]:
    return [seen.asked.region for seen in aws.proxy.seen]


# ------------------------------------------------------------------------------------------------- sent and recorded


def test_every_call_with_a_key_in_it_carries_the_context(aws: AwsStandIn) -> None:
    kms = aws.open()
    kms.unwrap(kms.wrap(KEY, CONTEXT), CONTEXT)
    assert [(seen.asked.operation, seen.asked.context) for seen in aws.proxy.seen] == [
        ("Encrypt", CONTEXT),
        ("Decrypt", CONTEXT),
    ]


@pytest.mark.parametrize("form", ["ARN", "key id", "alias", "alias ARN"])
def test_the_full_name_of_the_key_is_recorded_however_the_uri_names_it(aws: AwsStandIn, form: str) -> None:
    account = aws.key.partition("key/")[0]
    forms = {"ARN": aws.key, "key id": aws.key.rpartition("/")[2], "alias": ALIAS, "alias ARN": account + ALIAS}
    kms = aws.open(forms[form], region=HOME)
    wrapped = kms.wrap(KEY, CONTEXT)
    assert wrapped.kek_id == f"aws-kms:{aws.key}" == aws.open(forms[form], region=HOME).describe()
    assert wrapped.algorithm == "SYMMETRIC_DEFAULT"
    assert kms.holds(wrapped.kek_id)
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    assert aws.proxy.seen[-1].asked.key == aws.key, "never whatever the alias names by now"


def test_an_alias_that_was_pointed_elsewhere_wraps_under_the_new_key_and_opens_the_old(aws: AwsStandIn) -> None:
    kms, clock = opened(aws, ALIAS)
    before = kms.wrap(KEY, CONTEXT)
    aws.point_alias(aws.other)
    assert kms.describe() == before.kek_id, "for a moment"
    clock.pass_by(RESOLUTION_LIFE_S)
    assert kms.describe() == f"aws-kms:{aws.other}"
    after = kms.wrap(KEY, CONTEXT)
    assert after.kek_id == f"aws-kms:{aws.other}"
    assert [kms.unwrap(each, CONTEXT) for each in (before, after)] == [KEY, KEY]


def test_describe_says_what_the_last_wrap_recorded_even_if_it_just_said_otherwise(aws: AwsStandIn) -> None:
    kms, _ = opened(aws, ALIAS)
    assert kms.describe() == f"aws-kms:{aws.key}"
    aws.point_alias(aws.other)
    assert kms.wrap(KEY, CONTEXT).kek_id == kms.describe() == f"aws-kms:{aws.other}"


def test_describing_again_and_again_asks_once(aws: AwsStandIn) -> None:
    kms = aws.open(ALIAS, region=HOME)
    assert len({kms.describe() for _ in range(5)}) == 1
    assert aws.proxy.calls == {"DescribeKey": 1}


# ---------------------------------------------------------------------------------------------------- whose key it is


def test_a_key_that_is_not_the_uris_is_not_even_asked_about(aws: AwsStandIn) -> None:
    wrapped = aws.open(aws.other).wrap(KEY, CONTEXT)
    aws.proxy.forget()
    with pytest.raises(KeyUnavailable, match="not_held") as refused:
        aws.open().unwrap(wrapped, CONTEXT)
    assert not refused.value.transient
    assert refused.value.key_id == f"aws-kms:{aws.other}"
    assert aws.proxy.seen == []


def test_behind_an_alias_nothing_is_decrypted_under_a_key_of_another_account(aws: AwsStandIn) -> None:
    """Who can write into our database can name a key of an account of their own, and let it decrypt for everybody."""
    kms = aws.open(ALIAS, region=HOME)
    theirs = aws.open().wrap(KEY, CONTEXT)._replace(kek_id=f"aws-kms:{aws.key.replace('123456789012', '444455556666')}")
    with pytest.raises(KeyUnavailable, match="not_held"):
        kms.unwrap(theirs, CONTEXT)
    assert aws.proxy.calls["Decrypt"] == 0


def test_a_wrapping_under_one_of_two_keys_does_not_open_under_the_other(aws: AwsStandIn) -> None:
    """Both are the alias's, but the wrapping names one: AWS finds the other in the ciphertext."""
    kms = aws.open(ALIAS, region=HOME)
    with pytest.raises(CannotOpen):
        kms.unwrap(kms.wrap(KEY, CONTEXT)._replace(kek_id=f"aws-kms:{aws.other}"), CONTEXT)
    assert aws.proxy.calls["Decrypt"] == 1


def test_a_ciphertext_that_no_kms_makes_is_not_sent(aws: AwsStandIn) -> None:
    kms = aws.open()
    wrapped = kms.wrap(KEY, CONTEXT)
    for odd in (wrapped._replace(ciphertext=b""), wrapped._replace(ciphertext=bytes(6145)),
                wrapped._replace(algorithm="RSAES_OAEP_SHA_256")):  # fmt: skip
        with pytest.raises(CannotOpen):
            kms.unwrap(odd, CONTEXT)
    assert aws.proxy.calls == {"Encrypt": 1}


def test_what_was_sealed_under_our_key_and_context_but_is_no_key_does_not_open(aws: AwsStandIn) -> None:
    sealed = aws.admin.encrypt(KeyId=aws.key, Plaintext=b"k" * 16, EncryptionContext=CONTEXT)["CiphertextBlob"]
    with pytest.raises(CannotOpen):
        aws.open().unwrap(WrappedKey(f"aws-kms:{aws.key}", "SYMMETRIC_DEFAULT", sealed), CONTEXT)


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
    "of other types": Failing(Answer(200, b'{"KeyId": 1, "CiphertextBlob": 2, "Plaintext": []}'), "unavailable", True, 1),
    "a list": Failing(Answer(200, b"[]"), "unavailable", True, 1),
    "latin-1": Failing(Answer(200, b'{"KeyId": "\xe9"}'), "unavailable", True, 1),
}  # fmt: skip


@pytest.fixture(params=["wrap", "unwrap", "describe"])
def act(request: pytest.FixtureRequest, aws: AwsStandIn, wrapped: WrappedKey) -> Callable[[], object]:
    """One of the three things a KMS is for, ready to be done."""
    kms = aws.open()
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


def test_trouble_with_one_tenants_calls_is_nobody_elses(aws: AwsStandIn) -> None:
    kms = aws.open()
    wrapped = {context["tenant"]: kms.wrap(KEY, context) for context in (ACME, UMBRA)}
    with aws.proxy.trouble(refusal("AccessDeniedException"), operation="Decrypt", value="acme"):
        with pytest.raises(KeyUnavailable, match="denied"):
            kms.unwrap(wrapped["acme"], ACME)
        assert kms.unwrap(wrapped["umbra"], UMBRA) == KEY


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_what_aws_cannot_open_is_one_error(aws: AwsStandIn, code: str) -> None:
    kms = aws.open()
    wrapped = kms.wrap(KEY, CONTEXT)
    with aws.proxy.trouble(refusal(code)), pytest.raises(CannotOpen):
        kms.unwrap(wrapped, CONTEXT)


def test_an_answer_about_another_key_is_not_taken(aws: AwsStandIn) -> None:
    kms = aws.open()
    wrapped = kms.wrap(KEY, CONTEXT)
    plaintext, blob = base64.b64encode(KEY).decode(), base64.b64encode(wrapped.ciphertext).decode()
    other = Answer(200, json.dumps({"KeyId": aws.other, "Plaintext": plaintext, "CiphertextBlob": blob}).encode())
    with aws.proxy.trouble(other):
        for act in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
            with pytest.raises(KeyUnavailable, match="unavailable"):
                act()


def test_a_kms_that_does_not_answer_is_given_up_within_its_time(aws: AwsStandIn) -> None:
    begun = time.monotonic()
    with aws.proxy.trouble(delay=60), pytest.raises(KeyUnavailable) as refused:
        aws.open().wrap(KEY, CONTEXT)
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
    kms, clock = opened(aws, aws.key)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(KeyUnavailable, match="no_credentials") as refused:
        kms.describe()
    assert not refused.value.transient
    assert aws.proxy.seen == []
    use_credentials(monkeypatch)
    clock.pass_by(RENEWAL_S)
    assert kms.describe()


# ------------------------------------------------------------------------------------------------------------ replicas


def test_a_replica_answers_under_the_primarys_name(aws: AwsStandIn) -> None:
    kms = aws.with_replicas()
    with aws.proxy.trouble("reset", region=HOME):
        wrapped = kms.wrap(KEY, CONTEXT)
        assert kms.unwrap(wrapped, CONTEXT) == KEY
        assert kms.describe() == wrapped.kek_id == f"aws-kms:{aws.replicated}"
    in_replica = {seen.asked.key for seen in aws.proxy.seen if seen.asked.region == REPLICAS[0]}
    assert in_replica == {aws.replicated.replace(HOME, REPLICAS[0])}
    assert aws.open(aws.replicated).unwrap(wrapped, CONTEXT) == KEY, "a detour is not another KEK"


def test_an_outage_is_noticed_once_and_its_end_soon(aws: AwsStandIn) -> None:
    kms, clock = opened(aws, aws.replicated, replicas=",".join(REPLICAS))
    wrapped = kms.wrap(KEY, CONTEXT)
    aws.proxy.forget()
    with aws.proxy.trouble("reset", region=HOME), aws.proxy.trouble(refusal("ThrottlingException"), region=REPLICAS[0]):
        kms.unwrap(wrapped, CONTEXT)
        assert regions_asked(aws) == [HOME, HOME, REPLICAS[0], REPLICAS[0], REPLICAS[1]]
        aws.proxy.forget()
        kms.unwrap(wrapped, CONTEXT)
        assert regions_asked(aws) == [REPLICAS[1]], "nobody waits for the dead again"
    aws.proxy.forget()
    clock.pass_by(DETOUR_LIFE_S)
    kms.unwrap(wrapped, CONTEXT)
    kms.unwrap(wrapped, CONTEXT)
    assert regions_asked(aws) == [HOME, HOME]


def test_when_no_region_answers_the_keys_own_is_named(aws: AwsStandIn) -> None:
    kms = aws.with_replicas()
    with (
        aws.proxy.trouble(refusal("NotFoundException")),
        aws.proxy.trouble("reset", region=HOME),
        pytest.raises(KeyUnavailable) as refused,
    ):
        kms.wrap(KEY, CONTEXT)
    assert (refused.value.reason, refused.value.transient) == ("unavailable", True)
    assert refused.value.key_id == f"aws-kms:{aws.replicated}"


def test_a_refusal_by_the_keys_own_region_is_not_appealed_to_others(aws: AwsStandIn) -> None:
    kms = aws.with_replicas()
    with aws.proxy.trouble(refusal("DisabledException"), region=HOME), pytest.raises(KeyUnavailable, match="disabled"):
        kms.wrap(KEY, CONTEXT)
    assert regions_asked(aws) == [HOME]


def test_a_wrapping_recorded_under_a_replica_opens_too(aws: AwsStandIn) -> None:
    """As it is when the primary was moved to another region."""
    kms = aws.with_replicas()
    wrapped = kms.wrap(KEY, CONTEXT)
    elsewhere = wrapped._replace(kek_id=wrapped.kek_id.replace(HOME, REPLICAS[1]))
    assert kms.unwrap(elsewhere, CONTEXT) == KEY


# ---------------------------------------------------------------------------------------------- threads and processes


def test_many_threads_at_the_first_moment_share_one_client_for_each_region(aws: AwsStandIn) -> None:
    kms = aws.with_replicas()
    with ThreadPoolExecutor(16) as threads:
        wrapped = list(threads.map(lambda _: kms.wrap(KEY, CONTEXT), range(32)))
        assert set(threads.map(lambda each: kms.unwrap(each, CONTEXT), wrapped)) == {KEY}
        clients = set(threads.map(lambda _: id(kms._clients.client(HOME)), range(32)))
    assert len(clients) == 1


def test_a_forked_child_makes_connections_of_its_own(aws: AwsStandIn) -> None:
    """Two processes on one connection would read each other's keys."""
    kms = aws.open()
    wrapped = kms.wrap(KEY, CONTEXT)
    assert isinstance(kms, AwsKms)
    before = kms._clients.client(HOME)
    pid = os.fork()
    if pid == 0:
        fresh = kms._clients.client(HOME) is not before
        os._exit(0 if fresh and kms.unwrap(wrapped, CONTEXT) == KEY else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert kms.unwrap(wrapped, CONTEXT) == KEY
    assert kms._clients.client(HOME) is before


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


def test_no_error_carries_a_secret_nor_an_exception_of_botos(aws: AwsStandIn, wrapped: WrappedKey) -> None:
    kms = aws.open()
    troubles = [failing.act for failing in FAILURES.values()] + [Answer(status, ECHO) for status in (200, 400, 500)]
    for trouble in troubles:
        for act in (lambda: kms.wrap(KEY, CONTEXT), lambda: kms.unwrap(wrapped, CONTEXT)):
            with aws.proxy.trouble(trouble), pytest.raises(VaultError) as refused:
                act()
            assert refused.value.__context__ is None
            assert [secret for secret in SECRETS if secret in every_word_of(refused.value)] == []


def test_a_context_that_cannot_be_sent_does_not_bring_the_key_into_the_error(aws: AwsStandIn) -> None:
    odd: Any = {"tenant": KEY.hex(), "key_id": KEY}
    with pytest.raises(KeyUnavailable, match="refused") as refused:
        aws.open().wrap(KEY, odd)
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
    kms: Kms = aws.open()
    kms.describe()
    shown = f"{kms!r} {vars(kms)!r}".encode()
    assert [secret for secret in SECRETS if secret in shown] == []
