"""Print ``keys_v1.json``, made by the reference implementation alone: ``python -m tests.vectors.make``."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from tests.support import reference

DATA_KEY_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
SUBJECT = UUID("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
DATA_KEY = bytes(range(0x20))
TENANT_KEY = bytes(range(0x20, 0x40))
KEK = bytes(range(0x40, 0x60))
FINGERPRINT_KEY = bytes(range(0x60, 0x80))
SALT = bytes(range(0x80, 0x90))
NONCE = bytes(range(0x90, 0x9C))

ENVELOPES: list[tuple[str, str, int, bytes]] = [
    ("default", "access_token", 1, b"an access token"),
    ("default", "refresh_token", 2**63 - 1, b""),
    ("Größe·東京", "access_token", 0, bytes(range(256)) * 8),
]


def vectors() -> dict[str, Any]:
    """Return everything ``keys_v1.json`` says."""
    facts = ["default", "owner-1", "spotify", "grant", str(DATA_KEY_ID)]
    bound_to = {"app": "evergrant", "tenant": "default", "purpose": "tenant-key", "key_id": str(DATA_KEY_ID)}
    return {
        "envelopes": [_envelope(*case) for case in ENVELOPES],
        "data_key": {
            "tenant_key": TENANT_KEY.hex(),
            "raw": DATA_KEY.hex(),
            "facts": facts,
            "nonce": NONCE.hex(),
            "wrapped": reference.wrapped_data_key(TENANT_KEY, DATA_KEY, facts, NONCE).hex(),
        },
        "local_wrap": {
            "name": "primary",
            "kek": KEK.hex(),
            "kek_id": reference.local_kek_id("primary", KEK),
            "key": TENANT_KEY.hex(),
            "context": bound_to,
            "nonce": NONCE.hex(),
            "ciphertext": reference.local_wrap("primary", KEK, TENANT_KEY, bound_to, NONCE).hex(),
        },
        "fingerprint": {
            "key": FINGERPRINT_KEY.hex(),
            "tenant": "default",
            "subject": str(SUBJECT),
            "text": "a refresh token",
            "fingerprint": reference.fingerprint(FINGERPRINT_KEY, "default", SUBJECT, "a refresh token").hex(),
        },
    }


def _envelope(tenant: str, field: str, version: int, plaintext: bytes) -> dict[str, Any]:
    bound_to = reference.context(tenant, SUBJECT, field)
    return {
        "data_key_id": str(DATA_KEY_ID),
        "data_key": DATA_KEY.hex(),
        "tenant": tenant,
        "subject": str(SUBJECT),
        "field": field,
        "context": bound_to.hex(),
        "version": version,
        "salt": SALT.hex(),
        "nonce": NONCE.hex(),
        "plaintext": plaintext.hex(),
        "envelope": reference.envelope(DATA_KEY_ID, DATA_KEY, plaintext, bound_to, version, SALT, NONCE).hex(),
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=False))
