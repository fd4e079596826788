"""The keyring: how few questions it asks, how long it remembers, and what it does when the KMS does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from tests.support import reference
from tests.support.fake_keys import FakeKeks, FakeKeys, Killed, Rig
from vault.envelope import TenantKey, context, open_envelope, seal
from vault.errors import CannotOpen, KeyUnavailable, VaultError
from vault.keyring import Keyring

ROW = UUID(int=77)
BOUND_TO = context("acme", ROW, "access_token")


def read_metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def at_once(count: int, work: Callable[[], object]) -> list[object]:
    """Do the same thing in many threads that start together; errors are among the answers."""
    barrier = threading.Barrier(count)

    def one(_: int) -> object:
        barrier.wait()
        try:
            return work()
        except VaultError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# ------------------------------------------------------------------------------------------------------------ first use


def test_the_first_value_of_an_owner_makes_both_keys_and_another_process_opens_it() -> None:
    rig = Rig()
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    envelope = seal(key, b"a token", BOUND_TO, 1)
    assert open_envelope(rig.another_process().opening_key(key.id), envelope, BOUND_TO, 1) == b"a token"


def test_owners_providers_and_tenants_have_keys_of_their_own() -> None:
    rig = Rig()
    owners = [
        ("acme", "ann", "spotify"),
        ("acme", "ann", "tidal"),
        ("acme", "bob", "spotify"),
        ("umbra", "ann", "spotify"),
    ]
    assert len({rig.keyring.sealing_key(*owner).id for owner in owners}) == 4
    assert {tenant for _, tenant in rig.kms.calls} == {"acme", "umbra"}
    assert len(rig.keys.tenant_keys) == 2


def test_the_kms_is_told_what_a_tenant_key_is_for() -> None:
    rig = Rig()
    told: list[object] = []
    wrap = rig.kms.wrap
    rig.kms.wrap = lambda key, context: (told.append(dict(context)), wrap(key, context))[1]  # type: ignore[method-assign,func-returns-value]
    rig.keyring.sealing_key("acme", "ann", "spotify")
    key_id = str(next(iter(rig.keys.tenant_keys)))
    assert told == [{"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": key_id}]


def test_of_many_processes_that_make_the_first_key_at_once_all_use_the_same() -> None:
    rig = Rig()
    made = at_once(16, lambda: rig.another_process().sealing_key("acme", "ann", "spotify").id)
    assert len(set(map(str, made))) == 1
    assert len(rig.keys.tenant_keys) == len(rig.keys.data_keys) == 1


def test_a_kek_that_wraps_but_does_not_unwrap_is_noticed_before_anything_depends_on_it() -> None:
    rig = Rig()

    def allow_wrap_only(tenant: str) -> None:
        rig.kms.failures.clear()
        if rig.kms.calls[-1][0] == "unwrap":
            rig.kms.unavailable(transient=False)

    rig.kms.during_call = allow_wrap_only
    with pytest.raises(KeyUnavailable):
        rig.keyring.sealing_key("acme", "ann", "spotify")
    assert not rig.keys.tenant_keys
    assert not rig.keys.data_keys


def test_a_process_killed_between_any_two_calls_leaves_no_key_that_cannot_be_unwrapped() -> None:
    for calls in range(8):
        rig = Rig()
        rig.keys.calls_left = calls
        with contextlib.suppress(Killed):
            rig.keyring.sealing_key("acme", "ann", "spotify")
        rig.keys.calls_left = None
        for record in list(rig.keys.data_keys.values()):
            rig.another_process().key(record)
        rig.another_process().sealing_key("acme", "ann", "spotify")


# ---------------------------------------------------------------------------------------------------- asking few things


def test_a_key_at_hand_costs_no_question() -> None:
    rig = Rig()
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    rig.keys.reads.clear()
    rig.kms.calls.clear()
    assert rig.keyring.cached(key.id) is key
    assert rig.keyring.opening_key(key.id) is key
    assert rig.keyring.key(rig.keys.data_keys[key.id]) is key
    assert rig.keyring.sealing_key("acme", "ann", "spotify") is key
    assert not rig.keys.reads
    assert not rig.kms.calls


def test_a_cold_owner_of_a_warm_tenant_costs_neither_the_store_nor_the_kms_when_the_record_is_at_hand() -> None:
    rig = Rig()
    records = [rig.keys.data_keys[rig.keyring.sealing_key("acme", owner, "spotify").id] for owner in ("ann", "bob")]
    reader = rig.another_process()
    reader.key(records[0])
    rig.keys.reads.clear()
    rig.kms.calls.clear()
    reader.key(records[1])
    assert not rig.keys.reads
    assert not rig.kms.calls


def test_a_hundred_threads_opening_for_one_tenant_make_one_kms_call() -> None:
    rig = Rig()
    records = [rig.keys.data_keys[rig.keyring.sealing_key("acme", f"owner-{n}", "spotify").id] for n in range(100)]
    rig.kms.calls.clear()
    rig.kms.during_call = lambda tenant: threading.Event().wait(0.05)  # type: ignore[assignment]  # a slow one
    reader, remaining = rig.another_process(), list(records)
    answers = at_once(100, lambda: reader.key(remaining.pop()))
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert rig.kms.calls == [("unwrap", "acme")]


def test_a_tenant_whose_kms_hangs_holds_up_nobody_else() -> None:
    rig = Rig()
    slow, quick = (rig.keyring.sealing_key(tenant, "ann", "spotify").id for tenant in ("slow", "quick"))
    reader, asked, answer = rig.another_process(), threading.Event(), threading.Event()

    def hang(tenant: str) -> None:
        if tenant == "slow":
            asked.set()
            assert answer.wait(30)

    rig.kms.during_call = hang
    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(reader.opening_key, slow)
        assert asked.wait(30)
        assert pool.submit(reader.opening_key, quick).result(30).id == quick
        assert not hanging.done()
        answer.set()
        assert hanging.result(30).id == slow


def test_what_is_cached_and_what_the_kms_is_asked_is_counted() -> None:
    rig = Rig()
    hits, misses = (read_metric("evergrant_kms_key_cache_total", result=result) for result in ("hit", "miss"))
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    for _ in range(3000):
        rig.keyring.cached(key.id)
    rig.keyring.sealing_key("acme", "bob", "spotify")
    reader = rig.another_process()
    rig.kms.unavailable(transient=True)
    with pytest.raises(KeyUnavailable):
        reader.opening_key(key.id)
    assert read_metric("evergrant_kms_key_cache_total", result="hit") - hits == 3000
    assert read_metric("evergrant_kms_key_cache_total", result="miss") - misses == 3


# --------------------------------------------------------------------------------------------------- forgetting in time


def test_no_key_outlives_the_cache_life() -> None:
    rig = Rig(life=timedelta(minutes=5))
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    rig.clock.pass_by(timedelta(minutes=5) - timedelta(milliseconds=1))
    assert rig.keyring.cached(key.id) is key
    rig.clock.pass_by(timedelta(milliseconds=1))
    assert rig.keyring.cached(key.id) is None


def test_no_data_key_outlives_the_tenant_key_it_came_from() -> None:
    """Otherwise a disabled KEK would lock a tenant after up to two cache lives."""
    rig = Rig(life=timedelta(minutes=5))
    rig.keyring.sealing_key("acme", "ann", "spotify")
    rig.clock.pass_by(timedelta(minutes=4))
    late = rig.keyring.sealing_key("acme", "bob", "spotify")
    rig.kms.unavailable("acme", transient=False)
    rig.clock.pass_by(timedelta(minutes=1))
    assert rig.keyring.cached(late.id) is None
    with pytest.raises(KeyUnavailable):
        rig.keyring.opening_key(late.id)


def test_the_cache_is_bounded_and_what_is_used_stays() -> None:
    rig = Rig(capacity=3)
    first = rig.keyring.sealing_key("acme", "first", "spotify")
    others = []
    for number in range(10):
        others.append(rig.keyring.sealing_key("acme", f"other-{number}", "spotify"))
        assert rig.keyring.cached(first.id) is first
    held = [key for key in (first, *others) if rig.keyring.cached(key.id) is not None]
    assert held == [first, *others[-2:]]


def test_a_key_that_has_served_often_enough_is_unwrapped_anew() -> None:
    rig = Rig(uses=3)
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    served = [rig.keyring.cached(key.id) for _ in range(4)]
    assert served == [key, key, key, None]
    calls = len(rig.kms.calls)
    anew = rig.keyring.sealing_key("acme", "ann", "spotify")
    assert (anew.id, anew is key) == (key.id, False)
    assert rig.keyring.cached(key.id) is anew
    assert len(rig.kms.calls) == calls, "its tenant key was at hand"


def test_tenants_are_bounded_too() -> None:
    rig = Rig(capacity=2)
    for tenant in ("a", "b", "c", "a", "b", "c"):
        rig.keyring.sealing_key(tenant, "ann", "spotify")
    assert len(rig.keyring._inquiries) <= 2


def test_an_evicted_key_is_gone_from_memory_once_nobody_uses_it() -> None:
    rig = Rig(capacity=1)
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    remains = weakref.ref(key)
    envelope = seal(key, b"a token", BOUND_TO, 1)
    rig.keyring.sealing_key("acme", "bob", "spotify")
    assert open_envelope(key, envelope, BOUND_TO, 1) == b"a token", "whoever still holds it is not left with ruins"
    del key
    assert remains() is None


def test_forgetting_forgets_everything() -> None:
    rig = Rig()
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    rig.keyring.fingerprint("acme", ROW, "text")
    rig.keyring.forget()
    rig.kms.unavailable(transient=False)
    assert rig.keyring.cached(key.id) is None
    for use in (
        lambda: rig.keyring.opening_key(key.id),
        lambda: rig.keyring.sealing_key("acme", "ann", "spotify"),
        lambda: rig.keyring.fingerprint("acme", ROW, "text"),
    ):
        with pytest.raises(KeyUnavailable):
            use()


def test_an_unwrap_on_its_way_does_not_fill_what_was_just_forgotten() -> None:
    rig = Rig()
    key_id = rig.keyring.sealing_key("acme", "ann", "spotify").id
    reader = rig.another_process()
    rig.kms.during_call = lambda tenant: reader.forget()
    reader.opening_key(key_id)
    assert reader.cached(key_id) is None


def test_a_forked_child_starts_with_nothing_even_when_a_thread_of_its_parent_was_asking() -> None:
    rig = Rig()
    warm = rig.keyring.sealing_key("acme", "ann", "spotify").id
    cold = rig.another_process().sealing_key("slow", "ann", "spotify").id
    asked, answer = threading.Event(), threading.Event()

    def hang(tenant: str) -> None:
        if tenant == "slow":
            asked.set()
            assert answer.wait(30)

    rig.kms.during_call = hang
    thread = threading.Thread(target=rig.keyring.opening_key, args=(cold,))
    thread.start()
    assert asked.wait(30)
    child = os.fork()
    if child == 0:  # nothing of pytest may run in here
        signal.alarm(30)  # if it is stuck after all
        rig.kms.during_call = lambda tenant: None
        empty = rig.keyring.cached(warm) is None
        works = rig.keyring.opening_key(cold).id == cold  # not stuck behind a lock whose holder does not exist here
        os._exit(0 if empty and works else 1)
    answer.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rig.keyring.cached(warm) is not None, "the parent forgets nothing"


# --------------------------------------------------------------------------------------------------- when it is refused


def test_without_grace_known_tenants_are_served_to_the_end_of_their_life_while_the_kms_is_away() -> None:
    rig = Rig(life=timedelta(minutes=5))
    records = [rig.keys.data_keys[rig.keyring.sealing_key("acme", owner, "spotify").id] for owner in ("ann", "bob")]
    reader = rig.another_process()
    reader.key(records[0])
    rig.kms.unavailable(transient=True)
    rig.clock.pass_by(timedelta(minutes=4))
    reader.key(records[1])
    rig.clock.pass_by(timedelta(minutes=1))
    with pytest.raises(KeyUnavailable) as refusal:
        reader.key(records[1])
    assert refusal.value.transient
    rig.kms.recover()
    rig.clock.pass_by(timedelta(seconds=1))
    assert reader.key(records[1]).id == records[1].id


def _in_grace() -> tuple[Rig, Keyring, UUID]:
    """A keyring whose only key has come to the end of its life, while the KMS does not answer."""
    rig = Rig(life=timedelta(minutes=5), grace=timedelta(hours=1))
    key_id = rig.keyring.sealing_key("acme", "ann", "spotify").id
    reader = rig.another_process()
    reader.opening_key(key_id)
    rig.kms.unavailable(transient=True)
    rig.clock.pass_by(timedelta(minutes=5))
    return rig, reader, key_id


def test_a_key_goes_on_serving_for_a_while_when_its_kms_gives_no_answer_at_all() -> None:
    rig, reader, key_id = _in_grace()
    kept = read_metric("evergrant_kms_kept_keys_total")
    for _ in range(3599):
        assert reader.opening_key(key_id).id == key_id
        assert reader.sealing_key("acme", "ann", "spotify").id == key_id
        rig.clock.pass_by(timedelta(seconds=1))
    assert read_metric("evergrant_kms_kept_keys_total") > kept
    rig.clock.pass_by(timedelta(seconds=1))
    with pytest.raises(KeyUnavailable) as refusal:
        reader.opening_key(key_id)
    assert refusal.value.transient


def test_in_that_while_the_kms_is_asked_once_a_second_and_its_answer_counts_at_once() -> None:
    rig, reader, key_id = _in_grace()
    reader.opening_key(key_id)
    rig.kms.calls.clear()
    at_once(50, lambda: reader.opening_key(key_id))
    rig.clock.pass_by(timedelta(seconds=1))
    at_once(50, lambda: reader.opening_key(key_id))
    assert len(rig.kms.calls) == 1
    rig.kms.unavailable("acme", transient=False)
    rig.clock.pass_by(timedelta(seconds=1))
    with pytest.raises(KeyUnavailable):
        reader.opening_key(key_id)
    rig.kms.unavailable("acme", transient=True)
    rig.clock.pass_by(timedelta(seconds=1))
    with pytest.raises(KeyUnavailable):
        reader.opening_key(key_id)


def test_a_key_that_was_destroyed_has_no_such_while() -> None:
    rig, reader, key_id = _in_grace()
    reader.opening_key(key_id)
    [(tenant_key_id, record)] = rig.keys.tenant_keys.items()
    rig.keys.tenant_keys[tenant_key_id] = record._replace(wrapped=record.wrapped._replace(ciphertext=b""))
    rig.clock.pass_by(timedelta(seconds=1))
    with pytest.raises(KeyUnavailable, match="destroyed"):
        reader.opening_key(key_id)


def test_once_a_kms_is_known_to_be_silent_nobody_waits_for_who_asks_it_again() -> None:
    rig, reader, key_id = _in_grace()
    reader.opening_key(key_id)
    asking, answer = threading.Event(), threading.Event()

    def hang(_: str) -> None:
        asking.set()
        answer.wait(10)

    rig.kms.during_call = hang
    rig.clock.pass_by(timedelta(seconds=1))
    thread = threading.Thread(target=reader.opening_key, args=(key_id,))
    thread.start()
    assert asking.wait(10)
    assert reader.opening_key(key_id).id == key_id
    answer.set()
    thread.join()


@pytest.mark.parametrize("transient", [True, False])
def test_a_refusal_is_repeated_for_a_second_without_asking_again(transient: bool) -> None:
    rig = Rig()
    key_id = rig.keyring.sealing_key("acme", "ann", "spotify").id
    reader = rig.another_process()
    rig.kms.unavailable(transient=transient)
    rig.kms.calls.clear()
    answers = at_once(100, lambda: reader.opening_key(key_id))
    assert {type(answer) for answer in answers} == {KeyUnavailable}
    assert {answer.transient for answer in answers if isinstance(answer, KeyUnavailable)} == {transient}
    assert len(set(map(id, answers))) == 100, "each thread gets an error of its own"
    assert len(rig.kms.calls) == 1
    rig.kms.recover()
    with pytest.raises(KeyUnavailable):
        reader.opening_key(key_id)
    rig.clock.pass_by(1.0)
    assert reader.opening_key(key_id).id == key_id


def test_one_tenant_refused_leaves_the_others_alone() -> None:
    rig = Rig()
    locked, open_ = (rig.keyring.sealing_key(tenant, "ann", "spotify").id for tenant in ("locked", "open"))
    reader = rig.another_process()
    rig.kms.unavailable("locked", transient=False)
    with pytest.raises(KeyUnavailable):
        reader.opening_key(locked)
    assert reader.opening_key(open_).id == open_


def test_a_tenant_key_of_another_tenant_does_not_unwrap() -> None:
    rig = Rig()
    key_id = rig.keyring.sealing_key("acme", "ann", "spotify").id
    [(tenant_key_id, record)] = rig.keys.tenant_keys.items()
    rig.keys.tenant_keys[tenant_key_id] = record._replace(tenant="umbra")
    with pytest.raises(CannotOpen):
        rig.another_process().opening_key(key_id)


def test_a_key_that_does_not_exist_or_was_destroyed_is_unavailable_for_good() -> None:
    rig = Rig()
    key_id = rig.keyring.sealing_key("acme", "ann", "spotify").id
    rig.keys.data_keys[key_id] = rig.keys.data_keys[key_id]._replace(wrapped=b"")
    for missing in (UUID(int=999), key_id):
        with pytest.raises(KeyUnavailable) as refusal:
            rig.another_process().opening_key(missing)
        assert not refusal.value.transient
        assert str(missing) in str(refusal.value)


def test_no_error_and_no_repr_shows_a_key() -> None:
    rig = Rig()
    key = rig.keyring.sealing_key("acme", "ann", "spotify")
    raw = (1).to_bytes(32, "big")  # the first randomness of the rig: the tenant key
    for shown in (repr(rig.keyring), repr(vars(rig.keyring)), repr(key), repr(TenantKey(ROW, raw))):
        assert raw.hex() not in shown
        assert repr(raw)[2:-1] not in shown


# ---------------------------------------------------------------------------------------------------------- currentness


def test_a_key_replaced_by_another_process_is_noticed_within_the_cache_life() -> None:
    rig = Rig(life=timedelta(minutes=5))
    old = rig.keyring.sealing_key("acme", "ann", "spotify")
    rotator = rig.another_process()
    new = rotator.new_data_key("acme", "ann", "spotify")
    assert rig.keys.replace_data_keys([(rig.keys.data_keys[old.id], new)])
    assert rig.keyring.sealing_key("acme", "ann", "spotify").id == old.id
    assert rig.keyring.current_key("acme", "ann", "spotify").id == new.id
    assert rig.keyring.sealing_key("acme", "ann", "spotify").id == new.id
    rig.clock.pass_by(timedelta(minutes=5))
    assert rotator.sealing_key("acme", "ann", "spotify").id == new.id
    assert rig.keyring.opening_key(old.id).id == old.id, "the old one goes on opening"


# --------------------------------------------------------------------------------------------------------- fingerprints


def test_a_fingerprint_is_the_same_in_every_process_and_differs_by_tenant_subject_and_text() -> None:
    rig = Rig()
    first = rig.keyring.fingerprint("acme", ROW, "a refresh token")
    assert len(first) == 16
    assert rig.another_process().fingerprint("acme", ROW, "a refresh token") == first
    others = [
        rig.keyring.fingerprint("umbra", ROW, "a refresh token"),
        rig.keyring.fingerprint("acme", UUID(int=78), "a refresh token"),
        rig.keyring.fingerprint("acme", ROW, "another"),
        rig.keyring.fingerprint("acme", ROW, ""),
    ]
    assert len({first, *others}) == 5


def test_a_fingerprint_has_the_documented_form() -> None:
    rig = Rig()
    made = rig.keyring.fingerprint("acme", ROW, "a refresh token")
    [record] = rig.keys.data_keys.values()
    assert (record.owner, record.provider, record.purpose) == ("", "", "fingerprint")
    [wrapped] = rig.keys.tenant_keys.values()
    bound_to = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": str(wrapped.id)}
    raw = TenantKey(wrapped.id, rig.kms.unwrap(wrapped.wrapped, bound_to)).unwrap(record)
    assert made == reference.fingerprint(bytes(raw), "acme", ROW, "a refresh token")


def test_a_fingerprint_of_a_known_tenant_costs_no_second_kms_call() -> None:
    rig = Rig()
    rig.keyring.sealing_key("acme", "ann", "spotify")
    rig.kms.calls.clear()
    for text in ("one", "two"):
        rig.keyring.fingerprint("acme", ROW, text)
    assert not rig.kms.calls


def test_a_fingerprinter_in_hand_works_whatever_happens_to_the_kms() -> None:
    rig = Rig()
    fingerprint = rig.keyring.fingerprinter("acme")
    before = fingerprint(ROW, "text")
    rig.kms.unavailable(transient=False)
    rig.keyring.forget()
    assert fingerprint(ROW, "text") == before


def test_the_fakes_are_what_the_keyring_takes() -> None:
    """mypy reads this line: both fakes satisfy the ports."""
    rig = Rig()
    keks: FakeKeks = rig.keks
    keys: FakeKeys = rig.keys
    assert isinstance(Keyring(keks, keys, monotonic=rig.clock, random=os.urandom, new_id=lambda: ROW), Keyring)
