"""AWS KMS over real sockets: what is sent and recorded, whose key it is, and who stands in for a region."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.aws import (
    ALIAS,
    HOME,
    REPLICAS,
    AwsStandIn,
    aws_stand_in,
    refusal,
    use_credentials,
)
from tests.support.fake_keys import Clock
from vault.errors import CannotOpen, KeyUnavailable
from vault.kms.aws import DETOUR_LIFE_S, RESOLUTION_LIFE_S, AwsKms
from vault.kms.aws_uri import read_uri
from vault.ports import WrappedKey

KEY = bytes(range(200, 232))
CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}


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
        clients = set(threads.map(lambda _: kms._clients.client(HOME), range(32)))
        wrapped = list(threads.map(lambda _: kms.wrap(KEY, CONTEXT), range(32)))
        assert set(threads.map(lambda each: kms.unwrap(each, CONTEXT), wrapped)) == {KEY}
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
