"""The processes of a campaign: who rotates and dies, who sends, and who verifies; forked from one that is ready."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import psycopg

from tests.simulator import Steering
from tests.webhooks.scene import Hook
from vault import Maintenance, SignatureInvalid, Vault
from vault.egress.once import Http, Sent
from vault.services import rotating
from vault.services.rotating import Rotating
from vault.store.credentials import PostgresCredentials
from vault.store.rotations import PostgresRotations

KILLED = -signal.SIGKILL
WARM_UP = -1
CALLS = (
    "begin_rotation", "take_rotations", "keep_pending", "go_on", "promote", "put_off", "let_serve", "end_rotation",
)  # fmt: skip
OPEN = (
    "SELECT id, extract(epoch FROM next_at - now())::float8 FROM evergrant.credential_rotation"
    " WHERE credential_id = %s AND ended_at IS NULL ORDER BY begun_at"
)
FREE = "UPDATE evergrant.credential_rotation SET lease_until = to_timestamp(0) WHERE id = %s"
LONGEST_SLEEP_S = 1.0
PATIENCE_S = 60.0
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__])


class Doom(NamedTuple):
    """Where a process dies."""

    fatal: int
    """At which point of those it comes to; 0: at none; ``WARM_UP``: nor does its mother, who does the same."""
    place: Path
    """Where it writes down what that point is called."""
    overlap: float
    undone_life: float


class _Points:
    """Counts the points that this process comes to: each lies after one call and before the next."""

    def __init__(self, doom: Doom) -> None:
        self._doom, self._reached = doom, 0
        self._step, self._last = "begin", "beginning"

    def build_in(self) -> None:
        """Have every call of the store that writes, and every one of the far side, tell of itself."""
        for store, names in ((PostgresRotations, CALLS), (PostgresCredentials, ("read_version",))):
            for name in names:
                setattr(store, name, self._watched(lambda *_, name=name: str(name), getattr(store, name)))
        step, points = Rotating._step, self

        def stepping(self: Rotating, row: Any, rotator: Any) -> Any:
            points._step = row.step
            return step(self, row, rotator)

        Http.send = self._watched(_request_name, Http.send)  # type: ignore[method-assign]
        Rotating._step = stepping  # type: ignore[method-assign]

    def _watched(self, named: Callable[..., str], call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            name = named(*args[:2])
            self._reach(f"{self._step}: after {self._last}, before {name}")
            result = call(*args, **more)
            self._last = name
            return result

        return watched

    def _reach(self, name: str) -> None:
        self._reached += 1
        if self._reached == self._doom.fatal:
            self._doom.place.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)


def _request_name(_: Http, request: Sent) -> str:
    last = urlsplit(request.url).path.rsplit("/", 1)[1]
    return f"{request.method} {last if last.isalpha() or last == 'webhook_endpoints' else 'it'}"


def mother(line: Connection, environment: Mapping[str, str], credential_id: UUID, log: Path) -> None:
    """Fork a process for each doom that comes in, and say how it ended.

    What a process learns when it starts, how to write each statement for instance, its mother has learned before.
    """
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    worker = Maintenance.from_env(environment)
    while (doom := line.recv()) is not None:
        child = os.fork()
        if not child:
            try:
                _rotate_and_die(worker, environment, credential_id, doom)
            except BaseException:  # noqa: BLE001  # whatever it is, a fork must not return
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if doom.fatal == WARM_UP:
            _rotate_and_die(worker, environment, credential_id, doom._replace(fatal=0))
            worker._wiring.database.dispose()
        line.send(os.waitstatus_to_exitcode(status))


def _rotate_and_die(worker: Maintenance, environment: Mapping[str, str], credential_id: UUID, doom: Doom) -> None:
    """Finish what others have left; then begin a rotation, and see how far it comes."""
    rotating.UNDONE_LIFE = timedelta(seconds=doom.undone_life)  # type: ignore[misc]  # minutes would be too long
    service, tenant = worker._wiring.credentials.rotating, worker.settings.tenant
    with psycopg.connect(environment["VAULT_DATABASE_URL"], autocommit=True) as database:
        _go_through(service, database, credential_id)
        if doom.fatal > 0:
            _Points(doom).build_in()
        service.begin(tenant, credential_id, value=None, overlap=timedelta(seconds=doom.overlap), force=False)
        _go_through(service, database, credential_id)


def _go_through(service: Rotating, database: psycopg.Connection[Any], credential_id: UUID) -> None:
    """Do what is to be done until nothing is; those who had it in hand are dead."""
    until = time.monotonic() + PATIENCE_S
    while rows := database.execute(OPEN, (credential_id,)).fetchall():
        assert time.monotonic() < until, "it never ends"
        for rotation_id, seconds in rows:
            time.sleep(min(LONGEST_SLEEP_S, max(0.0, seconds)))
            database.execute(FREE, (rotation_id,))
            service.one(rotation_id)


# ------------------------------------------------------------------------------------------------- deliveries


class Delivery(NamedTuple):
    """One signed message."""

    secret: str
    """What its sender has signed it with; empty: it is we."""
    headers: Mapping[str, str]
    body: bytes


class Refused(NamedTuple):
    """A delivery that was not believed. Instants in seconds since the epoch."""

    scene: str
    secret: str
    signed_at: float
    ended_at: float
    """When the refusal was there."""
    heard: bool
    """Whether another delivery of the same event was believed."""


@dataclass
class Verified:
    """What came of deliveries."""

    at: dict[str, list[float]] = field(default_factory=dict)
    """By scene, when each was verified."""
    refused: list[Refused] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def send(
    stop: Connection,
    out: Connection,
    environment: Mapping[str, str],
    base: Sequence[str],
    hooks: Sequence[Hook],
    rate: float,
) -> None:
    """Have an event of each scene signed, so many times a second, until told to stop."""
    uri, far_side = base
    simulator, vault, number = Steering(uri), Vault.from_env(environment), 0
    pause = 1 / rate
    while not stop.poll(pause):
        for hook in hooks:
            number += 1
            signed_at = time.time()
            if hook.of:
                told = simulator.deliver(far_side, hook.shape, hook.of)
                signed = [Delivery(each["secret"], each["headers"], each["body"].encode()) for each in told]
            else:
                body = f'{{"number": {number}}}'.encode()
                signed = [Delivery("", vault.sign_webhook(hook.id, body, message_id=str(number)), body)]
            out.send((hook, signed_at, signed))
            out.recv()  # what waits in a queue is late before it is looked at
    out.send(None)
    vault.close()


def verify(line: Connection, into: Connection, environment: Mapping[str, str]) -> None:
    """Verify what is delivered until there is no more; then tell what came of it."""
    vault, found = Vault.from_env(environment), Verified()
    while (event := into.recv()) is not None:
        hook, signed_at, signed = event
        refused = []
        for each in signed:
            try:
                vault.verify_webhook(hook.id, each.headers, each.body)
            except SignatureInvalid:
                refused.append((each.secret, time.time()))
            except Exception as error:  # noqa: BLE001  # whatever it is, the delivery was not believed
                found.errors.append(f"{hook.scene}: {type(error).__name__}")
            found.at.setdefault(hook.scene, []).append(time.time())
        heard = len(refused) < len(signed)
        found.refused += [Refused(hook.scene, secret, signed_at, at, heard) for secret, at in refused]
        if not signed:
            found.errors.append(f"{hook.scene}: nobody delivers")
        into.send(None)
    line.send(found)
    vault.close()


def stopped(stop: Connection, line: Connection) -> Verified:
    """Have the sender stop, and return what the verifier tells."""
    with suppress(OSError):
        stop.send("stop")
    assert wait([line], PATIENCE_S), "the verifier does not answer"
    found: Verified = line.recv()
    return found
