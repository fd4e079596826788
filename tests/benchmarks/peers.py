"""The usual tools for sealing a value, each as its own documentation has it used, and none over a network.

They are installed by `make bench` alone; where one is missing its row says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from tests.benchmarks.measure import Call
from tests.benchmarks.report import Absent

_CONTEXT = {"tenant": "default", "connection": "00000000-0000-4000-8000-000000000001", "field": "access_token"}


class Peer(NamedTuple):
    """One tool: how it seals, and how it opens what it has sealed."""

    seal: Call
    open: Call


def peers(value: bytes) -> tuple[dict[str, Peer], list[Absent]]:
    """Return the tools that are installed, by name, and a line for each that is not."""
    found, absent = dict[str, Peer](), list[Absent]()
    for name, make in _PEERS.items():
        try:
            found[name] = make(value)
        except ImportError as error:
            absent.append(Absent(name, f"not installed ({error.name})"))
    return found, absent


def _tink(value: bytes) -> Peer:
    """AES-256-GCM under one keyset, that of the process."""
    return _tink_peer(_tink_aead(), value)


def _tink_envelope(value: bytes) -> Peer:
    """A data key for each value, wrapped by a KEK that is a keyset in this process instead of one in a KMS."""
    aead = import_module("tink.aead")
    kek = _tink_aead()
    return _tink_peer(aead.KmsEnvelopeAead(aead.aead_key_templates.AES256_GCM, kek), value)


def _tink_aead() -> Any:
    tink, aead = import_module("tink"), import_module("tink.aead")
    aead.register()
    return tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)


def _tink_peer(aead: Any, value: bytes) -> Peer:
    bound = "".join(_CONTEXT.values()).encode()
    sealed = aead.encrypt(value, bound)
    return Peer(lambda: aead.encrypt(value, bound), lambda: aead.decrypt(sealed, bound))


def _aws_encryption_sdk(value: bytes) -> Peer:
    """Its caching materials manager over a raw AES key; the suite that commits to the key and does not sign."""
    sdk, names = import_module("aws_encryption_sdk"), import_module("aws_encryption_sdk.identifiers")
    manager = sdk.CachingCryptoMaterialsManager(
        master_key_provider=_raw_keyring(names), cache=sdk.LocalCryptoMaterialsCache(100), max_age=300.0
    )
    client, suite = sdk.EncryptionSDKClient(), names.AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY

    def seal() -> Any:
        return client.encrypt(source=value, materials_manager=manager, encryption_context=_CONTEXT, algorithm=suite)

    sealed, _ = seal()
    return Peer(seal, lambda: client.decrypt(source=sealed, materials_manager=manager))


def _raw_keyring(names: Any) -> Any:
    wrapping = import_module("aws_encryption_sdk.internal.crypto.wrapping_keys")
    raw = import_module("aws_encryption_sdk.key_providers.raw")
    key = wrapping.WrappingKey(
        names.WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING, os.urandom(32), names.EncryptionKeyType.SYMMETRIC
    )

    class Provider(raw.RawMasterKeyProvider):  # type: ignore[name-defined, misc]  # known when it runs
        provider_id = "benchmark"

        def _get_raw_key(self, key_id: object) -> Any:
            return key

    provider = Provider()
    provider.add_master_key(b"kek")
    return provider


_PEERS: Mapping[str, Callable[[bytes], Peer]] = {
    "tink AEAD": _tink,
    "tink KMS envelope": _tink_envelope,
    "aws-encryption-sdk, cached": _aws_encryption_sdk,
}
