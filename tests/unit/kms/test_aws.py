"""The AWS adapter without AWS: URIs, whose keys are held, what failures mean, which region is asked next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions
from botocore.exceptions import ClientError

from tests.support.aws import forget_the_machine
from tests.support.fake_keys import Clock
from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.kms import aws_clients, open_kms
from vault.kms.aws import DETOUR_LIFE_S, Route
from vault.kms.aws_errors import failure, is_about_credentials
from vault.kms.aws_uri import KeyUri, read_uri

ID, OTHER_ID = "1234abcd-12ab-34cd-56ef-1234567890ab", "0987dcba-09fe-87dc-65ba-ab0987654321"
MRK = "mrk-1234abcd12ab34cd56ef1234567890ab"
HERE = "arn:aws:kms:eu-central-1:111122223333"
THERE = "arn:aws:kms:eu-west-1:111122223333"
STRANGER = "arn:aws:kms:eu-central-1:444455556666"
SECRET = "hunter2"

# ------------------------------------------------------------------------------------------------------------- URIs


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (f"{HERE}:key/{ID}", KeyUri(f"{HERE}:key/{ID}", ("eu-central-1",))),
        (f"//{HERE}:key/{ID}", KeyUri(f"{HERE}:key/{ID}", ("eu-central-1",))),
        (f"{HERE}:key/{MRK}", KeyUri(f"{HERE}:key/{MRK}", ("eu-central-1",))),
        (f"{HERE}:alias/a/b", KeyUri(f"{HERE}:alias/a/b", ("eu-central-1",))),
        (f"{HERE}:key/{ID}?region=eu-central-1", KeyUri(f"{HERE}:key/{ID}", ("eu-central-1",))),
        (
            f"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/{ID}",
            KeyUri(f"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/{ID}", ("us-gov-west-1",)),
        ),
        (f"{ID}?region=eu-west-1", KeyUri(ID, ("eu-west-1",))),
        (ID, KeyUri(ID, ("sa-east-1",))),
        ("alias/name", KeyUri("alias/name", ("sa-east-1",))),
        (f"{MRK}?replicas=eu-west-1,us-east-1", KeyUri(MRK, ("sa-east-1", "eu-west-1", "us-east-1"))),
        (f"{ID}?endpoint=https://kms.here:8443", KeyUri(ID, ("sa-east-1",), "https://kms.here:8443")),
        (f"{ID}?endpoint=http://127.0.0.1:5000", KeyUri(ID, ("sa-east-1",), "http://127.0.0.1:5000")),
        (f"{ID}?endpoint=http://[::1]:5000", KeyUri(ID, ("sa-east-1",), "http://[::1]:5000")),
        (f"{ID}?endpoint=http://localhost", KeyUri(ID, ("sa-east-1",), "http://localhost")),
        (
            f"{MRK}?replicas=eu-west-1&endpoint=https://kms.{{region}}.api.aws",
            KeyUri(MRK, ("sa-east-1", "eu-west-1"), "https://kms.{region}.api.aws"),
        ),
    ],
)
def test_a_uri_says_which_key_in_which_regions_asked_where(rest: str, expected: KeyUri) -> None:
    """The region is the ARN's, then ``region=``, then boto3's own."""
    assert read_uri(rest, lambda: "sa-east-1") == expected


def test_boto_is_not_asked_for_a_region_the_uri_says() -> None:
    def ask() -> str:
        raise AssertionError("asked")

    assert read_uri(f"{HERE}:key/{ID}", ask).regions == ("eu-central-1",)


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("", "names no key"),
        ("my-key", "names no key"),
        (ID.upper(), "small letters"),
        (f"{HERE}:key/my-key", "names no key"),
        (f"arn:aws:s3:eu-central-1:111122223333:key/{ID}", "names no key"),
        (f"arn:aws:kms:eu-central-1:123:key/{ID}", "names no key"),
        ("alias/", "names no key"),
        (f"{ID}?regoin=eu-west-1", "unknown parameter 'regoin'; known: endpoint, region, replicas"),
        (f"{ID}?region=eu-west-1&region=eu-west-2", "region= is given more than once"),
        (f"{ID}?region=frankfurt", "'frankfurt' is no region"),
        (f"{HERE}:key/{ID}?region=eu-west-1", "the ARN is of region eu-central-1"),
        (f"{ID}?endpoint=http://kms.here", "must be https://"),
        (f"{ID}?endpoint=http://127.0.0.1.evil.example", "must be https://"),
        (f"{ID}?endpoint=kms.here", "must read https://HOST"),
        (f"{ID}?endpoint=https://", "must read https://HOST"),
        (f"{ID}?endpoint=ftp://kms.here", "must be https://"),
        (f"{ID}?endpoint=https://user:{SECRET}@kms.here", "without user or password"),
        (f"{ID}?endpoint=https://kms.here:{SECRET}", "cannot be read"),
        (f"{ID}?endpoint=https://[kms.here", "cannot be read"),
        (f"{ID}?replicas=eu-west-1", "wants a multi-Region key"),
        ("alias/name?replicas=eu-west-1", "wants a multi-Region key"),
        (f"{MRK}?replicas=", "names ''"),
        (f"{MRK}?replicas=eu-west-1;us-east-1", "which is no region"),
        (f"{MRK}?replicas=sa-east-1", "or the key's own"),
        (f"{MRK}?replicas=eu-west-1,eu-west-1", "names a region twice"),
        (f"{MRK}?replicas=eu-west-1&endpoint=https://kms.here", "must hold {region}"),
        (f"https://user:{SECRET}@kms.here/{ID}", "names no key"),
    ],
)
def test_a_uri_that_cannot_work_is_refused_with_the_remedy(rest: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read_uri(rest, lambda: "sa-east-1")
    assert problem in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_every_problem_of_a_uri_is_listed_at_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read_uri("my-key?colour=blue&region=x&endpoint=http://there&replicas=y", lambda: None)
    assert len(refusal.value.problems) == 7
    assert all("'aws-kms:my-key'" in problem for problem in refusal.value.problems)


def test_without_any_region_the_message_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_machine(monkeypatch)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ConfigurationError, match=r"add \?region=REGION"):
        open_kms(f"aws-kms:{ID}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert open_kms(f"aws-kms:{ID}").holds(f"aws-kms:arn:aws:kms:eu-north-1:111122223333:key/{ID}")


def test_a_boto_configuration_that_cannot_be_read_is_a_problem_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_machine(monkeypatch)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    with pytest.raises(ConfigurationError, match="ProfileNotFound"):
        open_kms("aws-kms:alias/name")


WATCHED = """
import sys
sockets = []
import vault.kms
assert "boto3" not in sys.modules and "botocore" not in sys.modules
sys.addaudithook(lambda event, arguments: sockets.append(event) if event.startswith("socket.") else None)
kms = vault.kms.open_kms(sys.argv[1])
kms.holds(kms._name)
print(sockets)
"""


def test_opening_asks_nobody_and_importing_does_not_even_import_boto3() -> None:
    """No socket, nor a look for credentials, which may mean asking a service."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, f"aws-kms:{HERE}:key/{ID}"],
        cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout) == []


# ------------------------------------------------------------------------------------------------------------ holds


def held(rest: str, kek: str) -> bool:
    return open_kms(f"aws-kms:{rest}").holds(f"aws-kms:{kek}")


@pytest.mark.parametrize(
    ("rest", "kek", "expected"),
    [
        (f"{HERE}:key/{ID}", f"{HERE}:key/{ID}", True),
        (f"{HERE}:key/{ID}", f"{HERE}:key/{OTHER_ID}", False),
        (f"{HERE}:key/{ID}", f"{THERE}:key/{ID}", False),
        (f"{HERE}:key/{ID}", f"{STRANGER}:key/{ID}", False),
        (f"{HERE}:key/{ID}", f"{HERE.replace('aws', 'aws-cn', 1)}:key/{ID}", False),
        (f"{HERE}:key/{ID}", f"{HERE}:alias/name", False),
        (f"{HERE}:key/{ID}", ID, False),
        (f"{HERE}:key/{ID}", f"{HERE}:key/{ID}?region=eu-central-1", False),
        (f"{HERE}:key/{ID}", f"{HERE}:key/{ID}\n", False),
        (f"{ID}?region=eu-central-1", f"{HERE}:key/{ID}", True),
        (f"{ID}?region=eu-central-1", f"{HERE}:key/{OTHER_ID}", False),
        (f"{ID}?region=eu-central-1", f"{THERE}:key/{ID}", False),
        (f"{HERE}:key/{MRK}?replicas=eu-west-1", f"{HERE}:key/{MRK}", True),
        (f"{HERE}:key/{MRK}?replicas=eu-west-1", f"{THERE}:key/{MRK}", True),
        (f"{HERE}:key/{MRK}?replicas=us-east-1", f"{THERE}:key/{MRK}", False),
        (f"{HERE}:key/{MRK}", f"{THERE}:key/{MRK}", False),
        (f"{HERE}:alias/name", f"{HERE}:key/{ID}", True),
        (f"{HERE}:alias/name", f"{HERE}:key/{MRK}", True),
        (f"{HERE}:alias/name", f"{HERE}:alias/name", False),
        (f"{HERE}:alias/name", f"{THERE}:key/{ID}", False),
        (f"{HERE}:alias/name", f"{STRANGER}:key/{ID}", False),
        ("alias/name?region=eu-central-1", f"{HERE}:key/{ID}", True),
        ("alias/name?region=eu-central-1", f"{THERE}:key/{ID}", False),
    ],
)
def test_only_what_can_be_the_uris_own_key_is_held(rest: str, kek: str, expected: bool) -> None:
    assert held(rest, kek) is expected


@pytest.mark.parametrize("kek", [f"{HERE}:key/{ID}", f"local:{HERE}:key/{ID}", f"aws-kms://{HERE}:key/{ID}", ""])
def test_a_kek_of_another_kind_is_not_held(kek: str) -> None:
    assert not open_kms(f"aws-kms:{HERE}:key/{ID}").holds(kek)


# ----------------------------------------------------------------------------------------------------------- failures


def said(code: str, status: int = 400, message: str = "") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Decrypt",
    )


@pytest.mark.parametrize(
    ("error", "reason", "transient"),
    [
        (said("ThrottlingException"), "throttled", True),
        (said("LimitExceededException"), "throttled", True),
        (said("429", 429), "throttled", True),
        (said("KMSInternalException", 500), "unavailable", True),
        (said("KeyUnavailableException", 500), "unavailable", True),
        (said("ServiceUnavailableException", 503), "unavailable", True),
        (said("503", 503), "unavailable", True),
        (said("400", 400), "unavailable", True),  # no code: it was not KMS that spoke
        (said("", 400), "unavailable", True),
        (said("DependencyTimeoutException", 503), "timeout", True),
        (said("AccessDeniedException"), "denied", False),
        (said("UnrecognizedClientException"), "denied", False),
        (said("InvalidSignatureException"), "denied", False),
        (said("ExpiredTokenException"), "denied", False),
        (said("403", 403), "denied", False),
        (said("DisabledException"), "disabled", False),
        (said("KMSInvalidStateException", message=f"{HERE}:key/{ID} is pending deletion."), "pending_deletion", False),
        (said("KMSInvalidStateException", message=f"{HERE}:key/{ID} is pending import."), "invalid_state", False),
        (said("KMSInvalidStateException", message=f"{HERE}:key/{ID} is unavailable."), "unavailable", True),
        (said("KMSInvalidStateException"), "invalid_state", False),
        (said("NotFoundException"), "not_found", False),
        (said("InvalidArnException"), "not_found", False),
        (said("InvalidKeyUsageException"), "unsuitable", False),
        (said("UnsupportedOperationException"), "refused", False),
        (exceptions.ConnectTimeoutError(endpoint_url="u"), "timeout", True),
        (exceptions.ReadTimeoutError(endpoint_url="u"), "timeout", True),
        (exceptions.EndpointConnectionError(endpoint_url="u"), "unavailable", True),
        (exceptions.ConnectionClosedError(endpoint_url="u"), "unavailable", True),
        (exceptions.SSLError(endpoint_url="u", error=ValueError()), "unavailable", True),
        (exceptions.NoCredentialsError(), "no_credentials", False),
        (exceptions.PartialCredentialsError(provider="p", cred_var="c"), "no_credentials", False),
        (exceptions.UnauthorizedSSOTokenError(), "no_credentials", False),
        (exceptions.CredentialRetrievalError(provider="p", error_msg="e"), "no_credentials", True),
        (exceptions.ParamValidationError(report=f"value: {SECRET}"), "refused", False),
        (ValueError(f"Invalid base64: {SECRET}"), "unavailable", True),
    ],
    ids=lambda value: str(getattr(value, "response", value) or type(value).__name__)[:48],
)
def test_a_failure_has_one_word_and_says_whether_it_passes(error: Exception, reason: str, transient: bool) -> None:
    found = failure(error, "encrypt", f"aws-kms:{ID}")
    assert isinstance(found, KeyUnavailable)
    assert (found.reason, found.transient, found.key_id) == (reason, transient, f"aws-kms:{ID}")
    assert SECRET not in str(found)


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException", "ValidationException"])
def test_what_aws_says_of_a_ciphertext_is_one_error_without_a_cause(code: str) -> None:
    assert isinstance(failure(said(code), "decrypt", ID), CannotOpen)


def test_a_request_to_encrypt_that_is_not_valid_says_nothing_of_a_ciphertext() -> None:
    found = failure(said("ValidationException"), "encrypt", ID)
    assert isinstance(found, KeyUnavailable)
    assert (found.reason, found.transient) == ("refused", False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.NoCredentialsError(), True),
        (exceptions.CredentialRetrievalError(provider="p", error_msg="e"), True),
        (said("ExpiredTokenException"), True),
        (said("AccessDeniedException"), False),
        (exceptions.ReadTimeoutError(endpoint_url="u"), False),
    ],
)
def test_credentials_are_read_anew_only_when_it_is_about_them(error: Exception, expected: bool) -> None:
    assert is_about_credentials(error) is expected


# ------------------------------------------------------------------------------------------------------------- regions


def test_a_region_that_failed_is_not_asked_first_for_a_while_and_then_by_one_caller() -> None:
    clock = Clock()
    route = Route(("home", "near", "far"), clock)
    assert route.regions() == ("home", "near", "far")
    route.answered("far")
    assert route.regions() == ("far", "home", "near")
    clock.pass_by(DETOUR_LIFE_S)
    assert route.regions() == ("home", "near", "far")
    assert route.regions() == ("far", "home", "near"), "the others need not wait with the first"
    route.answered("home")
    assert route.regions() == ("home", "near", "far")


def test_answers_on_a_detour_do_not_make_it_longer() -> None:
    clock = Clock()
    route = Route(("home", "near"), clock)
    for _ in range(3):
        route.answered("near")
        clock.pass_by(DETOUR_LIFE_S / 3)
    assert route.regions() == ("home", "near")


def test_one_call_to_a_region_ends_within_ten_seconds() -> None:
    """And the pause between two tries. So does one to STS, when credentials are to be had there first."""
    assert (aws_clients.CONNECT_TIMEOUT_S + aws_clients.READ_TIMEOUT_S) * aws_clients.ATTEMPTS <= 10
    for service in ("kms", "sts"):
        config = aws_clients._session().client(service, region_name="eu-central-1").meta.config
        assert (config.connect_timeout, config.read_timeout) == (2, 3)
        assert config.retries == {"mode": "standard", "total_max_attempts": 2}
        assert config.tcp_keepalive


def test_credentials_are_not_read_anew_at_every_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_machine(monkeypatch)
    clock = Clock()
    clients = aws_clients.AwsClients(None, clock)
    first = clients.client("eu-central-1")
    assert clients.client("eu-central-1") is first
    clients.renew()
    second = clients.client("eu-central-1")
    assert second is not first
    clients.renew()
    assert clients.client("eu-central-1") is second
    clock.pass_by(aws_clients.RENEWAL_S)
    clients.renew()
    assert clients.client("eu-central-1") is not second


def test_each_region_has_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_machine(monkeypatch)
    clients = aws_clients.AwsClients("https://kms.{region}.api.aws", Clock())
    for region in ("eu-west-1", "us-east-1"):
        client: Any = clients.client(region).encrypt
        assert client.__self__.meta.endpoint_url == f"https://kms.{region}.api.aws"
