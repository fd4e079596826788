"""A KMS and a key store made of dictionaries, which fail exactly when told to."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.claims import DataKeyRecord
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.keyring import Keyring
from vault.ports import Kms, ReplacedRow, SealedRow, StoredCount, TenantKeyRecord, WrappedKey

K = TypeVar("K", TenantKeyRecord, DataKeyRecord)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def pass_by(self, time: timedelta | float) -> None:
        self.seconds += time.total_seconds() if isinstance(time, timedelta) else time


class FakeKms:
    """Holds KEKs ``kek-1``, ``kek-2``, …; counts its calls and answers as it is told to."""

    def __init__(self) -> None:
        self.in_use = "kek-1"
        self.keks = {f"kek-{n}": bytes([n]) * 32 for n in (1, 2)}
        self.calls: list[tuple[str, str]] = []
        """Operation and tenant of every call, answered or not."""
        self.failures: dict[str, VaultError] = {}
        """What calls for a tenant end with; for all tenants under ``*``."""
        self.during_call: Callable[[str], None] = lambda tenant: None
        self._nonces = itertools.count(1)

    def unavailable(self, tenant: str = "*", *, transient: bool) -> None:
        self.failures[tenant] = KeyUnavailable("kek-1", "throttled" if transient else "denied", transient=transient)

    def recover(self) -> None:
        self.failures.clear()

    def count(self, operation: str) -> int:
        return sum(1 for done, _ in self.calls if done == operation)

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        self._answer("wrap", context)
        nonce = next(self._nonces).to_bytes(12, "big")
        ciphertext = AESGCM(self.keks[self.in_use]).encrypt(nonce, key, self._canonical(context))
        return WrappedKey(self.in_use, "fake", nonce + ciphertext)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        self._answer("unwrap", context)
        nonce, ciphertext = wrapped.ciphertext[:12], wrapped.ciphertext[12:]
        if wrapped.kek_id not in self.keks:
            raise KeyUnavailable(wrapped.kek_id, "destroyed", transient=False)
        if len(wrapped.ciphertext) < 12:
            raise CannotOpen
        try:
            return AESGCM(self.keks[wrapped.kek_id]).decrypt(nonce, ciphertext, self._canonical(context))
        except InvalidTag:
            raise CannotOpen from None

    def describe(self) -> str:
        return self.in_use

    def holds(self, kek_id: str) -> bool:
        return kek_id in self.keks

    def _answer(self, operation: str, context: Mapping[str, str]) -> None:
        tenant = context.get("tenant", "")
        self.calls.append((operation, tenant))
        self.during_call(tenant)
        failure = self.failures.get(tenant) or self.failures.get("*")
        if failure is not None:
            raise failure

    @staticmethod
    def _canonical(context: Mapping[str, str]) -> bytes:
        return json.dumps(dict(context), sort_keys=True).encode()


class FakeKeks:
    """One KMS for everybody, and others that tenants brought, by URI; each tenant's former KMS goes on unwrapping."""

    def __init__(self, kms: Kms) -> None:
        self.default, self.others = kms, dict[str, FakeKms]()
        self.brought: dict[str, str] = {}

    def of(self, tenant: str) -> Kms:
        return self.at(self.brought.get(tenant))

    def at(self, uri: str | None) -> Kms:
        return self.default if uri is None else self.others[uri]

    def holding(self, tenant: str, kek_id: str) -> Kms:
        for kms in (self.of(tenant), self.default):
            if kms.holds(kek_id):
                return kms
        raise KeyUnavailable(kek_id, "held by nobody", transient=False)


class Killed(BaseException):
    """The process ended here, as by SIGKILL: between two calls of the store."""


class FakeKeys:
    """``KeyStore`` and every store of rotation: each call is a transaction, as in the database."""

    def __init__(self, clock: Clock) -> None:
        self.tenant_keys: dict[UUID, TenantKeyRecord] = {}
        self.data_keys: dict[UUID, DataKeyRecord] = {}
        self.made_at: dict[UUID, float] = {}
        self.rows: dict[UUID, SealedRow] = {}
        self.reads: list[str] = []
        self.calls_left: int | None = None
        """So many calls are answered, then the process is killed; None: it lives."""
        self.before_swap: Callable[[], None] = lambda: None
        self.brought: dict[str, str] = {}
        self._clock = clock
        self._lock = threading.RLock()

    # -- KeyStore

    def tenant_key(self, key_id: UUID) -> TenantKeyRecord | None:
        self._call("tenant_key")
        return self.tenant_keys.get(key_id)

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord | None:
        self._call("current_tenant_key")
        with self._lock:
            found = [r for r in self.tenant_keys.values() if r.tenant == tenant and r.state == "current"]
        return found[0] if found else None

    def add_tenant_key(self, record: TenantKeyRecord) -> TenantKeyRecord:
        self._call("add_tenant_key")
        with self._lock:
            winner = self.current_tenant_key(record.tenant)
            if winner is None:
                winner = self.tenant_keys[record.id] = record
                self.made_at[record.id] = self._clock()
            return winner

    def data_key(self, key_id: UUID) -> DataKeyRecord | None:
        self._call("data_key")
        return self.data_keys.get(key_id)

    def current_data_key(self, tenant: str, owner: str, provider: str, purpose: str) -> DataKeyRecord | None:
        self._call("current_data_key")
        wanted = (tenant, owner, provider, purpose, "current")
        with self._lock:
            found = [r for r in self.data_keys.values() if r[1:6] == wanted]
        return found[0] if found else None

    def add_data_key(self, record: DataKeyRecord) -> DataKeyRecord:
        self._call("add_data_key")
        with self._lock:
            winner = self.current_data_key(record.tenant, record.owner, record.provider, record.purpose)
            if winner is None:
                winner = self.data_keys[record.id] = record
                self.made_at[record.id] = self._clock()
            return winner

    # -- RewrapStore

    def own_kek_uris(self) -> list[str]:
        self._call("own_kek_uris")
        return sorted(set(self.brought.values()))

    def tenant_keys_not_under(
        self, kek_id: str, limit: int, *, uri: str | None, after: UUID | None
    ) -> list[TenantKeyRecord]:
        self._call("tenant_keys_not_under")
        return self._page(
            (r for r in self.tenant_keys.values() if r.wrapped.kek_id != kek_id and self.brought.get(r.tenant) == uri),
            limit, after,
        )  # fmt: skip

    def tenant_keys_under(self, kek_id: str) -> int:
        self._call("tenant_keys_under")
        return sum(record.wrapped.kek_id == kek_id for record in self.tenant_keys.values())

    def forget_former_keks(self, uri: str | None, kek_id: str) -> None:
        self._call("forget_former_keks")

    @staticmethod
    def _page(found: Iterable[K], limit: int, after: UUID | None) -> list[K]:
        ordered = sorted(found, key=lambda record: record.id)
        return [record for record in ordered if after is None or record.id > after][:limit]

    def rewrap_tenant_key(self, key_id: UUID, old: WrappedKey, new: WrappedKey) -> bool:
        self._call("rewrap_tenant_key")
        self.before_swap()
        with self._lock:
            if self.tenant_keys[key_id].wrapped != old:
                return False
            self.tenant_keys[key_id] = self.tenant_keys[key_id]._replace(wrapped=new)
            return True

    # -- TenantKeyRotationStore

    def tenant_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        self._call("tenant_keys_older_than")
        before = self._clock() - age.total_seconds()
        with self._lock:
            found = [r for r in self.tenant_keys.values() if r.state == "current" and self.made_at[r.id] <= before]
        return self._page(found, limit, after)

    def replace_tenant_key(self, old: TenantKeyRecord, new: TenantKeyRecord) -> bool:
        self._call("replace_tenant_key")
        self.before_swap()
        with self._lock:
            if self.tenant_keys[old.id].state != "current":
                return False
            self.tenant_keys[old.id] = self.tenant_keys[old.id]._replace(state="previous")
            self.tenant_keys[new.id] = new
            self.made_at[new.id] = self._clock()
            return True

    def replaced_tenant_keys(self, limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        self._call("replaced_tenant_keys")
        return self._page(self._wrapping_replaced(), limit, after)

    def data_keys_under_replaced(self) -> int:
        self._call("data_keys_under_replaced")
        replaced = {key.id for key in self._wrapping_replaced()}
        return sum(record.tenant_key_id in replaced for record in self.data_keys.values())

    def _wrapping_replaced(self) -> list[TenantKeyRecord]:
        used = {record.tenant_key_id for record in self.data_keys.values()}
        return [r for r in self.tenant_keys.values() if r.state in ("previous", "retired") and r.id in used]

    def data_keys_under(self, tenant_key_id: UUID, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        self._call("data_keys_under")
        return self._page((r for r in self.data_keys.values() if r.tenant_key_id == tenant_key_id), limit, after)

    def rewrap_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> int:
        self._call("rewrap_data_keys")
        self.before_swap()
        with self._lock:
            fitting = [(old, new) for old, new in keys if self.data_keys[old.id].wrapped == old.wrapped]
            for old, new in fitting:
                known = self.data_keys[old.id]
                self.data_keys[old.id] = known._replace(tenant_key_id=new.tenant_key_id, wrapped=new.wrapped)
            return len(fitting)

    def retire_unused_tenant_keys(self) -> int:
        self._call("retire_unused_tenant_keys")
        with self._lock:
            used = {r.tenant_key_id for r in self.data_keys.values()}
            unused = [r for r in self.tenant_keys.values() if r.state == "previous" and r.id not in used]
            self.tenant_keys.update({r.id: r._replace(state="retired") for r in unused})
            return len(unused)

    # -- DataKeyRotationStore

    def data_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        self._call("data_keys_older_than")
        before = self._clock() - age.total_seconds()
        with self._lock:
            found = [
                r for r in self.data_keys.values()
                if r.state == "current" and r.purpose == "grant" and self.made_at[r.id] <= before
            ]  # fmt: skip
            found.sort(key=lambda r: (self.made_at[r.id], r.id))
            last = None if after is None else (self.made_at[after], after)
            return [r for r in found if last is None or (self.made_at[r.id], r.id) > last][:limit]

    def replace_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> set[UUID]:
        self._call("replace_data_keys")
        self.before_swap()
        with self._lock:
            replaced = {old.id for old, _ in keys if self.data_keys[old.id].state == "current"}
            for old, new in keys:
                if old.id in replaced:
                    self.data_keys[old.id] = self.data_keys[old.id]._replace(state="previous")
                    self.data_keys[new.id] = new
                    self.made_at[new.id] = self._clock()
            return replaced

    def rows_under_replaced_keys(self, limit: int, after: SealedRow | None) -> list[ReplacedRow]:
        self._call("rows_under_replaced_keys")
        with self._lock:
            found = [row for row in self.rows.values() if self.data_keys[row.data_key_id].state == "previous"]
            found.sort(key=lambda row: (row.data_key_id, row.subject))
            last = None if after is None else (after.data_key_id, after.subject)
            left = [row for row in found if last is None or (row.data_key_id, row.subject) > last][:limit]
            return [ReplacedRow(row, self.data_keys[row.data_key_id], self._current(row)) for row in left]

    def _current(self, row: SealedRow) -> DataKeyRecord | None:
        wanted = (row.tenant, row.owner, row.provider, "grant", "current")
        return next((r for r in self.data_keys.values() if r[1:6] == wanted), None)

    def reseal(self, rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        self._call("reseal")
        self.before_swap()
        with self._lock:
            fitting = [(old, new) for old, new in rows if self.rows[old.subject] == old]
            self.rows.update({new.subject: new for _, new in fitting})
            return len(fitting)

    def counts(self) -> list[StoredCount]:
        self._call("counts")
        with self._lock:
            found: Counter[tuple[str, bytes | str, str]] = Counter()
            found.update(("tenant_key", k.wrapped.algorithm, k.wrapped.kek_id) for k in self.tenant_keys.values())
            found.update(("data_key", k.wrapped[:4], k.state) for k in self.data_keys.values())
            found.update(
                (f"{row.table}.{field}", envelope[:4], "")
                for row in self.rows.values() for field, envelope in row.envelopes if envelope is not None
            )  # fmt: skip
        return [StoredCount(what, method, under, number) for (what, method, under), number in found.items()]

    def retire_unused_data_keys(self) -> int:
        self._call("retire_unused_data_keys")
        with self._lock:
            used = {g.data_key_id for g in self.rows.values()}
            unused = [r for r in self.data_keys.values() if r.state == "previous" and r.id not in used]
            self.data_keys.update({r.id: r._replace(state="retired") for r in unused})
            return len(unused)

    def _call(self, name: str) -> None:
        self.reads.append(name)
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise Killed
            self.calls_left -= 1


def counting_ids(start: int = 1) -> Callable[[], UUID]:
    """Ids 1, 2, 3, …, so that a failure is readable."""
    numbers = itertools.count(start)
    return lambda: UUID(int=next(numbers))


class Rig:
    """A keyring over fakes, with a clock in the hand of the test."""

    def __init__(
        self,
        *,
        life: timedelta = timedelta(minutes=5),
        grace: timedelta = timedelta(0),
        capacity: int = 10_000,
        uses: int = 10**9,
    ) -> None:
        self.clock, self.kms = Clock(), FakeKms()
        self.keks, self.keys = FakeKeks(self.kms), FakeKeys(self.clock)
        self.keks.brought = self.keys.brought
        self._life, self._grace, self._capacity, self._uses = life, grace, capacity, uses
        self._random, self._new_id = itertools.count(1), counting_ids()
        self.keyring = self.another_process()

    def another_process(self) -> Keyring:
        """A keyring with nothing in it, over the same KMS and the same store."""
        return Keyring(
            self.keks,
            self.keys,
            monotonic=self.clock,
            random=self._bytes,
            new_id=self._new_id,
            life=self._life,
            grace=self._grace,
            capacity=self._capacity,
            uses=self._uses,
        )

    def _bytes(self, size: int) -> bytes:
        return next(self._random).to_bytes(size, "big")
