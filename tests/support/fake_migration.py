"""Another system's rows and the target's, made of dictionaries; each call is a transaction, and may be the last one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.support.fake_keys import FakeKeys, Killed, Rig
from vault.claims import DataKeyRecord
from vault.engine.moving import OpenValue, Prover, Reader
from vault.engine.sealing import Sealer
from vault.errors import UnknownProvider
from vault.migration.columns import ColumnMap
from vault.policy import RefreshPolicy
from vault.ports import Adopted, Adoption, Moved, SourceRow, StoredGrant
from vault.provider import Client, Provider
from vault.services.migration import Migrating
from vault.sources.rows import source_row

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIELDS = (
    "tenant", "owner", "provider", "refresh_token", "access_token", "expires_at", "scopes", "connected_at", "labels"
)  # fmt: skip
COLUMNS = ColumnMap({name: name for name in FIELDS}, {})
ACME = Provider(
    "acme", "https://a/authorize", "https://a/token", client=Client("evergrant", None), grant_life=timedelta(days=90)
)


class Registry:
    """Two providers, one of which we have no client at."""

    def __init__(self) -> None:
        self._known = {"acme": ACME, "bare": Provider("bare", "https://b/authorize", "https://b/token")}

    def get(self, name: str) -> Provider:
        if name not in self._known:
            raise UnknownProvider(name, tuple(self._known))
        return self._known[name]

    def all(self) -> Sequence[Provider]:
        return (ACME,)

    def look(self, *, at_once: bool = False) -> None: ...

    def refused(self, provider: Provider) -> bool:
        return False


class Life:
    """How many calls are answered before the process is killed; None: it lives."""

    def __init__(self) -> None:
        self.left: int | None = None

    def call(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1


class FakeSource:
    """Rows by key, each a dictionary by column."""

    name = "old"

    def __init__(self, life: Life, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.rows = {key: dict(row) for key, row in rows.items()}
        self.before_clear: Callable[[], None] = lambda: None
        self._life = life

    def check(self) -> None: ...

    def close(self) -> None: ...

    def count(self) -> int:
        return len(self.rows)

    def batch(self, after: str | None, limit: int) -> Sequence[SourceRow]:
        self._life.call()
        keys = sorted(key for key in self.rows if after is None or key > after)[:limit]
        return [
            source_row(COLUMNS, key, key, {"tenant": "default", **self.rows[key]}, self._tokens(key)) for key in keys
        ]

    def clear(self, rows: Sequence[SourceRow]) -> frozenset[str]:
        self._life.call()
        self.before_clear()
        same = frozenset(row.key for row in rows if self._tokens(row.key) == row.read)
        for key in same:
            self.rows[key].update(refresh_token=None, access_token=None)
        self._life.call()
        return same

    def _tokens(self, key: str) -> tuple[object, object]:
        return self.rows[key].get("refresh_token"), self.rows[key].get("access_token")


class FakeTarget:
    """``MigrationStore`` and ``MigrationRuns``."""

    def __init__(self, life: Life, keys: FakeKeys) -> None:
        self.moved: dict[tuple[str, str], Moved] = {}
        self.adoptions: dict[UUID, Adoption] = {}
        self.stored_grants: dict[UUID, StoredGrant] = {}
        self.audit: list[tuple[str, str]] = []
        self.runs: dict[str, tuple[str | None, Mapping[str, int]]] = {}
        self.locked: set[str] = set()
        self.refuses: set[str] = set()
        self._life, self._keys = life, keys

    def known(self, source: str, keys: Sequence[str]) -> tuple[Mapping[str, Moved], datetime]:
        self._life.call()
        return {key: self.moved[source, key] for key in keys if (source, key) in self.moved}, NOW

    def data_keys(self, owners: Sequence[tuple[str, str, str]]) -> Sequence[DataKeyRecord]:
        self._life.call()
        found = [self._keys.current_data_key(*owner, "grant") for owner in owners]
        return [record for record in found if record is not None]

    def add_data_keys(self, records: Sequence[DataKeyRecord]) -> Sequence[DataKeyRecord]:
        self._life.call()
        return [self._keys.add_data_key(record) for record in records]

    def adopt(self, source: str, adoptions: Sequence[Adoption]) -> Mapping[str, Adopted]:
        self._life.call()
        ends = {each.key: self._adopt(source, each) for each in adoptions}
        self._life.call()
        return ends

    def _adopt(self, source: str, each: Adoption) -> Adopted:
        if (source, each.key) in self.moved:
            return Adopted.BEFORE
        if each.key in self.refuses:
            return Adopted.REFUSED
        grant = each.grant
        self.moved[source, each.key] = Moved(grant.connection_id, grant.tenant, each.kept_fp, each.token_fp)
        self.adoptions[grant.connection_id] = each
        key = self._keys.data_keys[grant.data_key_id]
        self.stored_grants[grant.connection_id] = StoredGrant(
            grant.tenant, "active", grant.version, grant.access_envelope, grant.refresh_envelope, key
        )
        self.audit.append(("migration.adopted", each.key))
        return Adopted.DONE

    def stored(self, connection_ids: Sequence[UUID]) -> Mapping[UUID, StoredGrant]:
        self._life.call()
        return {each: self.stored_grants[each] for each in connection_ids if each in self.stored_grants}

    def cleared(self, source: str, rows: Sequence[tuple[str, Moved]]) -> None:
        self._life.call()
        self.audit += [("migration.cleared", key) for key, _ in rows]

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        yield name not in self.locked

    def begin(self, name: str) -> None:
        self.runs.setdefault(name, (None, {}))

    def unfinished(self) -> Sequence[str]:
        return list(self.runs)

    def place(self, name: str) -> tuple[str | None, Mapping[str, int]] | None:
        return self.runs.get(name)

    def save(self, name: str, cursor: str | None, counts: Mapping[str, int]) -> None:
        self._life.call()
        self.runs[name] = (cursor, dict(counts))

    def end(self, name: str) -> None:
        self._life.call()
        self.runs.pop(name, None)


class Move:
    """A migration over fakes, in the hand of the test."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], *, open_value: OpenValue = lambda text, _: text) -> None:
        self.rig, self.life = Rig(), Life()
        self.source = FakeSource(self.life, rows)
        self.target = FakeTarget(self.life, self.rig.keys)
        self.open_value = open_value
        self._ids = itertools.count(1000)

    def process(self) -> Migrating:
        """A process that has just been started."""
        self.life.left = None
        keyring, policy = self.rig.another_process(), RefreshPolicy()
        return Migrating(
            self.source,
            Reader(Registry(), lambda text, tenant: self.open_value(text, tenant), {}, "default"),
            self.target,
            self.target,
            keyring,
            Sealer(keyring, policy),
            Prover(self.rig.another_process()),
            policy,
            new_id=lambda: UUID(int=next(self._ids)),
            monotonic=self.rig.clock,
        )
