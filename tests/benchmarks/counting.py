"""`statistics`: figures, health, expiry and clean-up among few and among many; what counting costs who writes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Figure, Section, at_most
from tests.benchmarks.stage import CLIENT_ID, PROVIDER, Stage, server
from vault import Maintenance
from vault import settings as vault_settings
from vault.claims import Kept
from vault.store.engine import Database
from vault.store.settle import PostgresSettling

FEW, MANY = 10_000, 1_000_000
FOUND = 500
"""Due, ending, past their age, to be purged: as many in both."""
COMMITTED = 200
"""Grants that the engine puts into their rows by one statement."""
DATING = timedelta(seconds=20)
"""A scan whose first half goes to dates."""
GROWTH = 1.5
"""What follows from what is found takes no longer among a hundred times as many, but for deeper indexes."""
_KEY = "'00000000-0000-4000-8000-000000000002'"
_FILL = f"""
CREATE TEMPORARY TABLE seed AS SELECT n, gen_random_uuid() AS id FROM generate_series(1, {{rows}}) n;
INSERT INTO evergrant.tenant_key (id, tenant, state, kek_id, algorithm, wrapped)
     VALUES ('00000000-0000-4000-8000-000000000001', 'bench', 'current', 'local', 'local', '');
INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)
     VALUES ({_KEY}, 'bench', 'owner', '{PROVIDER}', 'grant', 'current', '00000000-0000-4000-8000-000000000001', '');
INSERT INTO evergrant.connection (id, tenant, owner, provider)
     SELECT id, 'default', 'owner-' || n, '{PROVIDER}' FROM seed;
INSERT INTO evergrant.oauth_grant (connection_id, tenant, status, version, data_key_id, client_id, expires_at,
                                   refreshed_at, stale_at, refresh_fp, access_envelope, refresh_envelope)
     SELECT id, 'default', 'active', 1, {_KEY}, '{CLIENT_ID}', now() + interval '2 h', now(), now() + interval '1 h',
            uuid_send(id), decode(repeat('00', 316), 'hex'), decode(repeat('00', 196), 'hex')
       FROM seed;
INSERT INTO evergrant.schedule (connection_id, client, next_at, epoch)
     SELECT id, '{PROVIDER}', now() + CASE WHEN n <= {FOUND} THEN interval '0'
                                      ELSE interval '1 day' + n * interval '1 ms' END, 1
       FROM seed;
INSERT INTO evergrant.credential (id, tenant, owner, provider, kind, name, state, version, latest, expires_at,
                                  rotated_at, rotate_at, warn_at)
     SELECT gen_random_uuid(), 'default', 'owner-' || n, '{PROVIDER}', 'api_key', 'n' || n, 'active', 1, 1,
            now() + CASE WHEN n <= {FOUND} THEN interval '6 days' ELSE interval '1 year' END,
            now() - CASE WHEN n <= {FOUND} THEN interval '91 days' ELSE interval '0' END,
            now() + CASE WHEN n <= {FOUND} THEN interval '-1 day' ELSE interval '90 days' END,
            now() + CASE WHEN n <= {FOUND} THEN interval '6 days' ELSE interval '60 days' END
       FROM seed;
"""
_ARMING = {
    "warn": "DELETE FROM evergrant.event; UPDATE evergrant.credential SET warn_at = now() - interval '1 h'"
    " WHERE expires_at < now() + interval '7 days' AND state = 'active'",
    "purge": "UPDATE evergrant.credential SET state = 'deleted', purge_at = now() - interval '1 h'"
    " WHERE id IN (SELECT id FROM purged)",
}
_PURGED = f"""
CREATE TABLE purged AS SELECT id FROM evergrant.credential WHERE expires_at > now() + interval '7 days' LIMIT {FOUND};
"""


class Place:
    """A database with so many connections and so many credentials."""

    def __init__(self, stage: Stage, rows: int) -> None:
        self.rows = rows
        self.session = stage.connect()
        with self.session.transaction():
            self.session.execute("SET LOCAL session_replication_role = replica")  # no foreign keys checked row by row
            self.session.execute(_FILL.format(rows=rows).encode())
        self.session.execute("VACUUM ANALYZE")
        self.worker, self.vault = Maintenance.from_env(stage.environment), stage.vault()
        self.recount_s = _timed(self.worker.recount_statistics)
        self.dating_s = _timed(partial(self.worker.expiry_scan, timedelta(minutes=10)))
        self.session.execute(_PURGED.encode())
        self.database = Database(vault_settings.load(stage.environment).database_url)
        self.settling = PostgresSettling(self.database)

    def arm(self, what: str) -> None:
        """Make something due again."""
        self.session.execute(_ARMING[what].encode())

    def close(self) -> None:
        """Close the connections."""
        self.settling.close()
        self.database.dispose()
        self.worker.close()
        self.vault.close()
        self.session.close()


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home):
        places = [Place(Stage(postgres, home), rows) for rows in (FEW, effort.of(MANY, least=2 * FEW))]
        try:
            return [_among(places, effort), _writers(places[0], effort), _rates(places[-1])]
        finally:
            for place in places:
                place.close()


# ------------------------------------------------------------------------------------------------------ few and many


def _calls(place: Place) -> Mapping[str, tuple[str, Callable[[], object]]]:
    """What is measured, by name, each with what must be due before."""
    worker, vault = place.worker, place.vault
    return {
        "statistics(), all tenants": ("", worker.statistics),
        "statistics() of one tenant that has nearly all": ("", vault.statistics),
        "health of the system": ("", worker.health_check),
        "health of one connection": ("", partial(vault.connection_health, _some(place))),
        f"expiry scan, {FOUND} due": ("warn", worker.expiry_scan),
        "expiry scan, none due": ("", worker.expiry_scan),
        f"list_expiring(), {FOUND} of them": ("", vault.list_expiring),
        f"check_rotation_required(), {FOUND} of them": ("", vault.check_rotation_required),
        f"clean-up, {FOUND} credentials to be purged": ("purge", worker.cleanup),
        "clean-up with nothing to do": ("", worker.cleanup),
        f"clean-up, dry, {FOUND} credentials": ("purge", partial(worker.cleanup, dry_run=True)),
    }


def _some(place: Place) -> UUID:
    row = place.session.execute("SELECT id FROM evergrant.connection LIMIT 1").fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


def _among(places: Sequence[Place], effort: Effort) -> Section:
    calls = [_calls(place) for place in places]
    took: dict[str, list[list[float]]] = {name: [[] for _ in places] for name in calls[0]}
    for turn in range(effort.of(11, least=3) + 1):
        for name in calls[0]:  # in this order: what is due is used up before it is to be none
            for number in random.sample(range(len(places)), len(places)):
                needs, call = calls[number][name]
                if needs:
                    places[number].arm(needs)
                seconds = _timed(call)
                if turn:  # the first is for caches and plans
                    took[name][number].append(seconds * 1e3)
    figures = []
    for name, (few, many) in took.items():
        ratio = statistics.median(more / less for more, less in zip(many, few, strict=True))
        figures.append(Figure(f"{name}, among {places[0].rows:,}", statistics.median(few), "ms"))
        among = f"… among {places[1].rows:,}"
        figures.append(Figure(among, statistics.median(many), "ms", ratio, f"{places[0].rows:,}", at_most(GROWTH)))
    return Section("statistics", "What follows from what is found, among few and among many", figures)


# ------------------------------------------------------------------------------------------------------------ writers


class _Batch:
    """The same grants, refreshed again and again."""

    def __init__(self, place: Place) -> None:
        self._place = place
        rows = place.session.execute(
            "SELECT g.connection_id, g.tenant, s.epoch, g.consent, g.refresh_fp, g.version, g.data_key_id"
            " FROM evergrant.oauth_grant g JOIN evergrant.schedule s USING (connection_id) LIMIT %s", (COMMITTED,)
        ).fetchall()  # fmt: skip
        self._kept = [_kept(*row) for row in rows]

    def commit(self) -> float:
        """Store an answer for each; returns the milliseconds it took."""
        settled = 0
        began = time.perf_counter()
        settled = len(self._place.settling.settle(self._kept, []).stored)
        took = time.perf_counter() - began
        if settled != COMMITTED:
            raise RuntimeError(f"{settled} stored instead of {COMMITTED}")
        self._kept = [
            each._replace(
                parent_fp=each.refresh_fp, parent_version=each.parent_version + 1,
                refresh_fp=(int.from_bytes(each.refresh_fp, "big") ^ each.parent_version).to_bytes(16, "big"),
            )
            for each in self._kept
        ]  # fmt: skip
        return took * 1e3


def _kept(connection_id: UUID, tenant: str, epoch: int, consent: int, parent: bytes, version: int, key: UUID) -> Kept:
    now = datetime.now(UTC)
    return Kept(
        connection_id=connection_id, tenant=tenant, epoch=epoch, consent=consent, parent_fp=parent,
        parent_version=version, refresh_fp=parent[::-1], data_key_id=key, access_envelope=bytes(316),
        refresh_envelope=bytes(196), token_type="Bearer", scopes=None, sent_at=now,
        expires_at=now + timedelta(hours=2), next_at=now + timedelta(hours=1), grant_ends_at=None,
    )  # fmt: skip


def _writers(place: Place, effort: Effort) -> Section:
    """Without waiting for the disk, beside which the difference would be smaller still, and be lost in noise."""
    here = place.session.info.dbname
    place.session.execute(f'ALTER DATABASE "{here}" SET synchronous_commit = off'.encode())
    place.session.execute("SET synchronous_commit = off")
    batch = _Batch(place)
    took: dict[str, list[float]] = {"without": [], "with": []}
    switch = {"without": "DISABLE", "with": "ENABLE"}
    for _ in range(effort.of(60, least=3)):
        for which in random.sample(list(took), 2):
            place.session.execute(f"ALTER TABLE evergrant.oauth_grant {switch[which]} TRIGGER tally_turned".encode())
            for _ in range(3):  # the plan is made anew
                batch.commit()
            took[which].append(statistics.median(batch.commit() for _ in range(effort.of(20, least=3))))
    place.session.execute("ALTER TABLE evergrant.oauth_grant ENABLE TRIGGER tally_turned")
    ratio = statistics.median(a / b for a, b in zip(took["with"], took["without"], strict=True))
    figures = [
        Figure(f"{COMMITTED} refreshed grants committed, not counted", statistics.median(took["without"]), "ms"),
        Figure("… counted", statistics.median(took["with"]), "ms", ratio, "not counted", at_most(1.02)),
        *_turning(place, effort),
    ]
    return Section("counting", "What counting costs who writes", figures)


def _turning(place: Place, effort: Effort) -> list[Figure]:
    """Each of some grants gets another status, with and without a trigger."""
    took: dict[str, list[float]] = {"DISABLE": [], "ENABLE": []}
    statement = (
        "UPDATE evergrant.oauth_grant SET status = CASE status WHEN 'active' THEN 'in_doubt' ELSE 'active' END"
        f" WHERE connection_id IN (SELECT connection_id FROM evergrant.oauth_grant ORDER BY 1 LIMIT {COMMITTED})"
    )
    for _ in range(effort.of(20, least=3)):
        for which in random.sample(list(took), 2):
            place.session.execute(f"ALTER TABLE evergrant.oauth_grant {which} TRIGGER tally_turned".encode())
            seconds = [_timed(partial(place.session.execute, statement.encode())) for _ in range(4)]
            took[which].append(statistics.median(seconds[1:]) * 1e6 / COMMITTED)
    place.session.execute("ALTER TABLE evergrant.oauth_grant ENABLE TRIGGER tally_turned")
    place.worker.recount_statistics()
    more = statistics.median(took["ENABLE"]) - statistics.median(took["DISABLE"])
    return [Figure("a grant whose status turns: more than if it were not counted", more, "µs")]


# -------------------------------------------------------------------------------------------------------------- rates


def _rates(place: Place) -> Section:
    bulk = (
        "INSERT INTO evergrant.credential (id, tenant, owner, provider, kind, name, state, version, latest)"
        " SELECT gen_random_uuid(), 'bulk', 'o', 'p', 'api_key', '', 'active', 1, 1 FROM generate_series(1, 50000)"
    )
    changes = (
        "INSERT INTO evergrant.tally_change SELECT 't' || n % 1000, 'credential', 'p', 'api_key', 'active', 0"
        " FROM generate_series(1, 200000) n"
    )
    figures = [Figure(f"counting {2 * place.rows:,} rows anew", place.recount_s, "s")]
    plain, counted = (_timed(partial(_bulk, place, bulk, trigger)) for trigger in ("DISABLE", "ENABLE"))
    figures.append(Figure("50,000 credentials by one statement, counted", counted, "s", counted / plain, "not counted"))
    place.session.execute("ALTER TABLE evergrant.credential ENABLE TRIGGER tally_come")
    place.worker.recount_statistics()
    place.session.execute(changes.encode())
    waiting = _timed(place.worker.statistics)
    figures.append(Figure("statistics() with 200,000 differences not added up", waiting * 1e3, "ms"))
    folding = _timed(place.worker.fold_statistics)
    figures.append(Figure("differences added up, 1,000 tenants", 200_000 / folding, "rows/s"))
    looking = _timed(partial(place.worker.health_check_all, anew=True))
    figures.append(Figure("credentials whose dates were right, looked at once", place.rows / place.dating_s, "rows/s"))
    place.session.execute("UPDATE evergrant.credential SET rotate_at = NULL")
    place.session.execute("UPDATE evergrant.policy_state SET place = '00000000-0000-0000-0000-000000000000'")
    dating = place.worker.expiry_scan(DATING)
    figures.append(Figure("credentials that got other dates", dating.dated / (DATING.total_seconds() / 2), "rows/s"))
    figures.append(Figure("connections looked at", place.rows / looking, "rows/s", note=f"all in {looking:.0f} s"))
    return Section("rates", f"Among {place.rows:,}", figures)


def _bulk(place: Place, statement: str, trigger: str) -> Any:
    place.session.execute(f"ALTER TABLE evergrant.credential {trigger} TRIGGER tally_come".encode())
    return place.session.execute(statement.encode())
