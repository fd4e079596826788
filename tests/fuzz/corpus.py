"""What is sealed to be altered, who opens it, and what may come of that."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from tests.support import second
from tests.support.fake_keys import FakeKeks
from vault.claims import DataKeyRecord
from vault.envelope import DataKey, TenantKey, context, open_envelope, seal_from_parts
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.kms.local import LocalKms
from vault.legacy import open_v1, open_v2_foreign, pack_string, string_key_id, unpack_foreign, unpack_string
from vault.ports import WrappedKey
from vault.services.strings import Strings

MANY = 48
"""Genuine ones of each sort."""
TEXT_BOUND = {"app": "evergrant", "tenant": "acme", "purpose": "string"}


@dataclass(frozen=True)
class Target:
    """An opener, and everything genuine that it opens."""

    name: str
    open: Callable[[Any, Any], bytes]
    """Takes what is sealed and its place."""
    genuine: Mapping[Any, tuple[Any, bytes]]
    """Place and plaintext of everything genuine."""
    errors: tuple[type[VaultError], ...] = (CannotOpen,)
    lenient: bool = False
    """One value can be written in several ways, as in formats that others made; it still is that value."""

    def is_genuine(self, sealed: Any, place: Any) -> bool:
        """Whether this was sealed, and here."""
        known = self.genuine.get(sealed)
        return known is not None and known[0] == place

    def may_open(self, sealed: Any, place: Any, plaintext: bytes) -> bool:
        """Whether this may come out of what is not genuine."""
        if self.lenient:
            return plaintext in self.plaintexts
        return isinstance(sealed, str) and self.genuine.get(sealed.strip()) == (place, plaintext)

    @cached_property
    def plaintexts(self) -> frozenset[bytes]:
        """Everything that was ever sealed; long enough that nothing else is it by accident."""
        return frozenset(plaintext for _, plaintext in self.genuine.values())


@cache
def _directory() -> TemporaryDirectory[str]:
    """Removed when this process ends."""
    return TemporaryDirectory(prefix="evergrant-fuzz-")


def _kms(chance: random.Random, name: str) -> LocalKms:
    return LocalKms(Path(_directory().name) / f"{name}-{chance.getrandbits(64):x}.json", random=chance.randbytes)


def targets(seed: str) -> list[Target]:
    """Everything to try, the same for the same seed."""
    chance = random.Random(seed)
    return [_envelopes(chance), _wrapped(chance), _texts(chance), _v1(chance), _foreign(chance), _strings(chance)]


def _secrets(chance: random.Random) -> list[bytes]:
    """Of many lengths, and none like another."""
    return [chance.randbytes(12).hex().encode() + chance.randbytes(n * n // 8).hex().encode() for n in range(MANY)]


def _envelopes(chance: random.Random) -> Target:
    keys = [DataKey(UUID(int=chance.getrandbits(128)), chance.randbytes(32)) for _ in range(3)]
    keys.append(DataKey(keys[0].id, chance.randbytes(32)))
    genuine: dict[bytes, tuple[Any, bytes]] = {}
    for number, plaintext in enumerate(_secrets(chance)):
        row = UUID(int=chance.getrandbits(128))
        bound_to = context(("acme", "umbra")[number % 2], row, ("access_token", "refresh_token")[number // 2 % 2])
        place = (keys[number % len(keys)], bound_to, number % 5)
        sealed = seal_from_parts(place[0], plaintext, bound_to, place[2], chance.randbytes(16), chance.randbytes(12))
        genuine[sealed] = (place, plaintext)
    return Target("envelopes", lambda sealed, place: open_envelope(place[0], sealed, *place[1:]), genuine)


def _wrapped(chance: random.Random) -> Target:
    tenant_keys = [TenantKey(UUID(int=n), chance.randbytes(32)) for n in (1, 2)]
    genuine: dict[bytes, tuple[Any, bytes]] = {}
    for number in range(MANY):
        tenant_key, raw = tenant_keys[number % 2], chance.randbytes(32)
        key_id, owner = UUID(int=chance.getrandbits(128)), f"owner-{number}"
        record = DataKeyRecord(key_id, "acme", owner, "spotify", "grant", "current", tenant_key.id, b"")
        genuine[tenant_key.wrap(raw, record, chance.randbytes(12))] = ((tenant_key, record), raw)
    return Target("wrapped keys", lambda sealed, at: bytes(at[0].unwrap(at[1]._replace(wrapped=sealed))), genuine)


def _v2_texts(chance: random.Random, kms: LocalKms) -> dict[str, tuple[Any, bytes]]:
    genuine: dict[str, tuple[Any, bytes]] = {}
    for number, plaintext in enumerate(_secrets(chance)):
        if number % 8 == 0:
            raw = chance.randbytes(32)
            wrapped = kms.wrap(raw, TEXT_BOUND)
            key = DataKey(string_key_id(wrapped), raw)
        bound_to = context("acme", key.id, "string")
        sealed = seal_from_parts(key, plaintext, bound_to, 0, chance.randbytes(16), chance.randbytes(12))
        genuine[pack_string(wrapped, sealed)] = (None, plaintext)
    return genuine


def _texts(chance: random.Random) -> Target:
    kms = _kms(chance, "texts")
    keys: dict[WrappedKey, DataKey] = {}

    def open_text(text: str, _: object) -> bytes:
        sealed = unpack_string(text)
        key = keys.get(sealed.wrapped)
        if key is None:
            key = keys[sealed.wrapped] = DataKey(sealed.key_id, kms.unwrap(sealed.wrapped, TEXT_BOUND))
        return open_envelope(key, sealed.envelope, context("acme", key.id, "string"), 0)

    return Target("v2 texts", open_text, _v2_texts(chance, kms), (CannotOpen, KeyUnavailable))


def _v1_texts(chance: random.Random, key: bytes) -> dict[str, tuple[Any, bytes]]:
    writers: tuple[Callable[[bytes], str], ...] = (
        bytes.hex,
        lambda part: base64.b64encode(part).decode(),
        lambda part: base64.urlsafe_b64encode(part).decode().rstrip("="),
    )
    genuine: dict[str, tuple[Any, bytes]] = {}
    for number, plaintext in enumerate(_secrets(chance)):
        iv = chance.randbytes((12, 16)[number % 2])
        sealed = second.encrypt(key, iv, plaintext)
        parts = [iv, sealed[-16:], sealed[:-16]] if number // 2 % 2 else [iv, sealed[:-16], sealed[-16:]]
        genuine[":".join(map(writers[number % 3], parts))] = (None, plaintext)
    return genuine


def _v1(chance: random.Random) -> Target:
    key = chance.randbytes(32)
    return Target("v1 texts", lambda text, _: open_v1(key, text), _v1_texts(chance, key), lenient=True)


def _foreign_texts(chance: random.Random, dek: bytes) -> dict[str, tuple[Any, bytes]]:
    genuine: dict[str, tuple[Any, bytes]] = {}
    blob = base64.b64encode(b"\x01\x02\x03\x00 the blob of another system").decode()
    for number, plaintext in enumerate(_secrets(chance)):
        iv = chance.randbytes((12, 16)[number % 2])
        sealed = second.encrypt(dek, iv, plaintext)
        ciphertext = iv + (sealed if number // 2 % 2 else sealed[-16:] + sealed[:-16])
        genuine[f"kms:v2:{blob}:{base64.b64encode(ciphertext).decode()}"] = (None, plaintext)
    return genuine


def _foreign(chance: random.Random) -> Target:
    dek = chance.randbytes(32)
    genuine = _foreign_texts(chance, dek)
    return Target("v2 foreign", lambda text, _: open_v2_foreign(dek, unpack_foreign(text)[1]), genuine, lenient=True)


def _strings(chance: random.Random) -> Target:
    """All texts together, through the service that tells them apart."""
    kms, legacy_key, dek = _kms(chance, "strings"), chance.randbytes(32), chance.randbytes(32)
    genuine = {**_v2_texts(chance, kms), **_v1_texts(chance, legacy_key), **_foreign_texts(chance, dek)}
    strings = Strings(
        "acme",
        FakeKeks(kms),
        monotonic=time.monotonic,
        random=chance.randbytes,
        legacy_key=legacy_key,
        foreign=lambda blob: dek,
    )
    return Target(
        "strings", lambda text, _: strings.decrypt(text).encode(), genuine, (CannotOpen, KeyUnavailable), lenient=True
    )
