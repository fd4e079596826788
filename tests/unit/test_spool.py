"""The spool: what was written is found again, whole or not at all, by whoever looks after its writer has died."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import spool as spool_module
from vault.claims import Kept
from vault.spool import FileSpool, decode, encode, waiting

CHECKOUT = Path(__file__).resolve().parents[2]
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def kept(number: int = 1, token: bytes = b"new", **changes: object) -> Kept:
    record = Kept(
        connection_id=UUID(int=number),
        tenant="acme",
        epoch=3,
        consent=1,
        parent_fp=b"old",
        parent_version=4,
        refresh_fp=token,
        data_key_id=UUID(int=99),
        access_envelope=b"EG-access",
        refresh_envelope=b"EG-refresh",
        token_type="Bearer",
        scopes="read write",
        sent_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        next_at=NOW + timedelta(minutes=54),
        grant_ends_at=None,
    )
    return record._replace(**changes)  # type: ignore[arg-type]


def spooled(directory: Path) -> bytes:
    """What lies in the only file of a directory."""
    [file] = directory.glob("*.spool")
    return file.read_bytes()


def found(directory: Path) -> list[Kept]:
    """What another process finds; it looks and lets everything lie."""
    records: list[Kept] = []
    for orphan in FileSpool(directory).orphans():
        records.extend(orphan.records)
        orphan.finish(orphan.records)
    return records


def left_behind(directory: Path, records: Sequence[Kept]) -> None:
    """Let records lie as a process does that gives up."""
    spool = FileSpool(directory)
    for record in records:
        spool.append(record)
    spool.release()


# --------------------------------------------------------------------------------------------------------------- bytes

instants = st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive
texts = st.text(st.characters(exclude_categories=["Cs"]))
records = st.builds(
    Kept,
    connection_id=st.uuids(),
    tenant=texts,
    epoch=st.integers(-(2**63), 2**63 - 1),
    consent=st.integers(-(2**31), 2**31 - 1),
    parent_fp=st.binary(),
    parent_version=st.integers(-(2**63), 2**63 - 1),
    refresh_fp=st.binary(),
    data_key_id=st.uuids(),
    access_envelope=st.binary(),
    refresh_envelope=st.binary(),
    token_type=texts,
    scopes=st.none() | texts,
    sent_at=instants,
    expires_at=instants,
    next_at=instants,
    grant_ends_at=st.none() | instants,
    fragile=st.booleans(),
    recovered_from=st.none() | texts,
)


@given(records)
def test_a_record_comes_back_as_it_was(record: Kept) -> None:
    assert decode(encode(record)) == record


@given(st.binary())
def test_other_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a spool record"):
        decode(data)


@given(records, st.binary(min_size=1))
def test_a_record_with_something_after_it_is_refused(record: Kept, more: bytes) -> None:
    with pytest.raises(ValueError, match="not a spool record"):
        decode(encode(record) + more)


@given(st.binary(min_size=spool_module._HEAD.size, max_size=spool_module._HEAD.size))
def test_fields_that_no_clock_can_show_are_refused(head: bytes) -> None:
    rest = encode(kept())[len(head) :]
    try:
        record = decode(head + rest)
    except ValueError:
        return
    assert encode(record)[len(head) :] == rest


@given(st.binary())
def test_a_file_of_anything_has_no_record_and_raises_nothing(data: bytes) -> None:
    assert waiting(data) == {}


@settings(max_examples=25)
@given(st.lists(records, min_size=1, max_size=4, unique_by=lambda r: (r.connection_id, r.refresh_fp)))
def test_records_come_back_in_the_order_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, many: list[Kept]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    left_behind(directory, many)
    assert found(directory) == many


def test_a_tail_torn_at_any_byte_costs_the_last_record_and_no_other(tmp_path: Path) -> None:
    first, second = kept(1), kept(2)
    left_behind(tmp_path, [first, second])
    data = spooled(tmp_path)
    end = data.index(encode(second)) - 9  # a frame's length and checksum, and the kind
    for size in range(len(data)):
        expected = [first] if size >= end else []
        assert list(waiting(data[:size]).values()) == expected
    assert list(waiting(data).values()) == [first, second]


def test_a_byte_changed_anywhere_never_makes_a_record_that_was_not_written(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    written = [kept(1), kept(2), kept(3, scopes=None)]
    for record in written:
        spool.append(record)
    spool.done([written[1]])
    data = spooled(tmp_path)
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            assert all(record in written for record in waiting(bytes(damaged)).values())


def test_a_file_that_ends_in_zeros_after_a_loss_of_power_keeps_what_was_before_them(tmp_path: Path) -> None:
    left_behind(tmp_path, [kept(1)])
    assert list(waiting(spooled(tmp_path) + bytes(100_000)).values()) == [kept(1)]


# ---------------------------------------------------------------------------------------------------------- its writer


def test_what_has_found_its_place_is_not_found_again(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    for number in (1, 2, 3):
        spool.append(kept(number))
    spool.done([kept(2)])
    assert list(waiting(spooled(tmp_path)).values()) == [kept(1), kept(3)]


def test_two_answers_for_one_connection_are_two_records(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.append(kept(1, b"one"))
    spool.append(kept(1, b"two"))
    spool.done([kept(1, b"one")])
    assert list(waiting(spooled(tmp_path)).values()) == [kept(1, b"two")]


def test_ending_what_was_never_written_changes_nothing(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    before = spooled(tmp_path)
    spool.done([kept(2), kept(1, b"other")])
    assert spooled(tmp_path) == before


def test_a_connection_that_waits_is_held_wherever_its_record_lies(tmp_path: Path) -> None:
    left_behind(tmp_path, [kept(1)])
    alive = FileSpool(tmp_path)
    alive.append(kept(2))
    spool = FileSpool(tmp_path)
    spool.append(kept(3))
    assert [spool.holds(UUID(int=n)) for n in (1, 2, 3, 4)] == [True, True, True, False]
    spool.done([kept(3)])
    alive.done([kept(2)])
    assert [spool.holds(UUID(int=n)) for n in (1, 2, 3, 4)] == [True, False, False, False]


def test_what_lies_in_other_files_is_found_while_their_processes_live_and_our_own_is_not_among_it(
    tmp_path: Path,
) -> None:
    left_behind(tmp_path, [kept(1)])
    alive, ours = FileSpool(tmp_path), FileSpool(tmp_path)
    alive.append(kept(2))
    alive.append(kept(3))
    ours.append(kept(4))
    wanted = [UUID(int=n) for n in (1, 2, 4, 5)]
    assert sorted(record.connection_id.int for record in ours.lying(wanted)) == [1, 2]
    assert ours.lying([]) == []


def test_asking_what_is_held_survives_a_file_that_goes_away_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "1-gone.spool").symlink_to(tmp_path / "nowhere")
    left_behind(tmp_path, [kept(1)])
    assert FileSpool(tmp_path).holds(UUID(int=1))
    assert found(tmp_path) == [kept(1)]


def test_without_a_directory_nothing_is_held_and_nothing_found(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "none")
    assert not spool.holds(UUID(int=1))
    assert list(spool.orphans()) == []


def test_only_the_owner_of_the_process_can_read_it(tmp_path: Path) -> None:
    FileSpool(tmp_path / "spool").append(kept())
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    [file] = (tmp_path / "spool").glob("*.spool")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_in_which_nothing_waits_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "TRIM_AT", 1000)
    spool = FileSpool(tmp_path)
    for number in range(200):
        spool.append(kept(number))
        spool.check()
        spool.done([kept(number)])
        assert len(spooled(tmp_path)) < 2000
    spool.append(kept(7))
    assert list(waiting(spooled(tmp_path)).values()) == [kept(7)]


def test_a_file_in_which_something_waits_is_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "TRIM_AT", 1000)
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    for number in range(2, 50):
        spool.append(kept(number))
        spool.done([kept(number)])
    assert list(waiting(spooled(tmp_path)).values()) == [kept(1)]


def test_letting_go_leaves_what_waits_for_others_and_no_file_otherwise(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    assert found(tmp_path) == []
    spool.release()
    assert found(tmp_path) == [kept(1)]
    other = FileSpool(tmp_path / "other")
    other.append(kept(2))
    other.done([kept(2)])
    other.release()
    assert list((tmp_path / "other").iterdir()) == []
    other.append(kept(3))
    assert other.holds(UUID(int=3))


def test_sync_waits_for_the_disk_once_for_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool = FileSpool(tmp_path)
    spool.sync()
    assert synced == []
    spool.append(kept(1))
    spool.append(kept(2))
    spool.sync()
    spool.sync()
    assert len(synced) == 1


# ------------------------------------------------------------------------------------------------------------- orphans

WRITER = """
import sys
from pathlib import Path
from vault.spool import FileSpool, decode
spool = FileSpool(Path(sys.argv[1]))
one, two = (decode(bytes.fromhex(record)) for record in sys.argv[2:])
spool.append(one); spool.append(two); spool.done([one])
print("written", flush=True)
sys.stdin.read()
"""


def test_an_orphan_is_found_after_sigkill_and_not_while_its_process_lives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), encode(kept(1)).hex(), encode(kept(2)).hex()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert found(tmp_path) == []
        assert FileSpool(tmp_path).holds(UUID(int=2))
        process.kill()
        process.wait(10)
    assert found(tmp_path) == [kept(2)]


def test_an_orphan_belongs_to_the_one_who_looks_at_it(tmp_path: Path) -> None:
    left_behind(tmp_path, [kept(1)])
    one, two = FileSpool(tmp_path), FileSpool(tmp_path)
    for orphan in one.orphans():
        assert list(two.orphans()) == []
        orphan.finish(orphan.records)
    assert len(found(tmp_path)) == 1


def test_our_own_file_is_no_orphan_of_ours(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    assert list(spool.orphans()) == []


def test_finishing_removes_what_is_done_and_keeps_the_rest(tmp_path: Path) -> None:
    left_behind(tmp_path, [kept(1), kept(2), kept(3)])
    [orphan] = FileSpool(tmp_path).orphans()
    orphan.finish(orphan.records[1:])
    assert found(tmp_path) == [kept(2), kept(3)]
    [orphan] = FileSpool(tmp_path).orphans()
    orphan.finish(orphan.records)
    assert found(tmp_path) == [kept(2), kept(3)]
    [orphan] = FileSpool(tmp_path).orphans()
    orphan.finish([])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- threads


def test_a_record_is_not_lost_to_another_thread_that_empties_the_file_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread hears answers, another ends them; here the second gets its turn when it would do most harm."""
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    spool.done([kept(1)])
    monkeypatch.setattr(spool_module, "TRIM_AT", 0)
    write = os.write
    turns: list[Future[None]] = []

    def write_and_give_way(descriptor: int, data: bytes) -> int:
        written = write(descriptor, data)
        if encode(kept(2)) in data:
            turns.append(pool.submit(spool.done, []))
            wait(turns, timeout=0.2)
        return written

    monkeypatch.setattr(os, "write", write_and_give_way)
    with ThreadPoolExecutor(1) as pool:
        spool.append(kept(2))
        wait(turns)
    assert len(turns) == 1
    assert list(waiting(spooled(tmp_path)).values()) == [kept(2)]
    assert spool.holds(UUID(int=2))


def test_asking_while_another_thread_writes(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    turns: list[Future[None]] = []

    class Interrupted(set[bytes]):
        """Gives the other thread its turn in the middle of being looked through."""

        def __iter__(self) -> Iterator[bytes]:
            for each in super().__iter__():
                if not turns:
                    turns.append(pool.submit(spool.append, kept(3)))
                    wait(turns, timeout=0.2)
                yield each

    spool.append(kept(1))
    spool.append(kept(2))
    spool._open = Interrupted(spool._open)
    with ThreadPoolExecutor(1) as pool:
        assert not spool.holds(UUID(int=4))
    assert turns
    assert spool.holds(UUID(int=3))


# ---------------------------------------------------------------------------------------------------------------- fork


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Run something in a fork of this process, which then stays until it is killed."""
    done, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(tell, b"1")
        finally:
            os.close(tell)
            signal.pause()
            os._exit(0)
    os.close(tell)
    try:
        assert os.read(done, 1) == b"1"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(done)


def test_a_forked_child_never_writes_into_its_parents_file(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    before = spooled(tmp_path)

    def in_child() -> None:
        spool.done([kept(1)])
        spool.append(kept(2))
        spool.check()
        spool.sync()

    with forked(in_child):
        files = {file: file.read_bytes() for file in tmp_path.glob("*.spool")}
        assert len(files) == 2
        assert before in files.values()
        assert spool.holds(UUID(int=1))
    assert found(tmp_path) == [kept(2)]


def test_a_child_that_lets_go_does_not_take_its_parents_file_away(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.check()
    with forked(spool.release):
        spool.append(kept(1))
        assert list(waiting(spooled(tmp_path)).values()) == [kept(1)]


PARENT = """
import os, sys
from pathlib import Path
from vault.spool import FileSpool, decode
spool = FileSpool(Path(sys.argv[1]))
spool.append(decode(bytes.fromhex(sys.argv[2])))
if os.fork() == 0:
    list(spool.orphans())
    print("forked", flush=True)
    sys.stdin.read()
else:
    os.waitpid(-1, 0)
"""


def test_a_child_that_outlives_its_parent_does_not_hide_what_the_parent_left(tmp_path: Path) -> None:
    """A lock lasts as long as anybody has the file open; a child that looks at its spool lets go of the parent's."""
    command = [sys.executable, "-c", PARENT, str(tmp_path), encode(kept(1)).hex()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"forked\n"
        assert found(tmp_path) == []
        process.kill()
        process.wait(10)
        assert found(tmp_path) == [kept(1)]


# ----------------------------------------------------------------------------------------------------------- full disk


@contextmanager
def a_disk_with_room_for(size: int) -> Iterator[None]:
    """Let files of this process grow to a size and no further; the kernel writes what fits, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path)
    spool.check()
    with a_disk_with_room_for(len(spooled(tmp_path))), pytest.raises(OSError, match=r"large|written"):
        spool.check()
    spool.check()


@pytest.mark.parametrize("room", [1, 9, 100])
def test_a_record_that_did_not_fit_does_not_hide_those_written_later(tmp_path: Path, room: int) -> None:
    """The disk filled up in the middle of a record, and then somebody made room."""
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    with a_disk_with_room_for(len(spooled(tmp_path)) + room), pytest.raises(OSError, match=r"large|written"):
        spool.append(kept(2))
    spool.append(kept(3))
    assert list(waiting(spooled(tmp_path)).values()) == [kept(1), kept(3)]
    assert not spool.holds(UUID(int=2))


def test_an_answer_that_found_its_place_is_done_with_even_when_the_disk_cannot_note_it(tmp_path: Path) -> None:
    """The record may be replayed, which is harmless; refusing would take a stored answer for a lost one."""
    spool = FileSpool(tmp_path)
    spool.append(kept(1))
    spool.append(kept(2))
    with a_disk_with_room_for(len(spooled(tmp_path)) + 5):
        spool.done([kept(1)])
    assert not spool.holds(UUID(int=1))
    spool.append(kept(3))
    assert [r.connection_id.int for r in waiting(spooled(tmp_path)).values()] == [1, 2, 3]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file stands where the directory should be")
    with pytest.raises(OSError, match=r"exists|directory"):
        FileSpool(tmp_path / "spool").check()
