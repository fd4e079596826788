"""Making something malformed of something genuine."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from tests.fuzz.corpus import Target
from vault.errors import CannotOpen
from vault.legacy import pack_string, string_key_id, unpack_string

CONTROL = 64
"""One in so many stays as it is."""
BOUNDARIES = (0, 2, 3, 4, 16, 20, 36, 68, 80)
"""Where parts of envelopes and wrapped keys begin."""
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=: \n"
HEADS = (b"EG\x01\x01", b"EG\x01\x02", b"EG\x02\x01", b"EK\x01\x01", b"EW\x01", b"GE\x01\x01", b"EG", b"")

T = TypeVar("T")


class Chance(Random):
    """Dice that are quick to throw, and all but fair."""

    def below(self, end: int) -> int:
        """A number from 0 to ``end - 1``."""
        return int(self.random() * end)

    def pick(self, among: Sequence[T]) -> T:
        """One of these."""
        return among[int(self.random() * len(among))]


Alter = Callable[[Chance, bytes, bytes], bytes]


class Mutator:
    """Alters what one target opens."""

    def __init__(self, target: Target, chance: Chance) -> None:
        self._target, self._chance = target, chance
        self._sealed = list(target.genuine)
        self._places = [place for place, _ in target.genuine.values()]
        self._text = isinstance(self._sealed[0], str)
        self._placed = any(place is not None for place in self._places)

    def one(self) -> tuple[Any, Any]:
        """Return something sealed and a place: altered, or somewhere else, or (one in 64, and by chance) neither."""
        chance = self._chance
        number = chance.below(len(self._sealed))
        sealed, place = self._sealed[number], self._places[number]
        dice = chance.below(CONTROL)
        if dice == 0:
            return sealed, place
        if self._placed and dice < CONTROL // 8:
            return sealed, self._elsewhere(place)
        other = self._sealed[chance.below(len(self._sealed))]
        if not self._text:
            return self._altered(sealed, other), place
        return self._altered_text(sealed, other), place

    def _altered(self, sealed: bytes, other: bytes) -> bytes:
        alter = self._chance.pick(BINARY)
        altered = alter(self._chance, sealed, other)
        while self._chance.below(8) == 0:
            altered = self._chance.pick(BINARY)(self._chance, altered, other)
        return altered

    def _altered_text(self, text: str, other: str) -> str:
        chance = self._chance
        dice = chance.below(8)
        if dice == 0:
            return _parts(chance, text, other)
        if dice == 1:
            return _inside(chance, text, other)
        if dice == 2 and text.startswith("kms:"):
            return _rebound(chance, text)
        return self._altered(text.encode(), other.encode()).decode("latin-1")

    def _elsewhere(self, place: Any) -> Any:
        """A place that is not this one: somebody else's in whole or in part, or no one's."""
        chance = self._chance
        other = chance.pick(self._places)
        mixed = tuple(chance.pick(pair) for pair in zip(place, other, strict=True))
        if self._target.name == "envelopes" and chance.below(3) == 0:
            key, bound_to, version = mixed
            bound_to = self._altered(bound_to, other[1]) if chance.below(2) else bound_to
            return key, bound_to, chance.pick((version, version + 1, version - 1, chance.getrandbits(63), 2**64))
        if self._target.name == "wrapped keys" and chance.below(3) == 0:
            record, theirs = mixed[1], other[1]
            member = chance.pick(("id", "tenant", "owner", "provider", "purpose"))
            value = getattr(theirs, member) if chance.below(2) else _odd(chance, member)
            return mixed[0], record._replace(**{member: value})
        return mixed


def _odd(chance: Chance, member: str) -> Any:
    return UUID(int=chance.getrandbits(128)) if member == "id" else chance.randbytes(3).hex()


# ------------------------------------------------------------------------------------------------------------- of bytes


def _flip(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    if not sealed:
        return b"\x00"
    return (int.from_bytes(sealed, "big") ^ (1 << chance.below(8 * len(sealed)))).to_bytes(len(sealed), "big")


def _flip_some(chance: Chance, sealed: bytes, other: bytes) -> bytes:
    for _ in range(2 + chance.below(7)):
        sealed = _flip(chance, sealed, other)
    return sealed


def _set_letter(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    at = chance.below(len(sealed) + 1)
    return sealed[:at] + bytes([chance.pick(LETTERS)]) + sealed[at + 1 :]


def _truncate(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    at = chance.below(len(sealed) + 1)
    return sealed[:at] if chance.below(4) else sealed[at:]


def _extend(chance: Chance, sealed: bytes, other: bytes) -> bytes:
    more = chance.pick((chance.randbytes(1 + chance.below(39)), bytes(1 + chance.below(16)), other, sealed))
    return sealed + more if chance.below(2) else more + sealed


def _cut(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    at = chance.below(len(sealed) + 1)
    return sealed[:at] + sealed[at + (1 + chance.below(19)) :]


def _repeat(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    at, long = chance.below(len(sealed) + 1), 1 + chance.below(39)
    return sealed[: at + long] + sealed[at:]


def _splice(chance: Chance, sealed: bytes, other: bytes) -> bytes:
    at = chance.pick((*BOUNDARIES, len(sealed) - 16, chance.below(len(sealed) + 1)))
    return sealed[:at] + other[at:] if chance.below(2) else other[:at] + sealed[at:]


def _transplant(chance: Chance, sealed: bytes, other: bytes) -> bytes:
    """One part of another, in its own place: a key id, a salt, a commitment, a nonce, a tag."""
    begin, end = chance.pick(((0, 4), (4, 20), (20, 36), (36, 68), (20, 68), (68, 80), (4, 16), (16, 48)))
    if chance.below(6) == 0:
        return sealed[:-16] + other[-16:]
    return sealed[:begin] + other[begin:end] + sealed[end:]


def _wipe(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    at = chance.pick(BOUNDARIES)
    long = chance.pick((1, 2, 4, 12, 16, 32))
    what = bytes(long) if chance.below(2) else chance.randbytes(long)
    return sealed[:at] + what + sealed[at + long :]


def _head(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    head = chance.pick(HEADS)
    return head + sealed[chance.pick((len(head), 4)) :]


def _exchange(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    one, two, three = sorted(chance.below(len(sealed) + 1) for _ in range(3))
    return sealed[:one] + sealed[two:three] + sealed[one:two] + sealed[three:]


def _random(chance: Chance, sealed: bytes, _: bytes) -> bytes:
    kept = chance.pick((0, 0, 4, 20, 68, 80))
    return sealed[:kept] + chance.randbytes(chance.below(250))


BINARY: tuple[Alter, ...] = (
    _flip, _flip, _flip, _flip_some, _set_letter, _truncate, _extend, _cut, _repeat, _splice, _splice, _transplant,
    _transplant, _wipe, _head, _exchange, _random,
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- of text


def _parts(chance: Chance, text: str, other: str) -> str:
    """Parts between colons taken from another, exchanged, lost or doubled."""
    mine, theirs = text.split(":"), other.split(":")
    at = chance.below(len(mine))
    kind = chance.below(5)
    if kind == 0:
        mine[at] = chance.pick(theirs)
    elif kind == 1:
        chance.shuffle(mine)
    elif kind == 2:
        del mine[at]
    elif kind == 3:
        mine.insert(at, chance.pick((*mine, *theirs, "", "kms", "v2", "v1", "é")))
    else:
        mine[at] = chance.pick((mine[at].upper(), mine[at].lower(), f" {mine[at]}", f"{mine[at]}\n", f"{mine[at]}="))
    return ":".join(mine)


def _inside(chance: Chance, text: str, other: str) -> str:
    """A part decoded, altered, and encoded again: past the decoder, to whoever stands behind it."""
    parts = text.split(":")
    at = 2 + chance.below(len(parts) - 2) if text.startswith("kms:") else chance.below(len(parts))
    theirs = _decoded(chance.pick(other.split(":")))
    altered = chance.pick(BINARY)(chance, _decoded(parts[at]), theirs)
    parts[at] = base64.b64encode(altered).decode() if chance.below(2) else altered.hex()
    return ":".join(parts)


def _decoded(part: str) -> bytes:
    try:
        return bytes.fromhex(part)
    except ValueError:
        digits = part.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(digits + "=" * (-len(digits) % 4))


def _rebound(chance: Chance, text: str) -> str:
    """A wrapped key altered, and the envelope's key id with it: the halves fit, only the KMS can tell."""
    try:
        sealed = unpack_string(text)
    except CannotOpen:
        return _parts(chance, text, text)
    altered = chance.pick(BINARY)(chance, sealed.wrapped.ciphertext, sealed.envelope)
    change: dict[str, Any] = {"ciphertext": altered or b"x"}
    if chance.below(4) == 0:
        change = {"kek_id": chance.pick(("x", "local:", f"{sealed.wrapped.kek_id}0", chance.randbytes(4).hex()))}
    wrapped = sealed.wrapped._replace(**change)
    return pack_string(wrapped, sealed.envelope[:4] + string_key_id(wrapped).bytes + sealed.envelope[20:])
