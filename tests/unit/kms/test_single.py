"""The KMS of one key that stands in the settings."""

from __future__ import annotations

import pytest

from vault.errors import CannotOpen, KeyUnavailable
from vault.kms.single import URI, SingleKeyKms
from vault.ports import WrappedKey

KEY = bytes(range(32))
CONTEXT = {"tenant": "acme"}


def test_another_key_has_another_name_and_opens_nothing_of_this_one() -> None:
    one, other = SingleKeyKms(KEY), SingleKeyKms(bytes(32))
    wrapped = one.wrap(b"k" * 32, CONTEXT)
    assert one.describe().startswith(f"{URI}#")
    assert one.describe() != other.describe()
    with pytest.raises(KeyUnavailable, match="ENCRYPTION_KEY is another one"):
        other.unwrap(wrapped, CONTEXT)
    with pytest.raises(CannotOpen):
        other.unwrap(wrapped._replace(kek_id=other.describe()), CONTEXT)


def test_its_bytes_never_change() -> None:
    """What an earlier release wrapped must open; derived once more by hashlib's HMAC and pycryptodome's GCM."""
    wrapped = SingleKeyKms(KEY, random=lambda size: bytes(size)).wrap(b"k" * 32, CONTEXT)
    assert wrapped == WrappedKey(
        "env:ENCRYPTION_KEY#68c6be02",
        "AES-256-GCM",
        bytes.fromhex(
            "000000000000000000000000efc810df2f756a1610c5cd1b51bc871b2b78727ee3edf5d2dd9601df6c3447b9d3b347053bc6"
            "1ec1b2ea8367fbfa06fb"
        ),
    )
