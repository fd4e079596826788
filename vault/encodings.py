"""Bytes written as text, in the forms that other systems chose."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final

KEY_SIZE: Final = 32
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_BASE64 = re.compile(r"([0-9A-Za-z+/_-]*)(={0,2})")
_FROM_URL_SAFE = str.maketrans("-_", "+/")


def decodings(part: str) -> Iterator[bytes]:
    """The bytes a part stands for: as hex, and as base64, which a hex number may be too."""
    if _HEX.fullmatch(part):
        yield bytes.fromhex(part)
    decoded = from_base64(part)
    if decoded:  # nothing was given already
        yield decoded


def from_base64(part: str) -> bytes | None:
    """Read either alphabet, padded or not; None: it is no base64."""
    found = _BASE64.fullmatch(part)
    if found is None:
        return None
    digits, padding = found.groups()
    missing = -len(digits) % 4
    if missing == 3 or len(padding) not in (0, missing):
        return None
    return b64decode(digits.translate(_FROM_URL_SAFE) + "=" * missing)


def parse_encryption_key(text: str) -> bytes:
    """Read the key of v1: 64 hex digits, the base64 of 32 bytes, or else 32 printable ASCII characters as they are.

    Their lengths tell them apart, so that 32 hex digits are 32 characters: a key of half as many bytes never was one.

    Raises:
        ValueError: It is none of these; the message does not show it.
    """
    bare = text.strip()
    for key in decodings(bare):
        if len(key) == KEY_SIZE:
            return key
    for raw in (text, bare):
        if len(raw) == KEY_SIZE and raw.isascii() and raw.isprintable():
            return raw.encode()
    raise ValueError("an encryption key is 64 hex digits, the base64 of 32 bytes, or 32 printable ASCII characters")
