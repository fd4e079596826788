"""Moving grants out of another system, batch by batch, so that a run may die anywhere and be started again.

A row becomes a connection together with the record that says so, in one transaction; a later run finds that record and
does not move the row again, whatever has become of the connection. A source's row is only emptied after what stands
here was read back, through keys unwrapped anew, and found to be what the source holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, ParamSpec, TypeVar
from uuid import UUID

import structlog

from vault.claims import DataKeyRecord
from vault.engine import moving
from vault.engine.moving import Opened, Prover, Reader
from vault.engine.sealing import Sealer
from vault.errors import CannotOpen, KeyUnavailable, MigrationBusy
from vault.keyring import Keyring
from vault.migration.summary import MigrationSummary, Tally, added
from vault.migration.values import Unreadable
from vault.model import Status
from vault.policy import RefreshPolicy
from vault.ports import Adopted, Adoption, MigrationRuns, MigrationStore, Moved, Source, SourceRow, StoredGrant

log = structlog.get_logger(__name__)

BATCH: Final = 10
AHEAD: Final = 10
"""Batches that are read, looked up and given their keys together: only what is committed together is a batch."""
MOST_AHEAD: Final = 500
Report = Callable[[MigrationSummary], object]
P = ParamSpec("P")
R = TypeVar("R")


class Order(NamedTuple):
    """How rows are to be moved."""

    batch: int = BATCH
    dry_run: bool = False
    clear: bool = False
    limit: int | None = None
    """Rows at most, beyond those moved before."""
    ahead: int = AHEAD

    @property
    def rows(self) -> int:
        """How many are read at once."""
        return max(self.batch, min(self.batch * self.ahead, MOST_AHEAD))


class _Pair(NamedTuple):
    """A row of the source that has become a connection."""

    row: SourceRow
    moved: Moved
    opened: Opened | None
    """What it says, if it was moved just now."""


class Migrating:
    """Moves the rows of one source. For one thread at a time; runs of the same source hold each other off."""

    def __init__(
        self,
        source: Source,
        reader: Reader,
        store: MigrationStore,
        runs: MigrationRuns,
        keyring: Keyring,
        sealer: Sealer,
        prover: Prover,
        refresh_policy: RefreshPolicy,
        *,
        new_id: Callable[[], UUID],
        monotonic: Callable[[], float],
    ) -> None:
        self._source, self._reader = source, reader
        self._store, self._runs = store, runs
        self._keyring, self._sealer, self._prover = keyring, sealer, prover
        self._policy, self._new_id, self._monotonic = refresh_policy, new_id, monotonic
        self._tally = Tally()

    def run(self, order: Order, progress: Report) -> MigrationSummary:
        """Move everything, from the beginning; see ``Maintenance.migrate``."""
        with self._runs.alone(self._source.name) as alone:
            if not alone:
                raise MigrationBusy(self._source.name)
            self._source.check()
            count = self._source.count()
            self._tally = Tally(count if order.limit is None else min(count, order.limit))
            self._go(order, None, None, lambda _, summary: progress(summary))
        summary = self._tally.summary
        log.info("migration.ended", source=self._source.name, dry_run=order.dry_run, **summary.counts())
        return summary._replace(total=summary.done)

    def slice(self, name: str, order: Order, budget: timedelta) -> bool:
        """Go on with what workers were asked for, for a while; see ``Maintenance.migrate_slice``."""
        with self._runs.alone(self._source.name) as alone:
            place = self._runs.place(name) if alone else None
            if place is None:
                return False
            self._source.check()
            cursor, counts = place
            self._tally = Tally()
            more = self._go(
                order, cursor, budget, lambda at, summary: self._runs.save(name, at, added(counts, summary.counts()))
            )
            if not more:
                self._runs.end(name)
        counts = added(counts, self._tally.summary.counts())
        log.info("migration.goes_on" if more else "migration.ended", source=self._source.name, **counts)
        return more

    def _go(
        self, order: Order, after: str | None, budget: timedelta | None, note: Callable[[str, MigrationSummary], object]
    ) -> bool:
        """Do some batches after others; returns whether the budget put an end to it."""
        began = self._monotonic()
        summary = self._tally.summary
        while budget is None or summary.seconds < budget.total_seconds():
            wanted = order.rows
            if order.limit is not None:
                wanted = min(wanted, order.limit - (summary.done - summary.already))
            rows = self._source.batch(after, wanted) if wanted > 0 else ()
            if not rows:
                return False
            self._move(order, rows)
            after = rows[-1].cursor
            summary = self._tally.close(self._monotonic() - began)
            note(after, summary)
        return True

    def _move(self, order: Order, rows: Sequence[SourceRow]) -> None:
        known, now = self._store.known(self._source.name, [row.key for row in rows])
        fresh: list[tuple[SourceRow, Opened]] = []
        pairs: list[_Pair] = []
        for row in rows:
            moved = known.get(row.key) if row.problem is None else None
            if moved is not None:
                if self._attempt(row, self._is_still, row, moved):
                    self._end(row, "already")
                    pairs.append(_Pair(row, moved, None))
            elif (opened := self._attempt(row, self._reader.read, row)) is not None:
                self._end(row, "ok")
                fresh.append((row, opened))
        if order.dry_run:
            self._tally.add(credentials=sum(opened.values for _, opened in fresh))
            return
        pairs += self._adopt(fresh, now, order.batch)
        if order.clear:
            self._clear([pair for pair in pairs if pair.row.tokens])

    def _end(self, row: SourceRow, how: str) -> None:
        self._tally.end(row.cursor, row.key, how)

    def _attempt(self, row: SourceRow, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Do one row's work; None: the row ended by this, and why is noted. Raises what ends the run."""
        try:
            return work(*args, **kwargs)
        except Unreadable as error:
            self._end(row, error.reason)
        except CannotOpen:
            self._end(row, "cannot_open")
        except KeyUnavailable as error:
            if error.transient:
                raise
            self._end(row, "key_refused")
        return None

    def _is_still(self, row: SourceRow, moved: Moved) -> bool:
        """Whether a row moved before is what it was then. Raises ``Unreadable`` if its token is another by now."""
        if not row.tokens or moving.unchanged(moved, row, self._keyring):
            return True
        if moving.same_token(moved, self._reader.read(row), self._keyring):
            return True
        raise Unreadable("source_changed")

    # ---------------------------------------------------------------------------------------------------- moving in

    def _adopt(self, fresh: Sequence[tuple[SourceRow, Opened]], now: datetime, batch: int) -> list[_Pair]:
        self._make_keys(fresh)
        sealed: dict[str, tuple[SourceRow, Opened, Adoption]] = {}
        for row, opened in fresh:
            if (adoption := self._attempt(row, self._sealed, opened, now)) is not None:
                sealed[row.key] = (row, opened, adoption)
        adoptions = [adoption for _, _, adoption in sealed.values()]
        ends: dict[str, Adopted] = {}
        for first in range(0, len(adoptions), batch):
            ends.update(self._store.adopt(self._source.name, adoptions[first : first + batch]))
        pairs = []
        for key, (row, opened, adoption) in sealed.items():
            if ends[key] is Adopted.DONE:
                self._tally.add(credentials=opened.values)
                pairs.append(_Pair(row, moving.record(adoption), opened))
            else:
                self._end(row, "already" if ends[key] is Adopted.BEFORE else "refused_by_database")
        return pairs

    def _sealed(self, opened: Opened, now: datetime) -> Adoption:
        grant = moving.new_grant(
            opened, self._new_id(), now, self._policy, renewable=moving.renewed_with(opened) is not None
        )
        return moving.adoption(opened, grant, self._sealer, self._keyring)

    def _make_keys(self, fresh: Sequence[tuple[SourceRow, Opened]]) -> None:
        """Have the data keys of all these owners at hand, for two round trips instead of two for each of them.

        What goes wrong here with one of them goes wrong again when it is sealed, and is noted there.
        """
        owners = {(opened.tenant, opened.owner, opened.provider.name): row for row, opened in fresh}
        if not owners:
            return
        records = {_owner(record): record for record in self._store.data_keys(list(owners))}
        missing = [(row, owner) for owner, row in owners.items() if owner not in records]
        made = [self._attempt(row, self._keyring.new_data_key, *owner) for row, owner in missing]
        if new := [record for record in made if record is not None]:
            records.update({_owner(record): record for record in self._store.add_data_keys(new)})
        for owner, record in records.items():
            self._attempt(owners[owner], self._keyring.make_current, record)

    # ----------------------------------------------------------------------------------------------------- clearing

    def _clear(self, pairs: Sequence[_Pair]) -> None:
        """Empty the source's rows whose tokens are proven to stand here."""
        if not pairs:
            return
        stored = self._store.stored([pair.moved.connection_id for pair in pairs])
        proven = {
            pair.row.key: pair
            for pair in pairs
            if self._attempt(pair.row, self._proven, pair, stored.get(pair.moved.connection_id))
        }
        if not proven:
            return
        cleared = self._source.clear([pair.row for pair in proven.values()])
        for key in proven.keys() - cleared:
            self._end(proven[key].row, "source_changed")
        if cleared:
            self._store.cleared(self._source.name, [(key, proven[key].moved) for key in sorted(cleared)])
            self._tally.add(cleared=len(cleared))

    def _proven(self, pair: _Pair, stored: StoredGrant | None) -> bool:
        """Whether a token of the source's may go. Raises the reason why not."""
        if stored is None:
            raise Unreadable("not_stored")
        if stored.status == Status.DISCONNECTED:  # its owner took it back: the source's copy is one too many
            return True
        connection_id = pair.moved.connection_id
        if pair.opened is not None:
            proven = self._prover.holds(connection_id, stored, pair.opened)
        elif stored.version == moving.FIRST_VERSION:
            proven = self._prover.holds_lasting(connection_id, stored, self._reader.read(pair.row))
        else:  # refreshed since: what the source holds was spent for what stands here
            proven = self._prover.opens(connection_id, stored)
        if proven:
            return True
        log.error("migration.not_proven", connection_id=str(connection_id))
        raise Unreadable("not_proven")


def _owner(record: DataKeyRecord) -> tuple[str, str, str]:
    return record.tenant, record.owner, record.provider
