"""What every KMS must do, whoever makes it. A new adapter joins by a line in ``kms``.

A real service joins too when the environment names a key there, by a KEK URI in the variable listed in ``REAL``:

    EVERGRANT_TEST_AWS_KMS=aws-kms:alias/evergrant-test?region=eu-central-1 make test ARGS=tests/contract/test_kms.py

with credentials where the service's own library looks for them. docs/kms.md says which rights the key wants. A run is
thirty calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.aws import AwsStandIn, aws_stand_in, use_credentials
from tests.support.azure import azure_kms
from tests.support.fake_keys import FakeKms
from tests.support.transit import transit_kms
from vault.errors import CannotOpen, KeyUnavailable
from vault.kms import open_kms
from vault.kms.local import LocalKms
from vault.kms.single import SingleKeyKms
from vault.ports import Kms

CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
KEY = os.urandom(32)


REAL = {
    "real aws": "EVERGRANT_TEST_AWS_KMS",
    "real azure": "EVERGRANT_TEST_AZURE_KV",
    "real transit": "EVERGRANT_TEST_VAULT_TRANSIT",
}
"""Real services, and the environment variable with the URI of a key there."""


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsStandIn]:
    with aws_stand_in() as stand_in:
        yield stand_in


def open_stand_in(request: pytest.FixtureRequest) -> Kms:
    use_credentials(request.getfixturevalue("monkeypatch"))
    stand_in: AwsStandIn = request.getfixturevalue("aws")
    return stand_in.open()


KINDS = [
    "local",
    "single",
    "fake",
    "aws",
    "azure",
    "transit",
    *(name for name, where in REAL.items() if where in os.environ),
]


@pytest.fixture(params=KINDS)
def kms(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kms]:
    with ExitStack() as stack:
        makers: dict[str, Callable[[], Kms]] = {
            "local": lambda: LocalKms(tmp_path / "keyring.json"),
            "single": lambda: SingleKeyKms(os.urandom(32)),
            "fake": FakeKms,
            "aws": lambda: open_stand_in(request),
            "azure": lambda: stack.enter_context(azure_kms()),
            "transit": lambda: stack.enter_context(transit_kms()),
        }
        yield open_kms(os.environ[REAL[request.param]]) if request.param in REAL else makers[request.param]()


def test_a_wrapped_key_comes_back(kms: Kms) -> None:
    assert kms.unwrap(kms.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_the_order_of_a_context_means_nothing(kms: Kms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    assert kms.unwrap(wrapped, dict(reversed(list(CONTEXT.items())))) == KEY


def test_wrapping_shows_nothing_of_the_key_and_never_repeats_itself(kms: Kms) -> None:
    first, second = kms.wrap(KEY, CONTEXT), kms.wrap(KEY, CONTEXT)
    assert KEY not in first.ciphertext
    assert first.ciphertext != second.ciphertext


def test_a_wrapped_key_names_the_kek_that_describe_names(kms: Kms) -> None:
    assert kms.wrap(KEY, CONTEXT).kek_id == kms.describe()
    assert kms.wrap(KEY, CONTEXT).algorithm


@pytest.mark.parametrize(
    "elsewhere",
    [
        {**CONTEXT, "tenant": "umbra"},
        {**CONTEXT, "key_id": "8"},
        {**CONTEXT, "purpose": "backup"},
        {**CONTEXT, "more": ""},
        {name: value for name, value in CONTEXT.items() if name != "app"},
        {},
        {**CONTEXT, "app": "evergranttenant", "tenant": "acme"},
    ],
    ids=["tenant", "key", "purpose", "more", "less", "none", "shifted"],
)
def test_another_context_is_refused(kms: Kms, elsewhere: dict[str, str]) -> None:
    with pytest.raises(CannotOpen):
        kms.unwrap(kms.wrap(KEY, CONTEXT), elsewhere)


def test_a_damaged_ciphertext_is_refused(kms: Kms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    for position in (0, 12, len(wrapped.ciphertext) - 1):
        damaged = bytearray(wrapped.ciphertext)
        damaged[position] ^= 1
        with pytest.raises(CannotOpen):
            kms.unwrap(wrapped._replace(ciphertext=bytes(damaged)), CONTEXT)
    for cut in (wrapped.ciphertext[:-1], wrapped.ciphertext[:5], b""):
        with pytest.raises(CannotOpen):
            kms.unwrap(wrapped._replace(ciphertext=cut), CONTEXT)


def test_it_holds_the_kek_it_wraps_under_and_not_somebody_elses(kms: Kms) -> None:
    assert kms.holds(kms.wrap(KEY, CONTEXT).kek_id)
    assert kms.holds(kms.describe())
    assert not kms.holds("nobody's")


def test_a_kek_nobody_knows_is_unavailable_for_good_and_named(kms: Kms) -> None:
    with pytest.raises(KeyUnavailable) as refusal:
        kms.unwrap(kms.wrap(KEY, CONTEXT)._replace(kek_id="nobody's"), CONTEXT)
    assert not refusal.value.transient
    assert "nobody's" in str(refusal.value)
