"""Rotating keys while everything stays open: tenant keys under a new KEK, and values under new data keys.

Every step is one short transaction that swaps what it read and nothing else, and each leaves all values openable: a new
key is proven before it is stored, an old one goes on opening until nothing refers to it. So a run may die anywhere, run
twice at a time, or be started again; it takes up whatever the database says is left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import timedelta
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

import structlog

from vault.claims import DataKeyRecord
from vault.envelope import DataKey, context, method, open_envelope, seal
from vault.errors import CannotOpen, KeyUnavailable
from vault.keyring import Keyring
from vault.ports import RotationStore, SealedRow, TenantKeyRecord

log = structlog.get_logger(__name__)

BATCH: Final = 200
"""Rows a transaction."""
OUTAGE: Final = 3
"""So many tenants in a row whose KEK does not answer are an outage: the run ends, to be tried again later."""
KEYS_ASIDE: Final = 10_000
ROWS_ASIDE: Final = 1_000
"""So many rows that cannot be done end a run: they are read again with every batch, and somebody must look at them."""
PROOF_LIMIT: Final = 1_000

R = TypeVar("R")


class Progress(NamedTuple):
    """How far one run has come."""

    keys: int = 0
    """Tenant keys rewrapped, or data keys replaced."""
    rows: int = 0
    """Rows re-sealed under a new data key: grants, and metadata of connections."""
    cannot_open: int = 0
    """Keys and rows that are damaged or not what their row says: an integrity alarm. They were left as they are."""
    refused: int = 0
    """Keys and rows whose KEK could not be had. They were left as they are, for a later run."""


class KeyCount(NamedTuple):
    """How many secrets are kept in one way."""

    what: str
    """``tenant_key``, ``data_key``, or a field: ``oauth_grant.access_token``."""
    method: str
    version: str
    """Of the format; empty where a KMS wraps."""
    under: str
    """The KEK of a tenant key, the state of a data key."""
    number: int


Report = Callable[[Progress], object]


def _to_nobody(_: Progress) -> None: ...


class KeyRotation:
    """Rotates keys in bounded batches. Any number of these may run at a time, in any number of processes."""

    def __init__(self, keyring: Keyring, store: RotationStore, *, monotonic: Callable[[], float]) -> None:
        self._keyring, self._store, self._monotonic = keyring, store, monotonic

    def rewrap(self, progress: Report = _to_nobody) -> int:
        """Wrap every tenant key under the KEK in use: so many KMS calls as there are tenants, whatever they own.

        Tenants whose KEK refuses, and keys that are damaged, are left as they are, counted and logged.

        Args:
            progress: Told after each batch.

        Returns:
            How many were rewrapped; ``remaining()`` proves whether any is left.

        Raises:
            KeyUnavailable: The KMS did not answer, for some keys or for all: run again later.
            StoreUnavailable: The database cannot be reached.
        """
        kek_id = self._keyring.kek_id()
        run = _Run(progress)
        rows = _Rows(partial(self._store.tenant_keys_not_under, kek_id), lambda key: key.id, KEYS_ASIDE)
        while keys := rows.batch():
            for key in keys:
                if run.attempt(key.tenant, partial(self._rewrap, key, kek_id)):
                    run.add(keys=1)
                else:
                    rows.set_aside(key)
            run.report()
        run.end("tenant_keys_rewrapped", rows.exhausted)
        return run.done.keys

    def remaining(self) -> int:
        """Count tenant keys under any other KEK, up to 1,000. At 0 the KEKs used before are not needed any more.

        Raises ``KeyUnavailable`` when the KMS does not name the KEK in use.
        """
        return len(self._store.tenant_keys_not_under(self._keyring.kek_id(), PROOF_LIMIT))

    def counts(self) -> list[KeyCount]:
        """Count what is at rest by method, version and KEK; reads every row. Raises ``StoreUnavailable``."""
        return [
            KeyCount(what, *(method(kind) if isinstance(kind, bytes) else (kind, "")), under, number)
            for what, kind, under, number in self._store.counts()
        ]

    def rotate_data_keys(
        self, older_than: timedelta, progress: Report = _to_nobody, *, limit: int | None = None
    ) -> int:
        """Replace data keys past an age, and re-seal what stands under replaced ones, also what an earlier run left.

        Rows keep their version: re-sealing changes nothing that a refresh compares. A row that cannot be opened
        stays as it is; it is counted and logged, and the run goes on.

        Args:
            older_than: Data keys of this age at least are replaced; zero: all there are.
            progress: Told after each batch.
            limit: Replace so many keys at most; None: no end.

        Returns:
            How many data keys were replaced.

        Raises:
            KeyUnavailable: The KMS did not answer, for some tenants or for all: run again later.
            StoreUnavailable: The database cannot be reached.
        """
        run = _Run(progress)
        aged = partial(self._aged, older_than, self._monotonic())
        keys = _Rows(lambda n: self._store.data_keys_older_than(aged(), n), lambda key: key.id, KEYS_ASIDE)
        rows = _Rows(self._store.rows_under_replaced_keys, _generation, ROWS_ASIDE)
        while batch := keys.batch(None if limit is None else limit - run.done.keys):
            for key in batch:
                if run.attempt(key.tenant, partial(self._replace, key)):
                    run.add(keys=1)
                else:
                    keys.set_aside(key)
            run.report()
            self._reseal(rows, run)  # while the keys of this batch, old and new, are at hand
        self._reseal(rows, run)
        self._store.retire_unused_data_keys()
        run.end("data_keys_rotated", keys.exhausted or rows.exhausted)
        return run.done.keys

    def _aged(self, older_than: timedelta, started: float) -> timedelta:
        """The age counted from the start of the run, so that no key made by this very run ever reaches it."""
        return older_than + timedelta(seconds=self._monotonic() - started)

    def _rewrap(self, key: TenantKeyRecord, kek_id: str) -> bool:
        wrapped = self._keyring.rewrap(key)
        return self._store.rewrap_tenant_key(key.id, key.wrapped, wrapped) and wrapped.kek_id == kek_id

    def _replace(self, old: DataKeyRecord) -> bool:
        self._keyring.key(old)  # what cannot be opened must not be succeeded quietly
        new = self._keyring.new_data_key(old.tenant, old.owner, old.provider)
        self._keyring.key(new)  # proves that the new one opens before anything depends on it
        if not self._store.replace_data_key(old, new):
            return False
        self._keyring.make_current(new)
        return True

    def _reseal(self, rows: _Rows[SealedRow], run: _Run) -> None:
        while batch := rows.batch():
            pairs = []
            for row in batch:
                resealed = run.attempt(row.tenant, partial(self._resealed, row))
                if resealed is None:
                    rows.set_aside(row)
                else:
                    pairs.append((row, resealed))
            swapped = self._store.reseal(pairs) if pairs else 0
            if swapped < len(
                pairs
            ):  # a refresh was quicker; what it wrote is another generation and comes back as such
                for row, _ in pairs:
                    rows.set_aside(row)
            run.add(rows=swapped)
            run.report()

    def _resealed(self, row: SealedRow) -> SealedRow:
        old, new = self._keyring.opening_key(row.data_key_id), self._sealing_key(row)
        resealed = tuple((field, _under(new, old, row, field, envelope)) for field, envelope in row.envelopes)
        return row._replace(data_key_id=new.id, envelopes=resealed)

    def _sealing_key(self, row: SealedRow) -> DataKey:
        key = self._keyring.sealing_key(row.tenant, row.owner, row.provider)
        if key.id == row.data_key_id:  # replaced by another process, and our cache does not know yet
            key = self._keyring.current_key(row.tenant, row.owner, row.provider)
        return key


class _Rows(Generic[R]):
    """Rows that are left to do, in batches, without those this run has already failed to do."""

    def __init__(self, read: Callable[[int], list[R]], identity: Callable[[R], Hashable], aside: int) -> None:
        self._read, self._identity, self._aside_limit = read, identity, aside
        self._aside: set[Hashable] = set()

    def batch(self, limit: int | None = None) -> list[R]:
        """Read the next rows; none: there are none, or too many had to be set aside."""
        wanted = BATCH if limit is None else min(BATCH, limit)
        if wanted <= 0 or self.exhausted:
            return []
        rows = self._read(wanted + len(self._aside))
        return [row for row in rows if self._identity(row) not in self._aside][:wanted]

    def set_aside(self, row: R) -> None:
        """Do not try this row again in this run."""
        self._aside.add(self._identity(row))

    @property
    def exhausted(self) -> bool:
        """Whether the run gave up on these rows before it had seen them all."""
        return len(self._aside) >= self._aside_limit


class _Run:
    """The tally of one run: what was done, what could not be, and whether to go on."""

    def __init__(self, progress: Report) -> None:
        self.done = Progress()
        self._progress = progress
        self._unanswered: KeyUnavailable | None = None
        self._silent_tenants: set[str] = set()

    def attempt(self, tenant: str, work: Callable[[], R]) -> R | None:
        """Do one row's work; None: it cannot be done now. Raises ``KeyUnavailable`` in an outage of the KMS."""
        try:
            result = work()
        except CannotOpen:
            self.add(cannot_open=1)
            return None
        except KeyUnavailable as error:
            self.add(refused=1)
            if error.transient:
                self._unanswered = error
                self._silent_tenants.add(tenant)
            if len(self._silent_tenants) >= OUTAGE:
                raise
            return None
        self._silent_tenants.clear()
        return result

    def add(self, *, keys: int = 0, rows: int = 0, cannot_open: int = 0, refused: int = 0) -> None:
        """Count."""
        more = (keys, rows, cannot_open, refused)
        self.done = Progress(*(had + got for had, got in zip(self.done, more, strict=True)))

    def report(self) -> None:
        """Tell whoever watches."""
        self._progress(self.done)

    def end(self, event: str, exhausted: bool) -> None:
        """Log how it ended, and raise if trying again will help."""
        undone = self.done.cannot_open or self.done.refused or exhausted
        (log.error if undone else log.info)(event, **self.done._asdict(), gave_up=exhausted)
        if self._unanswered is not None:
            raise self._unanswered


def _generation(row: SealedRow) -> Hashable:
    return row.table, row.subject, row.version, row.data_key_id


def _under(new: DataKey, old: DataKey, row: SealedRow, field: str, envelope: bytes | None) -> bytes | None:
    if envelope is None:
        return None
    bound_to = context(row.tenant, row.subject, field)
    return seal(new, open_envelope(old, envelope, bound_to, row.version), bound_to, row.version)
