"""Text that carries its own wrapped key: what ``encrypt_string`` and ``decrypt_string`` exchange.

    KEK (in a KMS) ── wraps ── data key ── derives a record key for every text (``envelope``)

One data key serves a process for a cache life, so any number of texts costs a wrapping (and an unwrapping that proves
it) every five minutes; opening costs one call for each data key and cache life. The wrapping is bound to the tenant and
to its purpose. It is not bound to the data key's id: that follows from the wrapping itself (``legacy``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from hmac import compare_digest
from threading import Lock
from typing import Final, NamedTuple

from vault import legacy
from vault.cache import Cache, Inquiry
from vault.envelope import KEY_SIZE, DataKey, context, open_envelope, seal
from vault.errors import CannotOpen, KeyUnavailable
from vault.forks import in_children
from vault.keyring import LIFE, REFUSAL_LIFE, USES
from vault.legacy import SealedString
from vault.ports import Keks, WrappedKey

STRING: Final = "string"
"""Field and purpose: nothing sealed for a row opens as a string, and no string as a row's value."""
CAPACITY: Final = 1_000
_VERSION = 0  # a text has no row whose version it could be bound to
_WRITING = 0  # the place of the data key that is written with; those that are read with have ids, which are larger


class _Writing(NamedTuple):
    key: DataKey
    wrapped: WrappedKey


class Strings:
    """Encrypts and decrypts strings of one tenant. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        keks: Keks,
        *,
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
        life: timedelta = LIFE,
        capacity: int = CAPACITY,
        uses: int = USES,
        legacy_key: bytes | None = None,
        foreign: Callable[[bytes], bytes] | None = None,
        plaintext: bool = False,
    ) -> None:
        """Nothing is asked of a KMS yet.

        Args:
            tenant: Whose strings they are; nobody else's open.
            keks: Knows the KMS that holds the tenant's KEK.
            monotonic: Seconds of a clock that never goes back.
            random: Gives that many unpredictable bytes.
            life: How long an unwrapped data key may serve, five minutes at most.
            capacity: How many data keys are held at most.
            uses: How often one may serve before the KMS is asked again.
            legacy_key: The key of v1 texts, from ``legacy.parse_encryption_key``.
            foreign: Gives the data key in a CiphertextBlob of another system, or raises as a ``Kms`` does.
            plaintext: Let ``decrypt`` give back what was never encrypted (v0). Whoever can write where the strings are
                kept can then put anything there.

        Raises:
            ValueError: ``life`` is longer than five minutes.
        """
        if life > LIFE:
            raise ValueError(f"an unwrapped data key serves {LIFE} at most")
        self._tenant, self._keks = tenant, keks
        self._monotonic, self._random = monotonic, random
        self._life, self._capacity, self._uses = life.total_seconds(), capacity, uses
        self._legacy_key, self._foreign, self._plaintext = legacy_key, foreign, plaintext
        self._bound_to = {"app": "evergrant", "tenant": tenant, "purpose": STRING}
        self.forget()
        in_children(self.forget)

    def forget(self) -> None:
        """Let go of every key. A process that was just forked does this by itself."""
        self._lock = Lock()
        self._inquiries: OrderedDict[int, Inquiry[DataKey]] = OrderedDict()
        self._writing: Cache[int, _Writing] = Cache(1, self._monotonic, uses=self._uses)
        self._opening: Cache[int, DataKey] = Cache(self._capacity, self._monotonic, uses=self._uses)

    def encrypt(self, text: str) -> str:
        """Return a v2 text that this tenant's ``decrypt`` opens, here and wherever the same KMS is at hand.

        Raises:
            KeyUnavailable: The KMS refused or did not answer.
            CannotOpen: The KMS does not give back the key that it has just wrapped.
            ValueError: ``text`` has lone surrogates, which UTF-8 cannot write.
        """
        try:
            plain = text.encode()
        except UnicodeEncodeError:  # it holds the text
            raise ValueError("a string with lone surrogates cannot be encrypted") from None
        writing = self._writing_key()
        key = writing.key
        return legacy.pack_string(writing.wrapped, seal(key, plain, self._context(key), _VERSION))

    def decrypt(self, text: str) -> str:
        """Give back the string in a text of any format: v2, of ours or of another system, v1, and v0 where allowed.

        Raises:
            KeyUnavailable: The KMS refused or did not answer; or the text is v1 and there is no key for it.
            CannotOpen: It is damaged, another tenant's, an envelope out of its row, or plain text that is not allowed.
        """
        kind = legacy.kind(text)
        if kind == "v0" and self._plaintext:
            return text
        try:
            if kind == "v2":
                return self._open(legacy.unpack_string(text)).decode()
            if kind == "v2-foreign":
                return self._open_foreign(text).decode()
            if kind == "v1":
                return self._open_v1(text).decode()
        except UnicodeDecodeError:  # it holds what was opened
            raise CannotOpen from None
        raise CannotOpen

    def _open(self, sealed: SealedString) -> bytes:
        key = self._opening.get(sealed.key_id.int) or self._admit(sealed)
        return open_envelope(key, sealed.envelope, self._context(key), _VERSION)

    def _open_foreign(self, text: str) -> bytes:
        blob, ciphertext = legacy.unpack_foreign(text)
        if self._foreign is None:
            reason = "the text was written by another system, and no KMS is set to unwrap its data key"
            raise KeyUnavailable("kms:v2", reason, transient=False)
        return legacy.open_v2_foreign(self._foreign(blob), ciphertext)

    def _open_v1(self, text: str) -> bytes:
        if self._legacy_key is None:
            reason = "not set, and the text is in the format before v2: set it to the key the text was written with"
            raise KeyUnavailable("ENCRYPTION_KEY", reason, transient=False)
        return legacy.open_v1(self._legacy_key, text)

    def _context(self, key: DataKey) -> bytes:
        return context(self._tenant, key.id, STRING)

    # -------------------------------------------------------------------------------------------------------- keys

    def _writing_key(self) -> _Writing:
        found = self._writing.get(_WRITING)
        if found is not None:
            return found
        writing, opening = self._writing, self._opening  # what forget() empties meanwhile is not filled again
        with self._single_flight(_WRITING):
            found = writing.get(_WRITING)
            if found is None:
                ends = self._monotonic() + self._life
                found = writing.put(_WRITING, self._make(), ends)
                opening.put(found.key.id.int, found.key, ends)
            return found

    def _make(self) -> _Writing:
        raw = self._random(KEY_SIZE)
        wrapped = self._keks.of(self._tenant).wrap(raw, self._bound_to)
        # The right to wrap without the right to unwrap would be noticed when the strings are needed.
        if not compare_digest(self._unwrap(wrapped), raw):
            raise CannotOpen
        return _Writing(DataKey(legacy.string_key_id(wrapped), raw), wrapped)

    def _admit(self, sealed: SealedString) -> DataKey:
        cache, number = self._opening, sealed.key_id.int
        with self._single_flight(number):
            key = cache.get(number)
            if key is None:
                ends = self._monotonic() + self._life
                raw = self._unwrap(sealed.wrapped)
                if len(raw) != KEY_SIZE:
                    raise CannotOpen
                key = cache.put(number, DataKey(sealed.key_id, raw), ends)
            return key

    def _unwrap(self, wrapped: WrappedKey) -> bytes:
        return self._keks.holding(self._tenant, wrapped.kek_id).unwrap(wrapped, self._bound_to)

    def _single_flight(self, number: int) -> AbstractContextManager[object]:
        """Be the only one who asks for a data key; a refusal counts for a while."""
        return self._inquiry(number).single_flight(self._monotonic, REFUSAL_LIFE.total_seconds())

    def _inquiry(self, number: int) -> Inquiry[DataKey]:
        now = self._monotonic()
        with self._lock:
            inquiry = self._inquiries.get(number)
            if inquiry is None:
                while self._inquiries and self._may_go(next(iter(self._inquiries.values())), now):
                    self._inquiries.popitem(last=False)
                inquiry = self._inquiries[number] = Inquiry(now + self._life)
            self._inquiries.move_to_end(number)
            return inquiry

    def _may_go(self, oldest: Inquiry[DataKey], now: float) -> bool:
        return len(self._inquiries) >= self._capacity or oldest.idle(now)
