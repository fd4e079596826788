"""An encryption context as bytes, for a KMS that has no notion of one."""

from __future__ import annotations

from collections.abc import Mapping


def canonical(label: bytes, kek_id: str, context: Mapping[str, str]) -> bytes:
    """Return the one byte string of a context under a KEK: sorted by name, every part after its length.

    Args:
        label: What the bytes are for; every use has its own.
        kek_id: The KEK in full.
        context: In any order.
    """
    parts = [kek_id, *(part for item in sorted(context.items()) for part in item)]
    return label + b"".join(len(part).to_bytes(4, "big") + part for part in map(str.encode, parts))
