"""The keyring: unwrapped keys of one process, for a little while.

    KEK (in a KMS) ── wraps ── tenant key ┬─ wraps ── data key ── derives a record key for every value (``envelope``)
                                          └─ wraps ── fingerprint key

A tenant key costs one KMS call a tenant, process and cache life; everything below it costs microseconds. No key
outlives the tenant key it came from, so the cache life *is* the time until a disabled KEK locks a tenant. Only when the
KMS gives no answer at all, a tenant key goes on serving for a bounded while (docs/decisions, 0009). The only lock held
across a KMS call is that tenant key's own: a hundred threads make one call, and one tenant's trouble is nobody else's.

A key that leaves the cache is not overwritten by us, as somebody may be sealing with it: when its last user lets go,
OpenSSL's copy is freed, and OpenSSL overwrites what it frees. Raw bytes are overwritten where Python lets us.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from hmac import compare_digest
from threading import Lock
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from vault.cache import Cache, Inquiry
from vault.claims import DataKeyRecord
from vault.envelope import KEY_SIZE, NONCE_SIZE, DataKey, TenantKey, context
from vault.errors import CannotOpen, KeyUnavailable
from vault.forks import in_children
from vault.metrics import key_cache, key_cache_size, keys_kept
from vault.ports import Keks, KeyStore, Kms, TenantKeyRecord, WrappedKey
from vault.standing.figures import CacheUse

GRANT: Final = "grant"
"""Purpose of a data key that seals the values of one owner at one provider."""
FINGERPRINT: Final = "fingerprint"
"""Purpose of a tenant's fingerprint key. It is never replaced: fingerprints are compared for as long as rows live."""
CURRENT: Final = "current"
"""State of the key that seals (or wraps) what is new."""

LIFE: Final = timedelta(minutes=5)
GRACE: Final = timedelta(hours=1)
CAPACITY: Final = 10_000
USES: Final = 1_000_000
REFUSAL_LIFE: Final = timedelta(seconds=1)
"""How long a KMS's refusal is repeated without asking again, so that a stampede costs it one call a second and key."""

_HITS, _MISSES = key_cache.labels("hit"), key_cache.labels("miss")
_HITS_IN_A_LOT = 1024  # a prometheus counter costs more than the look-up it counts


class Keyring:
    """Hands out keys by id and by owner, makes those that do not exist yet, and forgets them in time. Thread-safe."""

    def __init__(
        self,
        keks: Keks,
        store: KeyStore,
        *,
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
        new_id: Callable[[], UUID],
        life: timedelta = LIFE,
        grace: timedelta = GRACE,
        capacity: int = CAPACITY,
        uses: int = USES,
    ) -> None:
        """Nothing is asked of a KMS or the store yet.

        Args:
            keks: Knows the KMS that holds a tenant's KEK.
            store: Holds the wrapped keys.
            monotonic: Seconds of a clock that never goes back.
            random: Gives that many unpredictable bytes.
            new_id: Gives ids nobody has used.
            life: How long an unwrapped key may serve.
            grace: How much longer while its KMS does not answer, neither yes nor no.
            capacity: How many keys of each sort are held at most.
            uses: How often an unwrapped data key may serve.
        """
        self._keks, self._store = keks, store
        self._monotonic, self._random, self._new_id = monotonic, random, new_id
        self._life, self._grace = life.total_seconds(), grace.total_seconds()
        self._capacity, self._uses = capacity, uses
        self.forget()
        in_children(self.forget)  # a child must not sit on keys it may never ask for

    def forget(self) -> None:
        """Let go of every key. A process that was just forked does this by itself."""
        self._lock = Lock()
        self._hits = self._hits_told = self._misses = 0
        self._inquiries: OrderedDict[UUID | str, Inquiry[TenantKey]] = OrderedDict()
        self._data_keys: Cache[int, DataKey] = Cache(self._capacity, self._monotonic, uses=self._uses)
        self._current: Cache[tuple[str, str, str], UUID] = Cache(self._capacity, self._monotonic)
        self._fingerprint_keys: Cache[str, HMAC] = Cache(self._capacity, self._monotonic)

    def use(self) -> CacheUse:
        """Say what the cache of data keys has been good for."""
        return CacheUse(self._hits_told + self._hits, self._misses, len(self._data_keys))

    # ------------------------------------------------------------------------------------------------ data keys

    def cached(self, key_id: UUID) -> DataKey | None:
        """Return a data key if it is at hand: no lock, no store, no KMS."""
        key = self._data_keys.get(key_id.int)  # hashing a UUID costs four times hashing its int
        if key is not None:
            self._hits += 1  # two threads may lose one between them: it is a statistic
            if self._hits >= _HITS_IN_A_LOT:
                self._flush_hits()
        return key

    def key(self, record: DataKeyRecord) -> DataKey:
        """Return the data key of a record at hand; the store is only asked for a tenant key that is not cached.

        Raises:
            KeyUnavailable: The KMS refused or did not answer, or the key has been destroyed.
            CannotOpen: The record was damaged or moved.
        """
        return self.cached(record.id) or self._admit(record)

    def key_for_once(self, record: DataKeyRecord) -> DataKey:
        """As ``key()``, but nothing is kept: who goes over all keys must not drive out of the cache those in use."""
        return self._data_keys.get(record.id.int) or self._data_key(record)[0]

    def check_data_key(self, record: DataKeyRecord) -> None:
        """Raise as ``key()`` does when a data key cannot be unwrapped; nothing is kept."""
        raw, _ = self._unwrap_data_key(record)
        raw[:] = bytes(KEY_SIZE)

    def opening_key(self, key_id: UUID) -> DataKey:
        """Return a data key by the id an envelope names. Raises as ``key()`` does, and ``StoreUnavailable``."""
        key = self.cached(key_id)
        if key is None:
            record = self._store.data_key(key_id)
            if record is None:
                raise KeyUnavailable(str(key_id), "no such data key", transient=False)
            key = self._admit(record)
        return key

    def sealing_key(self, tenant: str, owner: str, provider: str) -> DataKey:
        """Return the key that seals new values, making it (and the tenant's) when this is the first.

        Another process's rotation is noticed within the cache life; until then the replaced key goes on sealing, which
        the next sweep mends. Raises as ``key()`` does, and ``StoreUnavailable``.
        """
        key_id = self._current.get((tenant, owner, provider))
        key = self.cached(key_id) if key_id is not None else None
        return key or self.current_key(tenant, owner, provider)

    def current_key(self, tenant: str, owner: str, provider: str) -> DataKey:
        """As ``sealing_key()``, but by what the store says now."""
        return self.make_current(self._current_record(tenant, owner, provider, GRANT))

    def make_current(self, record: DataKeyRecord) -> DataKey:
        """Seal with this key from now on: the store has just said that it is current."""
        key = self.key(record)
        owner = (record.tenant, record.owner, record.provider)
        self._current.put(owner, record.id, self._monotonic() + self._life)
        return key

    def succeed(self, old: DataKeyRecord, new: DataKeyRecord) -> None:
        """Seal with ``new`` from now on, if ``old`` was sealed with here so far."""
        if self._current.get((old.tenant, old.owner, old.provider)) == old.id:
            self.make_current(new)

    def new_data_key(
        self, tenant: str, owner: str, provider: str, purpose: str = GRANT, *, under: TenantKeyRecord | None = None
    ) -> DataKeyRecord:
        """Make a data key under the tenant key in use, ``under``. It seals nothing until the store has it."""
        above = under or self.current_tenant_key(tenant)
        tenant_key, _ = self._tenant_key(above.id, above)
        record = DataKeyRecord(self._new_id(), tenant, owner, provider, purpose, CURRENT, tenant_key.id, b"")
        wrapped = tenant_key.wrap(self._random(KEY_SIZE), record, self._random(NONCE_SIZE))
        return record._replace(wrapped=wrapped)

    # ---------------------------------------------------------------------------------------------- fingerprints

    def fingerprint(self, tenant: str, subject: UUID, text: str) -> bytes:
        """Return 16 bytes that tell whether two texts of one subject are equal, and nothing else about them.

        HMAC-SHA-256 under a key of the tenant's own, cut to 16 bytes (RFC 2104, section 5): useless without the key,
        and of no use for comparing across subjects or tenants. Raises as ``sealing_key()`` does.
        """
        return self.fingerprinter(tenant)(subject, text)

    def fingerprinter(self, tenant: str) -> Callable[[UUID, str], bytes]:
        """Return ``fingerprint`` for one tenant with its key in hand: it works whatever happens to cache and KMS."""
        return partial(_fingerprint, self._fingerprint_keys.get(tenant) or self._admit_fingerprint_key(tenant), tenant)

    def digest(self, tenant: str, subject: UUID, field: str, text: str) -> bytes:
        """As ``fingerprint``, but all 32 bytes, and of a field of its own: never equal to a fingerprint's beginning."""
        mac = self._fingerprint_keys.get(tenant) or self._admit_fingerprint_key(tenant)
        return _digest(mac, context(tenant, subject, field), text)

    # ---------------------------------------------------------------------------------------------- tenant keys

    def kek_id(self, uri: str | None = None) -> str:
        """Name the KEK in use at a URI; None: for tenants who brought none. Raises ``KeyUnavailable``."""
        return self._keks.at(uri).describe()

    def check(self, tenant: str) -> None:
        """Raise when the KMS does not give a tenant's key back, or, before there is one, a key made for the occasion.

        Raises:
            KeyUnavailable: The KMS is away, refuses, or does not know the KEK: is it the one the database was made
                with?
            CannotOpen: The wrapped key was damaged or moved.
        """
        record = self._store.current_tenant_key(tenant)
        if record is not None:
            self._unwrap(record)
        else:
            self._prove(self._keks.of(tenant), tenant)

    def prove(self, uri: str | None, tenant: str) -> str:
        """Have a KMS wrap a key made for the occasion, and give it back; returns the name of its KEK.

        Raises ``KeyUnavailable`` and ``CannotOpen`` when it does not do both.
        """
        kms = self._keks.at(uri)
        self._prove(kms, tenant)
        return kms.describe()

    def _prove(self, kms: Kms, tenant: str) -> None:
        probe, bound_to = self._random(KEY_SIZE), _kms_context(tenant, self._new_id())
        if not compare_digest(kms.unwrap(kms.wrap(probe, bound_to), bound_to), probe):
            raise KeyUnavailable(kms.describe(), "it gives back another key than it was given", transient=False)

    def rewrap(self, record: TenantKeyRecord) -> WrappedKey:
        """Wrap a tenant key anew, under its tenant's KEK in use, proving that the new wrapping opens.

        Raises:
            KeyUnavailable: Either KEK refused or did not answer.
            CannotOpen: The old wrapping was damaged or moved, or the new one does not open.
        """
        return self._wrap(self._unwrap(record), record.tenant, record.id)

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord:
        """Read the tenant key in use, which is made when this is the first. Raises as ``sealing_key()`` does."""
        record = self._store.current_tenant_key(tenant)
        if record is None:
            with self._single_flight(self._inquiry(tenant)):
                record = self._store.current_tenant_key(tenant) or self._create_tenant_key(tenant)
        return record

    def new_tenant_key(self, tenant: str) -> TenantKeyRecord:
        """Make a tenant key, proven to open. It wraps nothing until the store has it. Raises as ``rewrap()`` does."""
        key_id = self._new_id()
        return TenantKeyRecord(key_id, tenant, CURRENT, self._wrap(self._random(KEY_SIZE), tenant, key_id))

    def rewrap_data_key(self, record: DataKeyRecord, under: TenantKeyRecord) -> DataKeyRecord:
        """Wrap a data key anew, under another key of its tenant. Raises as ``key()`` does."""
        old, _ = self._tenant_key(record.tenant_key_id)
        new, _ = self._tenant_key(under.id, under)
        raw = old.unwrap(record)
        wrapped = new.wrap(raw, record, self._random(NONCE_SIZE))
        raw[:] = bytes(KEY_SIZE)
        return record._replace(tenant_key_id=new.id, wrapped=wrapped)

    def _tenant_key(self, key_id: UUID, record: TenantKeyRecord | None = None) -> tuple[TenantKey, float]:
        """Return a tenant key, and until when it serves."""
        inquiry = self._inquiry(key_id)
        known = inquiry.unanswered(self._monotonic())
        if known is not None and inquiry.asking:  # who asks may have to wait, and need not be waited for
            return known, self._monotonic() + REFUSAL_LIFE.total_seconds()
        try:
            return inquiry.held(self._monotonic()) or self._ask(inquiry, key_id, record)
        except KeyUnavailable as error:
            known = inquiry.unanswered(self._monotonic()) if error.transient else None
            if known is None:
                raise
            keys_kept.inc()
            return known, self._monotonic() + REFUSAL_LIFE.total_seconds()

    def _ask(
        self, inquiry: Inquiry[TenantKey], key_id: UUID, record: TenantKeyRecord | None
    ) -> tuple[TenantKey, float]:
        record = record or self._store.tenant_key(key_id)
        if record is None:
            raise KeyUnavailable(str(key_id), "no such tenant key", transient=False)
        with self._single_flight(inquiry) as held:
            if held is not None:
                return held
            ends = self._monotonic() + self._life
            raw = self._unwrap(record)
            return inquiry.hold(TenantKey(key_id, raw), ends, self._grace)

    def _create_tenant_key(self, tenant: str) -> TenantKeyRecord:
        raw, key_id = self._random(KEY_SIZE), self._new_id()
        ends = self._monotonic() + self._life
        record = TenantKeyRecord(key_id, tenant, CURRENT, self._wrap(raw, tenant, key_id))
        winner = self._store.add_tenant_key(record)
        if winner.id == key_id:
            self._inquiry(key_id).hold(TenantKey(key_id, raw), ends, self._grace)
        return winner

    def _wrap(self, raw: bytes, tenant: str, key_id: UUID) -> WrappedKey:
        wrapped = self._keks.of(tenant).wrap(raw, _kms_context(tenant, key_id))
        # The right to wrap without the right to unwrap is a common slip in a key policy: notice it before anything
        # depends on this wrapping.
        if not compare_digest(self._unwrap(TenantKeyRecord(key_id, tenant, CURRENT, wrapped)), raw):
            raise CannotOpen
        return wrapped

    def _unwrap(self, record: TenantKeyRecord) -> bytes:
        if not record.wrapped.ciphertext:
            raise KeyUnavailable(str(record.id), "the key was destroyed", transient=False)
        kms = self._keks.holding(record.tenant, record.wrapped.kek_id)
        return kms.unwrap(record.wrapped, _kms_context(record.tenant, record.id))

    def _single_flight(self, inquiry: Inquiry[TenantKey]) -> AbstractContextManager[tuple[TenantKey, float] | None]:
        return inquiry.single_flight(self._monotonic, REFUSAL_LIFE.total_seconds())

    # --------------------------------------------------------------------------------------------- what is held

    def _admit(self, record: DataKeyRecord) -> DataKey:
        _MISSES.inc()
        self._misses += 1
        self._flush_hits()
        cache = self._data_keys  # taken before the KMS is asked: what forget() has emptied is not filled again
        key, ends = self._data_key(record)
        cache.put(record.id.int, key, ends)
        key_cache_size.set(len(cache))
        return key

    def _data_key(self, record: DataKeyRecord) -> tuple[DataKey, float]:
        raw, ends = self._unwrap_data_key(record)
        key = DataKey(record.id, raw)
        raw[:] = bytes(KEY_SIZE)
        return key, ends

    def _unwrap_data_key(self, record: DataKeyRecord) -> tuple[bytearray, float]:
        if not record.wrapped:
            raise KeyUnavailable(str(record.id), "the key was destroyed", transient=False)
        tenant_key, ends = self._tenant_key(record.tenant_key_id)
        return tenant_key.unwrap(record), ends

    def _admit_fingerprint_key(self, tenant: str) -> HMAC:
        cache = self._fingerprint_keys
        record = self._current_record(tenant, "", "", FINGERPRINT)
        tenant_key, ends = self._tenant_key(record.tenant_key_id)
        raw = tenant_key.unwrap(record)
        mac = HMAC(raw, SHA256())
        raw[:] = bytes(KEY_SIZE)
        return cache.put(tenant, mac, ends)

    def _current_record(self, tenant: str, owner: str, provider: str, purpose: str) -> DataKeyRecord:
        record = self._store.current_data_key(tenant, owner, provider, purpose)
        return record or self._store.add_data_key(self.new_data_key(tenant, owner, provider, purpose))

    def _inquiry(self, name: UUID | str) -> Inquiry[TenantKey]:
        """The place of one tenant key (by id), or of making one (by tenant), with the lock for asking the KMS."""
        now = self._monotonic()
        with self._lock:
            inquiry = self._inquiries.get(name)
            if inquiry is None:
                while self._inquiries and self._may_go(next(iter(self._inquiries.values())), now):
                    self._inquiries.popitem(last=False)
                inquiry = self._inquiries[name] = Inquiry(now + self._life)
            self._inquiries.move_to_end(name)
            return inquiry

    def _may_go(self, oldest: Inquiry[TenantKey], now: float) -> bool:
        return len(self._inquiries) >= self._capacity or oldest.idle(now)

    def _flush_hits(self) -> None:
        hits, self._hits = self._hits, 0
        self._hits_told += hits
        _HITS.inc(hits)


def _fingerprint(mac: HMAC, tenant: str, subject: UUID, text: str) -> bytes:
    return _digest(mac, context(tenant, subject, FINGERPRINT), text)[:16]


def _digest(mac: HMAC, bound: bytes, text: str) -> bytes:
    mac = mac.copy()
    mac.update(bound + text.encode())
    return mac.finalize()


def _kms_context(tenant: str, key_id: UUID) -> dict[str, str]:
    return {"app": "evergrant", "tenant": tenant, "purpose": "tenant-key", "key_id": str(key_id)}
