"""New data keys: what is sealed from now on stands under them, and what was sealed before is sealed anew.

Every step is one short transaction that swaps what it read and nothing else, and each leaves all values openable: a new
key is proven before it is stored, an old one goes on opening until nothing refers to it. So a run may die anywhere, run
twice at a time, or be started again; it takes up whatever the database says is left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sized
from datetime import timedelta
from functools import partial
from random import random
from typing import Final, NamedTuple
from uuid import UUID

from vault.claims import DataKeyRecord
from vault.engine.sweep import Pace, Report, Run, flat_out, pages, to_nobody
from vault.envelope import DataKey, context, method, open_envelope, seal
from vault.keyring import Keyring
from vault.ports import DataKeyRotationStore, ReplacedRow, SealedRow, TenantKeyRecord

PASSES: Final = 3
"""How often the rows are gone through when refreshes were quicker: what they wrote may stand under an old key too."""
PROOF_LIMIT: Final = 1_000
FARTHEST_LEAP: Final = 16
"""Batches. Two runs meet at the oldest keys: whoever is late there goes on as many batches farther, by dice.

Only on the first pass: what a run has leapt over and the other one did not do, as it died, is done on the next."""


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


class DataKeyRotation:
    """The use case behind ``vault.rotate_data_keys``. Any number may run at a time, in any number of processes."""

    def __init__(
        self,
        keyring: Keyring,
        store: DataKeyRotationStore,
        *,
        monotonic: Callable[[], float],
        pace: Pace = flat_out,
        dice: Callable[[], float] = random,
    ) -> None:
        self._keyring, self._store = keyring, store
        self._monotonic, self._pace, self._dice = monotonic, pace, dice

    def run(self, older_than: timedelta, progress: Report = to_nobody, *, limit: int | None = None) -> int:
        """Replace data keys past an age, and re-seal what stands under replaced ones, also what an earlier run left.

        Rows keep their version: re-sealing changes nothing that a refresh compares. A row that cannot be opened
        stays as it is; it is counted and logged, and the run goes on.

        Args:
            older_than: Data keys of this age at least are replaced; zero: all there are.
            progress: Told after each batch.
            limit: Replace so many keys at most; None: no end.

        Returns:
            How many data keys were replaced; ``remaining()`` proves whether anything stands under an old one.

        Raises:
            KeyUnavailable: The KMS did not answer, for some tenants or for all: run again later.
            StoreUnavailable: The database cannot be reached.
        """
        run = Run(progress)
        self._replace_aged(run, older_than, limit)
        for number in range(PASSES):
            if not self._reseal_all(run, leap=number == 0):
                break
        self._store.retire_unused_data_keys()
        run.end("data_keys_rotated")
        return run.done.keys

    def remaining(self) -> int:
        """Count rows under replaced data keys, up to 1,000; at 0 no key but the current ones is needed for any."""
        return len(self._store.rows_under_replaced_keys(PROOF_LIMIT, None))

    def counts(self) -> list[KeyCount]:
        """Count what is at rest by method, version and KEK; reads every row. Raises ``StoreUnavailable``."""
        return [
            KeyCount(what, *(method(kind) if isinstance(kind, bytes) else (kind, "")), under, number)
            for what, kind, under, number in self._store.counts()
        ]

    def _replace_aged(self, run: Run, older_than: timedelta, limit: int | None) -> None:
        started = self._monotonic()

        def aged(rows: int, after: UUID | None) -> list[DataKeyRecord]:
            age = older_than + timedelta(seconds=self._monotonic() - started)  # no key of this run ever reaches it
            wanted = rows if limit is None else min(rows, limit - run.done.keys)
            return self._store.data_keys_older_than(age, wanted, after) if wanted > 0 else []

        for number in range(PASSES):
            if not self._replace_all(run, aged, leap=number == 0):
                break

    def _replace_all(self, run: Run, aged: Callable[[int, UUID | None], list[DataKeyRecord]], *, leap: bool) -> int:
        """Go once through keys past their age; returns how many another run was quicker with."""
        lost, ahead = 0, 0

        def not_where_another_is(rows: int, after: UUID | None) -> list[DataKeyRecord]:
            return aged(rows * (1 + ahead), after)[-rows:]

        for batch in pages(not_where_another_is, lambda key: key.id):
            above: dict[str, TenantKeyRecord] = {}
            pairs = []
            for key in batch:
                new = run.attempt(key.tenant, key.id, partial(self._successor, key, above))
                pairs += [(key, new)] if new is not None else []
            replaced = self._store.replace_data_keys(pairs) if pairs else set()
            for old, new in pairs:
                if old.id in replaced:
                    self._keyring.succeed(old, new)
            lost += len(pairs) - len(replaced)
            ahead = 1 + int(self._dice() * FARTHEST_LEAP) if leap and _crowded(pairs, len(replaced)) else 0
            run.add(keys=len(replaced))
            run.report()
            self._pace(len(batch))
        return lost

    def _successor(self, old: DataKeyRecord, above: dict[str, TenantKeyRecord]) -> DataKeyRecord:
        """Make the key that takes the place of another; ``above`` remembers the tenant keys of this batch."""
        self._keyring.check_data_key(old)  # what cannot be opened must not be succeeded quietly
        if old.tenant not in above:
            above[old.tenant] = self._keyring.current_tenant_key(old.tenant)
        new = self._keyring.new_data_key(old.tenant, old.owner, old.provider, under=above[old.tenant])
        self._keyring.check_data_key(new)  # proves that the new one opens before anything depends on it
        return new

    def _reseal_all(self, run: Run, *, leap: bool) -> int:
        """Go once through the rows under replaced keys; returns how many a refresh or another run was quicker with."""
        lost, crowded = 0, False

        def cursor(found: ReplacedRow) -> SealedRow:
            return _far_after(found.row, self._dice()) if crowded else found.row

        for batch in pages(self._store.rows_under_replaced_keys, cursor):
            pairs, keys = [], dict[UUID, DataKey]()
            for found in batch:
                resealed = run.attempt(found.row.tenant, _generation(found.row), partial(self._resealed, found, keys))
                pairs += [(found.row, resealed)] if resealed is not None else []
            swapped = self._store.reseal(pairs) if pairs else 0
            lost += len(pairs) - swapped
            crowded = leap and _crowded(pairs, swapped)
            run.add(rows=swapped)
            run.report()
            self._pace(len(batch))
        return lost

    def _resealed(self, found: ReplacedRow, keys: dict[UUID, DataKey]) -> SealedRow:
        """Seal a row's values anew; ``keys`` remembers those of this batch, where rows of one key stand together."""
        row, old = found.row, self._key(found.key, keys)
        if found.current is not None:
            new = self._key(found.current, keys)
            self._keyring.succeed(found.key, found.current)
        else:
            new = self._keyring.current_key(row.tenant, row.owner, row.provider)
        resealed = tuple((field, _under(new, old, row, field, envelope)) for field, envelope in row.envelopes)
        return row._replace(data_key_id=new.id, envelopes=resealed)

    def _key(self, record: DataKeyRecord, keys: dict[UUID, DataKey]) -> DataKey:
        key = keys.get(record.id)
        if key is None:
            key = keys[record.id] = self._keyring.key_for_once(record)
        return key


def _crowded(tried: Sized, done: int) -> bool:
    """Whether another run must be at the same rows: refreshes are never quicker with so many of one batch."""
    return done * 2 < len(tried)


def _far_after(row: SealedRow, share: float) -> SealedRow:
    """A place between this row and the end of its table, by key: ids are random, so any is as good as the others."""
    left = (1 << 128) - 1 - row.data_key_id.int
    return row._replace(data_key_id=UUID(int=row.data_key_id.int + int(left * share)))


def _generation(row: SealedRow) -> Hashable:
    return row.table, row.subject, row.version, row.data_key_id


def _under(new: DataKey, old: DataKey, row: SealedRow, field: str, envelope: bytes | None) -> bytes | None:
    if envelope is None:
        return None
    bound_to = context(row.tenant, row.subject, field)
    return seal(new, open_envelope(old, envelope, bound_to, row.version), bound_to, row.version)
