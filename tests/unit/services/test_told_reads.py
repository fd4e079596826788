"""The audit is told of every read, soon of the first and in numbers of the others, whatever the database does."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from tests.integration.waiting import until
from vault.errors import StoreUnavailable
from vault.ports import ReadCount
from vault.services import told_reads
from vault.services.told_reads import ReadLog

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Store:
    """What the audit was told, unless it is away."""

    def __init__(self) -> None:
        self.told: list[ReadCount] = []
        self.used: list[UUID] = []
        self.away = False

    def tell_reads(self, counts: Sequence[ReadCount]) -> None:
        if self.away:
            raise StoreUnavailable("here", "away")
        self.told += counts

    def keys_used(self, key_ids: Sequence[UUID]) -> None:
        self.used += key_ids

    def reads(self) -> Counter[UUID]:
        found = Counter[UUID]()
        for each in self.told:
            found[each.connection_id] += each.reads
        return found


class Log(ReadLog):
    """With a thread that does not run by itself, and a clock that goes when it is told to."""

    def __init__(self, store: Store) -> None:
        self.now = 0.0
        super().__init__(store, store, clock=lambda: BEGAN, monotonic=lambda: self.now)  # type: ignore[arg-type]

    def _begin(self) -> None: ...


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def log(store: Store) -> Log:
    return Log(store)


KEY, ONE, TWO = uuid4(), uuid4(), uuid4()


def test_the_first_read_is_told_at_the_next_look_and_the_rest_of_its_minute_as_a_number(log: Log, store: Store) -> None:
    log.read("a", KEY, ONE)
    log.tell()
    assert [each.reads for each in store.told] == [1]
    for _ in range(9):
        log.read("a", KEY, ONE)
    log.tell()
    assert len(store.told) == 1, "its minute is not over"
    log.now += 61
    log.tell()
    assert [each.reads for each in store.told] == [1, 9]
    log.now += 61
    log.tell()
    assert len(store.told) == 2, "nothing more was read"
    assert log._counts == {}, "and nothing is remembered of it"


def test_reads_are_told_by_key_and_connection(log: Log, store: Store) -> None:
    other = uuid4()
    for key, connection in ((KEY, ONE), (KEY, TWO), (other, ONE)):
        log.read("a", key, connection)
    log.tell()
    assert {(each.key_id, each.connection_id) for each in store.told} == {(KEY, ONE), (KEY, TWO), (other, ONE)}


def test_what_the_audit_does_not_take_is_kept(log: Log, store: Store) -> None:
    log.read("a", KEY, ONE)
    store.away = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            log.tell()
        log.read("a", KEY, ONE)
    store.away = False
    log.tell()
    assert store.reads() == {ONE: 4}


def test_a_reader_is_refused_when_too_much_is_untold(log: Log, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_reads, "MOST", 2)
    log.read("a", KEY, ONE)
    log.read("a", KEY, TWO)
    store.away = True
    with pytest.raises(StoreUnavailable):
        log.read("a", KEY, uuid4())


def test_what_was_told_makes_room_for_what_is_read(log: Log, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections in a minute than are remembered: nobody looks through ever more of them at every read."""
    monkeypatch.setattr(told_reads, "MOST", 10)
    for connection in (read := [uuid4() for _ in range(50)]):
        log.read("a", KEY, connection)
        log.tell()
        log.read("a", KEY, connection)
        assert len(log._counts) <= 10
    log.tell(everything=True)
    assert store.reads() == dict.fromkeys(read, 2)


def test_a_key_is_noted_as_used_once_a_minute(log: Log, store: Store) -> None:
    for _ in range(3):
        log.used(KEY)
        log.tell()
    assert store.used == [KEY]
    log.now += 61
    log.used(KEY)
    log.tell()
    assert store.used == [KEY, KEY]


@pytest.fixture
def running(store: Store) -> Iterator[ReadLog]:
    log = ReadLog(store, store, clock=lambda: BEGAN, monotonic=lambda: 0.0)  # type: ignore[arg-type]
    yield log
    log.close()


def test_what_nobody_has_foreseen_does_not_end_the_telling(
    running: ReadLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a database that takes no writes while another one takes its place."""
    monkeypatch.setattr(told_reads, "LOOK_S", 0.01)
    tried = threading.Event()

    def broken(_: object) -> None:
        tried.set()
        raise RuntimeError

    with monkeypatch.context() as away:
        away.setattr(store, "tell_reads", broken)
        running.read("a", KEY, ONE)
        assert tried.wait(10)
    until(lambda: store.reads() == {ONE: 1})


def test_nothing_is_lost_between_many_readers_and_the_end(running: ReadLog, store: Store) -> None:
    def read(_: int) -> None:
        for _ in range(500):
            running.read("a", KEY, ONE)
            running.read("a", KEY, TWO)

    def tell() -> None:
        for _ in range(200):
            running.tell(everything=True)

    telling = threading.Thread(target=tell)
    telling.start()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(4)))
    telling.join()
    running.close()
    assert store.reads() == {ONE: 2000, TWO: 2000}
    assert "evergrant-reads" not in [thread.name for thread in threading.enumerate()]
