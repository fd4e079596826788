"""Print ``legacy.json``, made without ``vault``: ``python -m tests.vectors.make_legacy``."""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support import reference

ENCRYPTION_KEY = bytes(range(0xA0, 0xC0))
DEK = bytes(range(0xC0, 0xE0))
KEK = bytes(range(0x40, 0x60))
BLOB = b"\x01\x02\x03\x00" + bytes(range(0xE0, 0x100)) * 4
"""What another system's KMS would have given: bytes that mean nothing to anybody else."""
IV = bytes(range(0x10, 0x20))
SALT, NONCE, KEK_NONCE = bytes(range(0x80, 0x90)), bytes(range(0x90, 0x9C)), bytes(range(0x70, 0x7C))

TEXTS = ["a refresh token of before", "sixteen letters!", "", "Größe · 東京 · 🔑", "0123456789abcdef" * 20]
"""The second is as long as a tag, so that both orders of fields have the right sizes."""
PLAIN = [
    "an access token",
    "",
    "a:b:c",
    "iv:authTag:data",
    "ya29.A0ARrdaM-not-a-token",
    "0123456789abcdef0123456789abcdef",
    "RUcBAQAAAA==",
    "postgresql://user:password@host:5432/database",
]
ENCODINGS: dict[str, Callable[[bytes], str]] = {
    "hex": lambda part: part.hex(),
    "base64": lambda part: b64encode(part).decode(),
    "base64 without padding": lambda part: b64encode(part).decode().rstrip("="),
    "base64url": lambda part: urlsafe_b64encode(part).decode().rstrip("="),
}
DOCUMENTED, OTHER = "iv:authTag:data", "iv:data:authTag"


def vectors() -> dict[str, Any]:
    """Return everything ``legacy.json`` says."""
    return {
        "v0": PLAIN,
        "v1": {"encryption_key": _keys(), "texts": _v1()},
        "v2": {"kek": KEK.hex(), "kek_name": "primary", "dek": DEK.hex(), "texts": [_v2(t, "acme") for t in TEXTS]},
        "v2-foreign": {"dek": DEK.hex(), "blob": BLOB.hex(), "texts": _foreign()},
    }


def _keys() -> dict[str, str]:
    return {
        "hex": ENCRYPTION_KEY.hex(),
        "base64": b64encode(ENCRYPTION_KEY).decode(),
        "base64url": urlsafe_b64encode(ENCRYPTION_KEY).decode().rstrip("="),
    }


def _v1() -> list[dict[str, Any]]:
    found = []
    for iv_size in (12, 16):
        for order in (DOCUMENTED, OTHER):
            for encoding in ENCODINGS:
                for plaintext in TEXTS:
                    text = _v1_text(plaintext, iv_size, order, encoding)
                    case = {"iv_size": iv_size, "order": order, "encoding": encoding}
                    found.append({**case, "plaintext": plaintext, "text": text})
    return found


def _v1_text(plaintext: str, iv_size: int, order: str, encoding: str) -> str:
    iv = IV[:iv_size]
    sealed = AESGCM(ENCRYPTION_KEY).encrypt(iv, plaintext.encode(), None)
    parts = {"iv": iv, "data": sealed[:-16], "authTag": sealed[-16:]}
    return ":".join(ENCODINGS[encoding](parts[name]) for name in order.split(":"))


def _v2(plaintext: str, tenant: str) -> dict[str, str]:
    bound_to = {"app": "evergrant", "tenant": tenant, "purpose": "string"}
    parts = (
        reference.local_kek_id("primary", KEK).encode(),
        b"AES-256-GCM",
        reference.local_wrap("primary", KEK, DEK, bound_to, KEK_NONCE),
    )
    wrapped = b"EW\x01" + b"".join(struct.pack(f">H{len(part)}s", len(part), part) for part in parts)
    key_id = UUID(bytes=hashlib.sha256(wrapped).digest()[:16])
    place = reference.context(tenant, key_id, "string")
    envelope = reference.envelope(key_id, DEK, plaintext.encode(), place, 0, SALT, NONCE)
    text = f"kms:v2:{b64encode(wrapped).decode()}:{b64encode(envelope).decode()}"
    return {"tenant": tenant, "key_id": str(key_id), "plaintext": plaintext, "text": text}


def _foreign() -> list[dict[str, Any]]:
    found = []
    for iv_size in (12, 16):
        for layout in ("iv tag data", "iv data tag"):
            for plaintext in TEXTS:
                iv = IV[:iv_size]
                sealed = AESGCM(DEK).encrypt(iv, plaintext.encode(), None)
                parts = {"iv": iv, "data": sealed[:-16], "tag": sealed[-16:]}
                ciphertext = b"".join(parts[name] for name in layout.split())
                text = f"kms:v2:{b64encode(BLOB).decode()}:{b64encode(ciphertext).decode()}"
                found.append({"iv_size": iv_size, "layout": layout, "plaintext": plaintext, "text": text})
    return found


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=False))
