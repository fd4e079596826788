"""A KMS that counts its calls and answers as late as it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.aws import AwsStandIn, aws_stand_in, use_credentials

LATENCY_S = 0.02
"""What a KMS in the same region takes."""


@contextmanager
def aws() -> Iterator[AwsStandIn]:
    """Run it, with credentials for boto3 in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        use_credentials(environment)
        with aws_stand_in() as kms:
            yield kms


def kek_uri(kms: AwsStandIn, key: str = "") -> str:
    """Return what `VAULT_KEK_URI` takes for a key, by default the first."""
    return "aws-kms:" + kms.uri(key or kms.key)


def count(kms: AwsStandIn, operation: str) -> int:
    """Return how often an operation was asked for since the calls were last forgotten."""
    return kms.proxy.calls[operation]
