"""Rotation: new keys come in, old values stay open, wherever a run ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.support.fake_keys import Clock, FakeKms, Killed, Rig
from vault.claims import DataKeyRecord
from vault.engine.sweep import BATCH, Progress, paced
from vault.envelope import context, key_id, open_envelope, seal
from vault.errors import CannotOpen, KeyUnavailable
from vault.keyring import Keyring
from vault.ports import SealedRow
from vault.services.rewrap import Rewrapping
from vault.services.rotation import DataKeyRotation
from vault.services.tenant_keys import TenantKeyRotation

DAY = timedelta(days=1)
MONTH = timedelta(days=30)


class Rotation:
    """Every rotation, over one keyring."""

    def __init__(self, rig: Rig, keyring: Keyring) -> None:
        rewrapping = Rewrapping(keyring, rig.keys)
        self.rewrap, self.remaining = rewrapping.run, rewrapping.remaining
        self.rotate_tenant_keys = TenantKeyRotation(keyring, rig.keys, rig.keys, monotonic=rig.clock).run
        data_keys = DataKeyRotation(keyring, rig.keys, monotonic=rig.clock)
        self.rotate_data_keys, self.rows_left = data_keys.run, data_keys.remaining


def rotation(rig: Rig, keyring: Keyring | None = None) -> Rotation:
    return Rotation(rig, keyring or rig.keyring)


def add_grant(rig: Rig, number: int, *, tenant: str = "acme", owner: str | None = None, refresh: bool = True) -> UUID:
    connection_id = UUID(int=10_000 + number)
    owner = owner or f"owner-{number}"
    key = rig.keyring.sealing_key(tenant, owner, "spotify")
    version = number % 7
    access, refresh_token = (
        seal(key, f"{field} {number}".encode(), context(tenant, connection_id, field), version)
        for field in ("access_token", "refresh_token")
    )
    envelopes = (("access_token", access), ("refresh_token", refresh_token if refresh else None))
    rig.keys.rows[connection_id] = SealedRow(
        "oauth_grant", connection_id, tenant, owner, "spotify", version, key.id, envelopes
    )
    return connection_id


def assert_everything_opens(rig: Rig, numbers: Iterable[int]) -> None:
    """By the eyes of a process that has just started."""
    keyring = rig.another_process()
    for number in numbers:
        grant = rig.keys.rows[UUID(int=10_000 + number)]
        for field, envelope in grant.envelopes:
            if envelope is not None:
                assert key_id(envelope) == grant.data_key_id
                key = keyring.opening_key(grant.data_key_id)
                opened = open_envelope(key, envelope, context(grant.tenant, grant.subject, field), grant.version)
                assert opened == f"{field} {number}".encode()


def states(rig: Rig) -> dict[str, int]:
    found = [record.state for record in rig.keys.data_keys.values()]
    return {state: found.count(state) for state in ("current", "previous", "retired")}


# --------------------------------------------------------------------------------------------------------------- rewrap


def test_rewrapping_moves_every_tenant_under_the_kek_in_use_and_proves_it() -> None:
    rig = Rig()
    for number in range(2 * BATCH + 3):
        add_grant(rig, number, tenant=f"tenant-{number}")
    rig.kms.in_use = "kek-2"
    told: list[Progress] = []
    assert rotation(rig).remaining() == 403
    assert rotation(rig).rewrap(told.append) == 403
    assert [progress.keys for progress in told] == [200, 400, 403]
    assert rotation(rig).remaining() == 0
    del rig.kms.keks["kek-1"]
    assert_everything_opens(rig, range(403))
    assert rotation(rig).rewrap() == 0


def test_rewrapping_costs_tenants_whatever_they_own() -> None:
    rig = Rig()
    for number in range(50):
        add_grant(rig, number)
    rig.kms.in_use = "kek-2"
    rig.kms.calls.clear()
    assert rotation(rig).rewrap() == 1
    assert rig.kms.count("wrap") == 1
    assert rig.kms.count("unwrap") == 2, "one for the old, one to prove the new"


def test_a_tenant_whose_kek_refuses_is_left_as_it_is_and_the_others_are_done() -> None:
    rig = Rig()
    for number, tenant in enumerate(["locked", "damaged", "one", "two"]):
        add_grant(rig, number, tenant=tenant)
    rig.kms.in_use = "kek-2"
    rig.kms.unavailable("locked", transient=False)
    rig.kms.failures["damaged"] = CannotOpen()
    told: list[Progress] = []
    with capture_logs() as logs:
        assert rotation(rig, rig.another_process()).rewrap(told.append) == 2
    assert told[-1] == Progress(keys=2, refused=1, cannot_open=1)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("error", "tenant_keys_rewrapped")]
    assert rotation(rig).remaining() == 2
    rig.kms.recover()
    assert rotation(rig).rewrap() == 2
    assert_everything_opens(rig, range(4))


def test_one_tenant_without_an_answer_does_not_stop_the_others_and_asks_for_another_run() -> None:
    rig = Rig()
    for number, tenant in enumerate(["silent", "one", "two", "three", "four"]):
        add_grant(rig, number, tenant=tenant)
    rig.kms.in_use = "kek-2"
    rig.kms.unavailable("silent", transient=True)
    with pytest.raises(KeyUnavailable) as refusal:
        rotation(rig).rewrap()
    assert refusal.value.transient
    assert rotation(rig).remaining() == 1


def test_an_outage_of_the_kms_ends_the_run_after_a_few_calls() -> None:
    rig = Rig()
    for number in range(100):
        add_grant(rig, number, tenant=f"tenant-{number}")
    rig.kms.in_use = "kek-2"
    rig.kms.unavailable(transient=True)
    rig.kms.calls.clear()
    with pytest.raises(KeyUnavailable):
        rotation(rig).rewrap()
    assert len(rig.kms.calls) == 3


def test_a_new_kek_that_does_not_unwrap_replaces_nothing() -> None:
    rig = Rig()
    add_grant(rig, 1)
    rig.kms.in_use = "kek-2"
    wrap = rig.kms.wrap

    def wrap_and_be_locked_out(key: bytes, context: dict[str, str]) -> object:
        wrapped = wrap(key, context)
        rig.kms.unavailable(transient=False)
        return wrapped

    rig.kms.wrap = wrap_and_be_locked_out  # type: ignore[method-assign,assignment]
    assert rotation(rig).rewrap() == 0
    rig.kms.recover()
    assert [record.wrapped.kek_id for record in rig.keys.tenant_keys.values()] == ["kek-1"]
    assert_everything_opens(rig, [1])


def test_two_rewraps_at_a_time_undo_nothing_of_each_other() -> None:
    rig = Rig()
    for number in range(10):
        add_grant(rig, number, tenant=f"tenant-{number}")
    rig.kms.in_use = "kek-2"
    done_by_other: list[int] = []

    def other_is_quicker() -> None:
        rig.keys.before_swap = lambda: None
        done_by_other.append(rotation(rig, rig.another_process()).rewrap())

    rig.keys.before_swap = other_is_quicker
    assert rotation(rig).rewrap() == 0
    assert done_by_other == [10]
    assert rotation(rig).remaining() == 0
    assert_everything_opens(rig, range(10))


def test_a_kms_that_describes_itself_by_another_name_than_it_wraps_under_does_not_keep_us_for_ever() -> None:
    rig = Rig()
    add_grant(rig, 1)
    rig.kms.describe = lambda: "alias/kek"  # type: ignore[method-assign]
    rotation(rig).rewrap()
    assert rotation(rig).remaining() == 1


# ------------------------------------------------------------------------------------------------------------ data keys


def test_old_data_keys_are_replaced_their_grants_resealed_and_the_keys_retired() -> None:
    rig = Rig()
    for number in range(BATCH + 50):
        add_grant(rig, number, refresh=number % 3 > 0)
    before = dict(rig.keys.rows)
    rig.clock.pass_by(MONTH)
    add_grant(rig, 900)
    told: list[Progress] = []
    assert rotation(rig).rotate_data_keys(MONTH, told.append) == BATCH + 50
    assert told[-1] == Progress(keys=BATCH + 50, rows=BATCH + 50)
    assert states(rig) == {"current": BATCH + 51, "previous": 0, "retired": BATCH + 50}
    for connection_id, old in before.items():
        new = rig.keys.rows[connection_id]
        assert new.data_key_id != old.data_key_id
        assert new.version == old.version, "nothing a refresh compares has changed"
        for (field, was), (same, now) in zip(old.envelopes, new.envelopes, strict=True):
            assert field == same
            assert (now is None) == (was is None)
            assert now is None or now != was
    assert_everything_opens(rig, [*range(BATCH + 50), 900])
    assert rotation(rig).rotate_data_keys(MONTH) == 0


def test_a_sweep_reads_and_writes_by_the_batch_and_not_by_the_key() -> None:
    rig = Rig()
    for number in range(50):
        add_grant(rig, number)
    rig.clock.pass_by(MONTH)
    sweeper = rig.another_process()
    rig.keys.reads.clear()
    rotation(rig, sweeper).rotate_data_keys(MONTH)
    assert rig.keys.reads.count("replace_data_keys") == rig.keys.reads.count("reseal") == 1
    assert rig.keys.reads.count("current_tenant_key") == 1
    assert rig.keys.reads.count("data_key") == rig.keys.reads.count("current_data_key") == 0


def test_a_sweep_drives_nobody_out_of_the_cache_and_has_those_in_use_seal_with_their_new_keys() -> None:
    rig = Rig(capacity=3)
    for number in range(20):
        add_grant(rig, number)
    worker = rig.another_process()
    busy = worker.sealing_key("acme", "owner-7", "spotify")
    rig.clock.pass_by(timedelta(minutes=1))
    assert rotation(rig, worker).rotate_data_keys(timedelta(seconds=30)) == 20
    assert worker.cached(busy.id) is busy
    rig.keys.reads.clear()
    new = worker.sealing_key("acme", "owner-7", "spotify")
    assert rig.keys.data_keys[new.id].state == "current"
    assert rig.keys.reads == []


def test_the_fingerprint_key_is_never_replaced() -> None:
    rig = Rig()
    before = rig.keyring.fingerprint("acme", UUID(int=1), "text")
    rig.clock.pass_by(MONTH)
    assert rotation(rig).rotate_data_keys(timedelta(0)) == 0
    assert rig.another_process().fingerprint("acme", UUID(int=1), "text") == before


def test_rotating_on_demand_replaces_every_key_once() -> None:
    rig = Rig()
    for number in range(5):
        add_grant(rig, number)
    rig.keys.before_swap = lambda: rig.clock.pass_by(1)
    assert rotation(rig).rotate_data_keys(timedelta(0)) == 5
    assert_everything_opens(rig, range(5))


def test_a_limit_is_kept() -> None:
    rig = Rig()
    for number in range(10):
        add_grant(rig, number)
    rig.clock.pass_by(MONTH)
    assert rotation(rig).rotate_data_keys(MONTH, limit=3) == 3
    assert states(rig) == {"current": 10, "previous": 0, "retired": 3}
    assert rotation(rig).rotate_data_keys(MONTH, limit=0) == 0
    assert rotation(rig).rotate_data_keys(MONTH) == 7


def test_a_grant_that_does_not_open_is_counted_and_logged_without_detail_and_the_rest_is_done() -> None:
    rig = Rig()
    for number in range(6):
        add_grant(rig, number)
    for number in (2, 4):
        connection_id = UUID(int=10_000 + number)
        grant = rig.keys.rows[connection_id]
        (field, access), refresh = grant.envelopes
        assert access is not None
        rig.keys.rows[connection_id] = grant._replace(envelopes=((field, access[:-1] + b"!"), refresh))
    damaged = [rig.keys.rows[UUID(int=10_000 + number)] for number in (2, 4)]
    rig.clock.pass_by(MONTH)
    told: list[Progress] = []
    with capture_logs() as logs:
        assert rotation(rig).rotate_data_keys(MONTH, told.append) == 6
    assert told[-1] == Progress(keys=6, rows=4, cannot_open=2)
    assert [rig.keys.rows[grant.subject] for grant in damaged] == damaged, "left as they are"
    assert states(rig) == {"current": 6, "previous": 2, "retired": 4}, "their keys are not retired"
    assert logs == [
        {"event": "data_keys_rotated", "log_level": "error", "keys": 6, "rows": 4, "cannot_open": 2, "refused": 0}
    ]
    assert_everything_opens(rig, (0, 1, 3, 5))


def test_a_refresh_that_is_quicker_than_the_sweep_wins() -> None:
    rig = Rig()
    for number in range(3):
        add_grant(rig, number)
    rig.clock.pass_by(MONTH)
    connection_id = UUID(int=10_001)

    def refresh() -> None:
        old = rig.keys.rows[connection_id]
        if old.version == 1 and rig.keys.data_keys[old.data_key_id].state == "previous":
            key = rig.another_process().opening_key(old.data_key_id)  # it has not heard of the new one yet
            bound_to = context("acme", connection_id, "access_token")
            refreshed = (("access_token", seal(key, b"refreshed", bound_to, 2)), ("refresh_token", None))
            rig.keys.rows[connection_id] = old._replace(version=2, envelopes=refreshed)

    rig.keys.before_swap = refresh
    assert rotation(rig).rotate_data_keys(MONTH) == 3
    new = rig.keys.rows[connection_id]
    assert new.version == 2
    (_, access), _ = new.envelopes
    assert access is not None
    assert rig.keys.data_keys[new.data_key_id].state == "current"
    key = rig.another_process().opening_key(new.data_key_id)
    assert open_envelope(key, access, context("acme", connection_id, "access_token"), 2) == b"refreshed"
    assert states(rig)["previous"] == 0


def test_runs_that_meet_at_the_oldest_keys_part_ways_and_leave_nothing_between_them() -> None:
    rig = Rig()
    for number in range(4 * BATCH):
        add_grant(rig, number)
    rig.clock.pass_by(MONTH)
    places = {key_id: place for place, key_id in enumerate(sorted(rig.keys.data_keys))}
    begun: list[int] = []
    other = rotation(rig, rig.another_process())
    replace = rig.keys.replace_data_keys

    def note(keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> set[UUID]:
        begun.append(places[keys[0][0].id])
        if len(begun) == 1:
            other.rotate_data_keys(MONTH, limit=BATCH)
        return replace(keys)

    rig.keys.replace_data_keys = note  # type: ignore[method-assign]
    assert rotation(rig).rotate_data_keys(MONTH) == 3 * BATCH
    assert begun[:2] == [0, 0], "theirs was quicker with our first batch"
    assert begun[2] >= 2 * BATCH, "so we leave them the next one"
    assert_everything_opens(rig, range(4 * BATCH))


def test_runs_that_meet_at_the_same_rows_part_ways_and_leave_nothing_between_them() -> None:
    rig = Rig()
    for number in range(4 * BATCH):
        add_grant(rig, number)
    for key in list(rig.keys.data_keys.values()):
        rig.keys.replace_data_keys([(key, rig.keyring.new_data_key("acme", key.owner, "spotify"))])
    begun: list[int] = []
    reseal = rig.keys.reseal

    def note(rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        begun.append(rows[0][0].data_key_id.int)
        return reseal([] if len(begun) == 1 else rows)  # as if somebody had been quicker

    rig.keys.reseal = note  # type: ignore[method-assign]
    halfway = DataKeyRotation(rig.keyring, rig.keys, monotonic=rig.clock, dice=lambda: 0.5)  # the ids here are small
    told: list[Progress] = []
    halfway.run(MONTH, told.append)
    assert begun[1] == begun[0], "half the way to the last id there can be lies no other key: we are round once"
    assert told[-1].rows == 4 * BATCH
    assert halfway.remaining() == 0
    assert_everything_opens(rig, range(4 * BATCH))


def test_keys_replaced_by_another_process_are_noticed_despite_the_cache() -> None:
    rig = Rig()
    for number in range(3):
        add_grant(rig, number)
    stale = rig.another_process()
    for number in range(3):
        stale.sealing_key("acme", f"owner-{number}", "spotify")
    for record in list(rig.keys.data_keys.values()):
        assert rig.keys.replace_data_keys([(record, rig.keyring.new_data_key("acme", record.owner, "spotify"))])
    told: list[Progress] = []
    assert rotation(rig, stale).rotate_data_keys(DAY, told.append) == 0
    assert told[-1].rows == 3
    assert states(rig) == {"current": 3, "previous": 0, "retired": 3}
    assert_everything_opens(rig, range(3))


def test_a_locked_tenant_is_skipped_and_the_others_are_rotated() -> None:
    rig = Rig()
    for number in range(6):
        add_grant(rig, number, tenant="locked" if number % 2 else "acme")
    rig.clock.pass_by(MONTH)
    rig.kms.unavailable("locked", transient=False)
    told: list[Progress] = []
    assert rotation(rig, rig.another_process()).rotate_data_keys(MONTH, told.append) == 3
    assert told[-1] == Progress(keys=3, rows=3, refused=3)
    rig.kms.recover()
    assert_everything_opens(rig, range(6))


def test_a_process_killed_between_any_two_calls_leaves_everything_open_and_the_next_run_finishes() -> None:
    def prepared() -> Rig:
        rig = Rig()
        for number in range(4):
            add_grant(rig, number, tenant=f"tenant-{number % 2}")
        rig.clock.pass_by(MONTH)
        rig.kms.in_use = "kek-2"
        rig.keys.reads.clear()
        return rig

    def run(rig: Rig) -> None:
        fresh = rotation(rig, rig.another_process())
        fresh.rewrap()
        fresh.rotate_tenant_keys(MONTH)
        fresh.rotate_data_keys(MONTH)

    whole = prepared()
    run(whole)
    assert len(whole.keys.reads) > 15
    for calls in range(len(whole.keys.reads)):
        rig = prepared()
        rig.keys.calls_left = calls
        with pytest.raises(Killed):
            run(rig)
        rig.keys.calls_left = None
        assert_everything_opens(rig, range(4))
        run(rig)
        assert_everything_opens(rig, range(4))
        assert states(rig) == {"current": 4, "previous": 0, "retired": 4}
        assert rotation(rig).remaining() == 0


# ----------------------------------------------------------------------------------------------------- KEKs of tenants


def bring(rig: Rig, tenant: str) -> FakeKms:
    """Give a tenant a KMS of its own."""
    kms = rig.keks.others.setdefault(f"fake:{tenant}", FakeKms())
    kms.in_use, kms.keks = f"kek of {tenant}", {f"kek of {tenant}": bytes([len(kms.keks)]) * 32}
    rig.keys.brought[tenant] = f"fake:{tenant}"
    return kms


def test_a_tenant_that_brings_its_kek_is_rewrapped_under_it_and_nobody_else_is() -> None:
    rig = Rig()
    for number, tenant in enumerate(["acme", "umbra"]):
        add_grant(rig, number, tenant=tenant)
    own = bring(rig, "umbra")
    assert rotation(rig).remaining() == 1
    assert rotation(rig).rewrap() == 1
    assert rotation(rig).remaining() == 0
    assert {r.tenant: r.wrapped.kek_id for r in rig.keys.tenant_keys.values()} == {
        "acme": "kek-1", "umbra": "kek of umbra",
    }  # fmt: skip
    assert_everything_opens(rig, range(2))
    own.unavailable(transient=False)
    reader = rig.another_process()
    with pytest.raises(KeyUnavailable):
        reader.sealing_key("umbra", "owner-1", "spotify")
    assert reader.sealing_key("acme", "owner-0", "spotify")


def test_a_tenants_kms_that_is_away_does_not_keep_the_others_from_being_rewrapped() -> None:
    rig = Rig()
    for number, tenant in enumerate(["acme", "silent", "umbra"]):
        add_grant(rig, number, tenant=tenant)
    for tenant in ("silent", "umbra"):
        bring(rig, tenant)
    rig.keks.others["fake:silent"].describe = gone  # type: ignore[method-assign]
    rig.kms.in_use = "kek-2"
    told: list[Progress] = []
    with pytest.raises(KeyUnavailable):
        rotation(rig).rewrap(told.append)
    assert told[-1] == Progress(keys=2, refused=1)


def gone() -> str:
    raise KeyUnavailable("kek of silent", "unavailable", transient=True)


# ---------------------------------------------------------------------------------------------------------- tenant keys


def test_a_new_tenant_key_wraps_every_data_key_and_the_old_one_is_retired() -> None:
    rig = Rig()
    for number in range(BATCH + 5):
        add_grant(rig, number)
    before = rig.keyring.fingerprint("acme", UUID(int=1), "text")
    [old] = rig.keys.tenant_keys
    rig.clock.pass_by(MONTH)
    add_grant(rig, 900, tenant="young")
    told: list[Progress] = []
    assert rotation(rig).rotate_tenant_keys(MONTH, told.append) == 1
    assert told[-1] == Progress(keys=1, rows=BATCH + 6), "and the fingerprint key"
    assert {r.tenant_key_id for r in rig.keys.data_keys.values() if r.tenant == "acme"} & {old} == set()
    assert rig.keys.tenant_keys[old].state == "retired"
    del rig.keys.tenant_keys[old]
    assert_everything_opens(rig, [*range(BATCH + 5), 900])
    assert rig.another_process().fingerprint("acme", UUID(int=1), "text") == before
    assert rotation(rig).rotate_tenant_keys(MONTH) == 0


def test_a_data_key_that_changed_meanwhile_or_does_not_open_is_left_for_the_next_run() -> None:
    rig = Rig()
    for number in range(3):
        add_grant(rig, number)
    damaged = next(iter(rig.keys.data_keys.values()))
    rig.keys.data_keys[damaged.id] = damaged._replace(wrapped=damaged.wrapped[:-1] + b"!")
    rig.keys.before_swap = lambda: rig.clock.pass_by(1)
    told: list[Progress] = []
    with capture_logs():
        assert rotation(rig).rotate_tenant_keys(timedelta(0), told.append) == 1
    assert told[-1] == Progress(keys=1, rows=2, cannot_open=1)
    assert sorted(key.state for key in rig.keys.tenant_keys.values()) == ["current", "previous"]
    rig.keys.data_keys[damaged.id] = damaged
    assert rotation(rig).rotate_tenant_keys(MONTH) == 0
    assert sorted(key.state for key in rig.keys.tenant_keys.values()) == ["current", "retired"]
    assert_everything_opens(rig, range(3))


def test_a_pace_is_kept_and_idle_time_is_not_saved_up() -> None:
    clock, slept = Clock(), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        clock.pass_by(seconds)

    pace = paced(100, clock, sleep)
    for _ in range(4):
        pace(200)
    assert slept == [2.0, 2.0, 2.0], "the first batch was done at once, each further one waits for the one before"
    clock.pass_by(3600)
    pace(200)
    pace(200)
    assert slept == [2.0, 2.0, 2.0, 2.0]
