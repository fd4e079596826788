"""Workers in processes of their own, most of which come to grief: they kill themselves as ``kill -9`` would.

They are forked from a server that has imported everything already, so that one costs hundredths of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec
from uuid import UUID

from tests.integration.far_side import STEPS, FarSide
from vault import Maintenance
from vault.claims import Kept
from vault.oauth.endpoint import OAuthEndpoint
from vault.outcome import Exchange, Outcome
from vault.provider import Provider
from vault.secret import Secret
from vault.spool import FileSpool
from vault.store.audit_chain import PostgresAudit
from vault.store.engine import Database
from vault.store.rotations import PostgresRotations
from vault.store.tallies import PostgresStatistics

KILLED = -signal.SIGKILL
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])

P = ParamSpec("P")


def exit_codes(count: int, victim: Callable[[Mapping[str, str]], None], environment: Mapping[str, str]) -> list[int]:
    """Run several at once."""
    processes = [_processes.Process(target=victim, args=(dict(environment),)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [-1 if process.exitcode is None else process.exitcode for process in processes]


@contextmanager
def asleep(victim: Callable[[Mapping[str, str]], None], environment: Mapping[str, str]) -> Iterator[None]:
    """Run one for as long as the block takes, and end it then."""
    process = _processes.Process(target=victim, args=(dict(environment),))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join(60)


def exit_code(
    victim: Callable[Concatenate[Mapping[str, str], P], None],
    environment: Mapping[str, str],
    *arguments: P.args,
    **named: P.kwargs,
) -> int:
    """Run one of the below to its end; 0 when it came through."""
    process = _processes.Process(target=victim, args=(dict(environment), *arguments), kwargs=named)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def upgrade(environment: Mapping[str, str]) -> None:
    """Bring a database to the newest schema; this one comes through."""
    worker = Maintenance.from_env(environment)
    worker.upgrade_schema()
    worker.close()


def scan_and_die_reading(environment: Mapping[str, str], connection_id: UUID) -> None:
    """Die when the answer for one connection has come."""
    read = OAuthEndpoint.read

    def sabotaged(
        self: OAuthEndpoint,
        provider: Provider,
        exchange: Exchange,
        now: datetime | None = None,
        spent: Secret | None = None,
    ) -> Outcome:
        if exchange.tag.claim.connection_id == connection_id:  # type: ignore[attr-defined]
            _die()
        return read(self, provider, exchange, now, spent)

    OAuthEndpoint.read = sabotaged  # type: ignore[method-assign]
    _scan(environment)


def scan_and_die_after_spooling(environment: Mapping[str, str]) -> None:
    """Die between the disk and the database."""
    append = FileSpool.append

    def sabotaged(self: FileSpool, *records: Kept) -> None:
        append(self, *records)
        _die()

    FileSpool.append = sabotaged  # type: ignore[method-assign]
    _scan(environment)


def scan_and_sleep_after_spooling(environment: Mapping[str, str]) -> None:
    """Be stopped between the disk and the database, as a machine that is suspended; somebody must end this one."""
    append = FileSpool.append

    def sabotaged(self: FileSpool, *records: Kept) -> None:
        append(self, *records)
        os.kill(os.getpid(), signal.SIGSTOP)

    FileSpool.append = sabotaged  # type: ignore[method-assign]
    _scan(environment)


def chain_in_small_steps(environment: Mapping[str, str]) -> None:
    """Link the audit a few rows at a time, without end; somebody must end this one."""
    database = Database(Secret(environment["VAULT_DATABASE_URL"]))
    store = PostgresAudit(database)
    while True:
        store.chain(3)


def fold_and_die(environment: Mapping[str, str], when: str) -> None:
    """Add up differences, and die before or after that is committed."""
    database = Database(Secret(environment["VAULT_DATABASE_URL"]))
    with database.connect(autocommit=False) as session:
        assert session.execute("SELECT folded FROM evergrant.tally_fold(1000)").fetchone() != (0,)
        if when == "before":
            _die()
    _die()


def fold_in_small_steps(environment: Mapping[str, str]) -> None:
    """Add up differences a few at a time, without end; somebody must end this one."""
    store = PostgresStatistics(Database(Secret(environment["VAULT_DATABASE_URL"])), patience=timedelta(0))
    while True:
        store.fold(3)
        time.sleep(0.005)  # or all is added up before somebody comes to end it


def _scan(environment: Mapping[str, str]) -> None:
    worker = Maintenance.from_env(environment)
    worker.refresh_scan()
    worker.close()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rotate_and_die(environment: Mapping[str, str], site: str, fatal: int) -> None:
    """Rotate credentials, and die at the ``fatal``-th point: before or after a call of the store, or of the far side.

    ``site`` is where the far side's rotator is installed.
    """
    os.environ.update(environment)
    sys.path.insert(0, site)
    reached = 0

    def reach() -> None:
        nonlocal reached
        reached += 1
        if reached == fatal:
            _die()

    for name in ("keep_pending", "go_on", "promote", "put_off", "end_rotation"):
        _watch(PostgresRotations, name, reach)
    for name in (*STEPS, "undo"):
        _watch(FarSide, name, reach)
    worker = Maintenance.from_env(environment)
    worker.rotate_credentials()
    worker.close()


def _watch(part: type, name: str, reach: Callable[[], None]) -> None:
    call = getattr(part, name)

    def watched(*args: object, **more: object) -> object:
        reach()
        result = call(*args, **more)
        reach()
        return result

    setattr(part, name, watched)
