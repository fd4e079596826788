"""The breaker in front of a KMS: when it asks, when it spares itself the question, and what it counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.support.fake_keys import Clock, FakeKms
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.kms.guard import FIRST_PAUSE_S, LONGEST_PAUSE_S, PROBE_LIFE_S, TRIP_AFTER, TRIP_AFTER_S, GuardedKms

CONTEXT = {"tenant": "acme"}
KEY = bytes(32)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kms() -> FakeKms:
    return FakeKms()


@pytest.fixture
def guarded(kms: FakeKms, clock: Clock) -> GuardedKms:
    return GuardedKms(kms, clock)


def fail(guarded: GuardedKms, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(KeyUnavailable) as refusal:
            guarded.wrap(KEY, CONTEXT)
        assert refusal.value.transient


def test_while_all_is_well_it_is_not_noticed(guarded: GuardedKms, kms: FakeKms) -> None:
    assert guarded.unwrap(guarded.wrap(KEY, CONTEXT), CONTEXT) == KEY
    assert guarded.describe() == kms.describe()
    assert guarded.holds("kek-1")
    assert not guarded.holds("nobody's")


def test_a_kms_in_trouble_is_left_alone_for_ever_longer_and_noticed_when_it_is_back(
    guarded: GuardedKms, kms: FakeKms, clock: Clock
) -> None:
    kms.unavailable(transient=True)
    fail(guarded, TRIP_AFTER)
    assert len(kms.calls) == TRIP_AFTER
    pause, longest = FIRST_PAUSE_S, 0.0
    for probes in range(8):
        fail(guarded, 10)
        assert len(kms.calls) == TRIP_AFTER + probes, "nobody asked during the pause"
        clock.pass_by(pause)
        fail(guarded)
        pause, longest = min(2 * pause, LONGEST_PAUSE_S), max(longest, pause)
    assert longest == LONGEST_PAUSE_S
    kms.recover()
    clock.pass_by(LONGEST_PAUSE_S)
    guarded.wrap(KEY, CONTEXT)
    kms.unavailable(transient=True)
    calls = len(kms.calls)
    fail(guarded, TRIP_AFTER)
    assert len(kms.calls) == calls + TRIP_AFTER, "it began anew"


def test_a_kms_that_lets_callers_wait_is_left_alone_at_once(guarded: GuardedKms, kms: FakeKms, clock: Clock) -> None:
    kms.unavailable(transient=True)
    kms.during_call = lambda _: clock.pass_by(TRIP_AFTER_S / 2)
    fail(guarded, 1)
    kms.recover()
    guarded.wrap(KEY, CONTEXT)
    kms.unavailable(transient=True)
    fail(guarded, 10)
    assert len(kms.calls) == 4, "the wait before the answer does not count"
    clock.pass_by(FIRST_PAUSE_S)
    kms.recover()
    guarded.wrap(KEY, CONTEXT)


def test_a_refusal_is_an_answer_and_pauses_nothing(guarded: GuardedKms, kms: FakeKms) -> None:
    kms.unavailable(transient=True)
    fail(guarded, TRIP_AFTER - 1)
    kms.unavailable(transient=False)
    for _ in range(3 * TRIP_AFTER):
        with pytest.raises(KeyUnavailable) as refusal:
            guarded.wrap(KEY, CONTEXT)
        assert not refusal.value.transient
    assert len(kms.calls) == 4 * TRIP_AFTER - 1
    kms.unavailable(transient=True)
    fail(guarded, TRIP_AFTER)


def test_of_a_hundred_only_one_tries_whether_it_is_back(guarded: GuardedKms, kms: FakeKms, clock: Clock) -> None:
    kms.unavailable(transient=True)
    fail(guarded, TRIP_AFTER)
    clock.pass_by(FIRST_PAUSE_S)
    kms.calls.clear()
    asked, answer = threading.Event(), threading.Event()

    def hang(tenant: str) -> None:
        asked.set()
        assert answer.wait(20)

    kms.during_call = hang
    with ThreadPoolExecutor(1) as probe:
        probing = probe.submit(fail, guarded)
        assert asked.wait(20)
        fail(guarded, 100)
        answer.set()
        probing.result(20)
    assert len(kms.calls) == 1


def test_a_probe_that_never_ends_is_not_waited_for(guarded: GuardedKms, kms: FakeKms, clock: Clock) -> None:
    kms.unavailable(transient=True)
    fail(guarded, TRIP_AFTER)
    clock.pass_by(FIRST_PAUSE_S)

    class Gone(BaseException):
        """The thread that asked is no more."""

    def vanish(tenant: str) -> None:
        raise Gone

    kms.during_call = vanish
    with pytest.raises(Gone):
        guarded.wrap(KEY, CONTEXT)
    kms.during_call = lambda tenant: None
    kms.recover()
    fail(guarded)
    clock.pass_by(PROBE_LIFE_S)
    guarded.wrap(KEY, CONTEXT)


def test_failures_that_were_on_their_way_make_no_pause_longer(guarded: GuardedKms, kms: FakeKms, clock: Clock) -> None:
    kms.unavailable(transient=True)
    together = threading.Barrier(50)

    def fail_at_once(tenant: str) -> None:
        together.wait(20)

    kms.during_call = fail_at_once
    with ThreadPoolExecutor(50) as threads:
        for failed in [threads.submit(fail, guarded) for _ in range(50)]:
            failed.result(20)
    kms.during_call = lambda tenant: None
    kms.recover()
    clock.pass_by(FIRST_PAUSE_S)
    guarded.wrap(KEY, CONTEXT)


def read(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def counted() -> Iterator[dict[str, float]]:
    samples = {
        "wrapped": ("evergrant_kms_calls_total", {"operation": "wrap", "outcome": "ok"}),
        "unwrapped": ("evergrant_kms_calls_total", {"operation": "unwrap", "outcome": "ok"}),
        "failed": ("evergrant_kms_calls_total", {"operation": "unwrap", "outcome": "error"}),
        "not_encrypted": ("evergrant_kms_encrypt_errors_total", {"cause": "refused"}),
        "unavailable": ("evergrant_kms_decrypt_errors_total", {"cause": "unavailable"}),
        "integrity": ("evergrant_kms_decrypt_errors_total", {"cause": "integrity"}),
        "encrypt_times": ("evergrant_kms_encrypt_duration_seconds_count", {}),
        "decrypt_times": ("evergrant_kms_decrypt_duration_seconds_count", {}),
    }
    before = {name: read(sample, **labels) for name, (sample, labels) in samples.items()}
    change: dict[str, float] = {}
    yield change
    told = {name: read(sample, **labels) - before[name] for name, (sample, labels) in samples.items()}
    assert {name: number for name, number in told.items() if number} == change


def test_every_call_is_counted_and_timed(guarded: GuardedKms, kms: FakeKms, counted: dict[str, float]) -> None:
    wrapped = guarded.wrap(KEY, CONTEXT)
    guarded.unwrap(wrapped, CONTEXT)
    failures: list[tuple[VaultError, bool]] = [
        (KeyUnavailable("kek-1", "throttled", transient=True), True), (CannotOpen(), True),
        (KeyUnavailable("kek-1", "denied", transient=False), False),
    ]  # fmt: skip
    with capture_logs() as logs:
        for failure, opening in failures:
            kms.failures["*"] = failure
            with pytest.raises(type(failure)):
                guarded.unwrap(wrapped, CONTEXT) if opening else guarded.wrap(KEY, CONTEXT)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("error", "kms.integrity")]
    counted.update(
        wrapped=1, unwrapped=1, failed=2, not_encrypted=1, unavailable=1, integrity=1, encrypt_times=2, decrypt_times=3
    )
