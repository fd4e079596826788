"""An audit for tests: told in plain SQL, chained and verified through the store, tampered with by force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from vault.audit.chain import AuditCheck, Finding
from vault.audit.rows import AuditAnchor
from vault.secret import Secret
from vault.services.audit_chain import AuditChaining
from vault.services.audit_export import AuditExporting
from vault.services.audit_file import FileVerifying
from vault.services.audit_verify import AuditVerifying
from vault.store.audit_chain import PostgresAudit
from vault.store.engine import Database

TABLES = ("audit", "audit_link", "audit_head", "audit_start")


def _to_nobody(_: object) -> None: ...


class Book:
    """One database's audit."""

    def __init__(self, database_url: str) -> None:
        self.url = database_url
        self.database = Database(Secret(database_url))
        self.store = PostgresAudit(self.database)
        self.session = psycopg.connect(database_url, autocommit=True)

    def close(self) -> None:
        self.store.close()
        self.session.close()
        self.database.dispose()

    def empty(self) -> None:
        """As after the first upgrade."""
        with self.by_force():
            self.sql(f"TRUNCATE {', '.join(f'evergrant.{table}' for table in TABLES)}")
        self.sql("UPDATE evergrant.audit_cursor SET place = NULL, xid = '0', id = 0, resume_xid = NULL")

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self.session.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def by_force(self) -> Iterator[None]:
        """Past every trigger, as a superuser may."""
        self.sql("SET session_replication_role = replica")
        try:
            yield
        finally:
            self.sql("SET session_replication_role = origin")

    def tell(self, number: int = 1, tenant: str = "default", *, days_ago: float = 0) -> list[int]:
        """Write rows, each in a transaction of its own; returns their ids."""
        statement = (
            "INSERT INTO evergrant.audit (tenant, event, connection_id, detail, at)"
            " VALUES (%s, 'oauth.refreshed', gen_random_uuid(), jsonb_build_object('epoch', %s::int),"
            " clock_timestamp() - %s * interval '1 day') RETURNING id"
        )
        return [self.sql(statement, (tenant, epoch, days_ago))[0][0] for epoch in range(number)]

    def chain(self, batch: int = 100) -> int:
        """Link all there is."""
        linked, more = 0, True
        while more:
            number, more = self.store.chain(batch)
            linked += number
        return linked

    def service(self) -> AuditChaining:
        return AuditChaining(self.store, monotonic=lambda: 0.0)

    def verify(self, anchors: Iterable[AuditAnchor] = (), tenant: str | None = None) -> AuditCheck:
        return AuditVerifying(self.store, named=100, progress=_to_nobody).run(tenant, anchors)

    def findings(self, anchors: Iterable[AuditAnchor] = ()) -> set[Finding]:
        """What kinds of problems there are."""
        found = self.verify(anchors)
        assert found.problems >= len(found.named)
        assert found.passed is not bool(found.named)
        return {problem.what for problem in found.named}

    def export(self, **which: Any) -> list[str]:
        lines: list[str] = []
        asked = {"tenant": None, "since": None, "until": None, **which}
        AuditExporting(self.store).run(lines.append, **asked, progress=_to_nobody)
        return lines

    def verify_lines(self, lines: Iterable[str], anchors: Iterable[AuditAnchor] = ()) -> AuditCheck:
        return FileVerifying(anchors, named=100, progress=_to_nobody).run(lines)
