"""Moving rows: each once, none lost, none cleared that is not proven; between systems made of dictionaries."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest

from tests.support.fake_keys import Killed
from tests.support.fake_migration import NOW, Move
from vault.envelope import context, open_envelope, seal
from vault.errors import CannotOpen, KeyUnavailable, MigrationBusy
from vault.migration.summary import MigrationSummary, Trouble
from vault.services.migration import Order


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"owner": name, "provider": "acme", "refresh_token": f"rt-{name}", "access_token": f"at-{name}",
            "expires_at": NOW + timedelta(minutes=30), "scopes": "read,write", **more}  # fmt: skip


def rows(count: int) -> dict[str, dict[str, Any]]:
    return {f"k{n:02d}": row(f"owner-{n}") for n in range(count)}


def run(move: Move, **order: Any) -> MigrationSummary:
    return move.process().run(Order(**{"batch": 2, "ahead": 2, **order}), lambda _: None)


def numbers(done: MigrationSummary) -> tuple[int, ...]:
    return done.total, done.ok, done.already, done.skipped, done.failed, done.credentials, done.cleared


def opened(move: Move, key: str, field: str) -> str | None:
    """What stands for a row, by the keys in the store alone."""
    moved = move.target.moved["old", key]
    stored = move.target.stored_grants[moved.connection_id]
    envelope = stored.access_envelope if field == "access_token" else stored.refresh_envelope
    if envelope is None:
        return None
    data_key = move.rig.another_process().key(stored.data_key)
    return open_envelope(
        data_key, envelope, context(stored.tenant, moved.connection_id, field), stored.version
    ).decode()


def test_every_row_becomes_a_grant_once() -> None:
    move = Move(rows(7))
    steps: list[MigrationSummary] = []
    done = move.process().run(Order(batch=3, ahead=1), steps.append)
    assert numbers(done) == (7, 7, 0, 0, 0, 14, 0)
    assert [(step.done, step.total) for step in steps] == [(3, 7), (6, 7), (7, 7)]
    assert [opened(move, "k03", field) for field in ("refresh_token", "access_token")] == ["rt-owner-3", "at-owner-3"]
    assert numbers(run(move)) == (7, 0, 7, 0, 0, 0, 0)
    assert len(move.target.adoptions) == 7
    assert move.target.audit.count(("migration.adopted", "k03")) == 1


def test_a_grant_has_the_times_that_its_row_says() -> None:
    since = NOW - timedelta(days=80)
    move = Move({
        "half": row("a", connected_at=since),
        "over": row("b", expires_at=NOW - timedelta(days=700)),
        "unsaid": row("c", expires_at=None),
        "refresh_only": row("d", access_token=None, expires_at=NOW + timedelta(hours=9)),
        "access_only": row("e", refresh_token=None, expires_at=None),
        "long": row("f", expires_at=NOW + timedelta(days=60), labels='{"team": "blue"}'),
    })  # fmt: skip
    assert run(move).ok == 6
    found = {each.key: each for each in move.target.adoptions.values()}
    hour = timedelta(hours=1)

    def times(key: str) -> tuple[timedelta, timedelta]:
        grant = found[key].grant
        assert grant.refresh_in is not None
        return grant.life - grant.age, grant.refresh_in - grant.age

    left, due = times("half")
    assert left == hour / 2
    assert timedelta(minutes=20) < due < timedelta(minutes=25), "five minutes before the end, spread"
    assert found["half"].expires_at == NOW + hour / 2
    assert found["half"].grant.age == hour / 2, "issued an hour, its provider's default life, before its end"
    assert found["half"].grant.grant_life is not None
    ends = NOW - found["half"].grant.age + found["half"].grant.grant_life
    assert ends == since + timedelta(days=90), "counted from the consent"
    assert times("over") == (-timedelta(days=700), timedelta(0)), "due now, and not since two years ago"
    assert times("unsaid") == times("refresh_only") == (timedelta(0), timedelta(0))
    assert found["refresh_only"].expires_at is None, "an empty access token is never served"
    assert opened(move, "refresh_only", "access_token") == ""
    assert times("access_only") == (hour, hour)
    assert found["access_only"].grant.refresh_fp is None
    assert times("long")[0] == timedelta(days=60)
    assert (found["long"].grant.granted_scopes, found["long"].grant.labels) == ("read write", {"team": "blue"})


def sealed(text: str, tenant: str) -> str:
    """Values are kept as ``sealed:…``; some are broken, one is under a key that is refused."""
    if text.startswith("refused"):
        raise KeyUnavailable("kek-9", "denied", transient=False)
    if not text.startswith("sealed:"):
        raise CannotOpen
    return text.removeprefix("sealed:")


def test_one_row_in_trouble_is_no_trouble_of_another() -> None:
    fine = row("olga", refresh_token="sealed:rt", access_token=None)
    move = Move(
        {
            "a": fine, "b": {**fine, "owner": None}, "c": {**fine, "provider": "nobody"},
            "d": {**fine, "provider": "bare"}, "e": {**fine, "expires_at": "soon"}, "f": {**fine, "scopes": "[1]"},
            "g": {**fine, "labels": "{"}, "h": {**fine, "refresh_token": "damaged"},
            "i": {**fine, "refresh_token": "refused"}, "j": {**fine, "refresh_token": "sealed:two\nlines"},
            "k": {**fine, "owner": "nul\0"}, "l": {**fine, "owner": "x" * 3000}, "m": {**fine, "connected_at": -5},
            "n": {**fine, "refresh_token": None}, "o": {**fine, "provider": ""}, "p": fine, "q": fine,
            "r": {**fine, "tenant": "*"},
        },
        open_value=sealed,
    )  # fmt: skip
    move.target.refuses = {"q"}
    done = run(move, batch=4)
    assert numbers(done) == (18, 2, 0, 1, 15, 2, 0)
    assert {reason: trouble.keys for reason, trouble in done.errors.items()} == {
        "no_owner": ("b",), "unknown_provider": ("c",), "no_client": ("d",), "unreadable_expiry": ("e",),
        "unreadable_scopes": ("f",), "unreadable_labels": ("g",), "cannot_open": ("h",), "key_refused": ("i",),
        "not_a_token": ("j",), "not_text": ("k",), "too_long": ("l",), "unreadable_connected_at": ("m",),
        "no_provider": ("o",), "refused_by_database": ("q",), "no_tenant": ("r",),
    }  # fmt: skip


def test_errors_are_told_with_a_few_keys_and_no_value() -> None:
    move = Move({f"k{n:02d}": row(f"o{n}", refresh_token=f"canary-{n}") for n in range(20)}, open_value=sealed)
    done = run(move)
    assert done.errors == {"cannot_open": Trouble(20, ("k00", "k01", "k02", "k03", "k04"))}
    assert "canary" not in repr(done)


def test_a_dry_run_says_what_would_be_and_writes_nothing() -> None:
    move = Move({**rows(4), "z": row("z", owner="")})
    assert numbers(run(move, dry_run=True, clear=True)) == (5, 4, 0, 0, 1, 8, 0)
    assert move.target.moved == {}
    assert move.rig.keys.data_keys == {}
    assert move.rig.kms.calls == []
    assert move.source.rows["k00"]["refresh_token"] == "rt-owner-0"


def test_a_limit_counts_what_was_not_moved_before() -> None:
    move = Move(rows(7))
    assert [numbers(run(move, limit=3))[:3] for _ in range(3)] == [(3, 3, 0), (6, 3, 3), (7, 1, 6)]


def test_two_runs_of_one_source_hold_each_other_off() -> None:
    move = Move(rows(1))
    move.target.locked = {"old"}
    with pytest.raises(MigrationBusy, match="old"):
        run(move)
    assert move.process().slice("named", Order(), timedelta(0)) is False


# ------------------------------------------------------------------------------------------------------------ clearing


def held(move: Move) -> set[str]:
    """Keys of rows whose tokens the source still holds."""
    return {key for key, each in move.source.rows.items() if each["refresh_token"] or each["access_token"]}


def test_a_row_is_cleared_when_it_is_proven_to_stand() -> None:
    move = Move(rows(4))
    assert numbers(run(move, clear=True)) == (4, 4, 0, 0, 0, 8, 4)
    assert held(move) == set()
    assert move.target.audit.count(("migration.cleared", "k00")) == 1
    assert numbers(run(move, clear=True)) == (4, 0, 4, 0, 0, 0, 0)


def test_what_was_moved_before_is_cleared_by_a_later_run() -> None:
    move = Move(rows(4))
    run(move)
    assert numbers(run(move, clear=True)) == (4, 0, 4, 0, 0, 0, 4)
    assert held(move) == set()


@pytest.mark.parametrize("later", [False, True])
def test_what_stands_damaged_is_not_cleared(later: bool) -> None:
    move = Move(rows(3))
    adopt = move.target._adopt

    def damaging(source: str, each: Any) -> Any:
        end = adopt(source, each)
        if each.key == "k01":
            stored = move.target.stored_grants[each.grant.connection_id]
            envelope = stored.refresh_envelope or b""
            flipped = bytes([*envelope[:-1], envelope[-1] ^ 1])
            move.target.stored_grants[each.grant.connection_id] = stored._replace(refresh_envelope=flipped)
        return end

    move.target._adopt = damaging  # type: ignore[method-assign]
    if later:
        run(move)
    done = run(move, clear=True)
    assert held(move) == {"k01"}
    assert done.errors == {"not_proven": Trouble(1, ("k01",))}


def test_a_data_key_that_is_not_in_the_database_as_it_was_made_is_noticed() -> None:
    """Reading back goes through keys unwrapped anew: the one in the hands of whoever sealed proves nothing."""
    move = Move(rows(1))
    add = move.target.add_data_keys

    def damaging(records: Any) -> Any:
        kept = add(records)
        for each in kept:
            wrapped = each.wrapped[:-1] + bytes([each.wrapped[-1] ^ 1])
            move.rig.keys.data_keys[each.id] = each._replace(wrapped=wrapped)
        return kept

    move.target.add_data_keys = damaging  # type: ignore[method-assign]
    assert run(move, clear=True).errors == {"not_proven": Trouble(1, ("k00",))}
    assert held(move) == {"k00"}


def test_a_row_that_changes_before_it_is_cleared_keeps_what_it_has() -> None:
    move = Move(rows(2))
    move.source.before_clear = lambda: move.source.rows["k00"].update(refresh_token="rt-newer")
    done = run(move, clear=True)
    assert (done.cleared, done.errors) == (1, {"source_changed": Trouble(1, ("k00",))})
    assert move.source.rows["k00"]["refresh_token"] == "rt-newer"


@pytest.mark.parametrize("clear", [False, True])
def test_a_source_that_went_on_refreshing_is_noticed_and_nothing_is_overwritten(clear: bool) -> None:
    move = Move(rows(2))
    run(move)
    before = dict(move.target.stored_grants)
    move.source.rows["k00"]["refresh_token"] = "rt-newer"
    done = run(move, clear=clear)
    assert done.errors == {"source_changed": Trouble(1, ("k00",))}
    assert move.target.stored_grants == before
    assert "k00" in held(move)


def test_a_source_that_sealed_the_same_token_anew_has_not_changed() -> None:
    move = Move({"k": row("olga", refresh_token="sealed:rt", access_token=None)}, open_value=sealed)
    run(move)
    move.open_value = lambda text, tenant: text.rpartition(":")[2]
    move.source.rows["k"]["refresh_token"] = "sealed:again:rt"
    assert numbers(run(move, clear=True)) == (1, 0, 1, 0, 0, 0, 1)


def test_a_row_moved_before_is_not_opened_again_unless_it_is_to_be_cleared() -> None:
    """Of values sealed under a KMS each opening may be a call to it; and the legacy key may be gone."""
    move = Move({"k": row("olga", refresh_token="sealed:rt", access_token=None)}, open_value=sealed)
    run(move)

    def gone(text: str, tenant: str) -> str:
        raise KeyUnavailable("legacy", "not configured", transient=False)

    move.open_value = gone
    assert numbers(run(move)) == (1, 0, 1, 0, 0, 0, 0)
    assert run(move, clear=True).errors == {"key_refused": Trouble(1, ("k",))}
    assert held(move) == {"k"}


def change(move: Move, key: str, **values: Any) -> None:
    connection_id = move.target.moved["old", key].connection_id
    move.target.stored_grants[connection_id] = move.target.stored_grants[connection_id]._replace(**values)


def test_what_was_refreshed_or_ended_since_is_cleared_and_what_is_gone_is_not() -> None:
    move = Move(rows(4))
    run(move)
    for key in ("k00", "k01"):
        connection_id = move.target.moved["old", key].connection_id
        data_key = move.target.stored_grants[connection_id].data_key
        fresh = move.rig.another_process().key(data_key)
        change(move, key, version=2, **{
            f"{field}_envelope": seal(fresh, b"newer", context("default", connection_id, f"{field}_token"), 2)
            for field in ("access", "refresh")})  # fmt: skip
    change(move, "k01", access_envelope=b"damaged")
    change(move, "k02", version=2, status="disconnected", access_envelope=None, refresh_envelope=None)
    del move.target.stored_grants[move.target.moved["old", "k03"].connection_id]
    done = run(move, clear=True)
    assert held(move) == {"k01", "k03"}
    assert set(done.errors) == {"not_proven", "not_stored"}
    assert opened(move, "k00", "refresh_token") == "newer"


# --------------------------------------------------------------------------------------------------------- being ended


@pytest.mark.parametrize("transient", [True, False])
def test_a_kms_that_is_away_ends_the_run_and_one_that_refuses_costs_the_row(transient: bool) -> None:
    move = Move(rows(4))
    move.rig.kms.unavailable(transient=transient)
    if transient:
        with pytest.raises(KeyUnavailable):
            run(move)
    else:
        assert run(move).errors == {"key_refused": Trouble(4, ("k00", "k01", "k02", "k03"))}
    assert move.target.moved == {}
    move.rig.kms.recover()
    move.rig.clock.pass_by(2)
    assert run(move, clear=True).ok == 4


def test_a_legacy_kms_that_is_away_ends_the_run_before_anything_of_its_batch_is_moved() -> None:
    def away(text: str, tenant: str) -> str:
        if text == "rt-owner-4":
            raise KeyUnavailable("legacy", "timeout", transient=True)
        return text

    move = Move(rows(7), open_value=away)
    with pytest.raises(KeyUnavailable):
        run(move)
    assert {key for _, key in move.target.moved} == {"k00", "k01", "k02", "k03"}


@pytest.mark.parametrize("left", range(40))
def test_killed_after_any_call_a_later_run_ends_it(left: int) -> None:
    """Each row once; what is cleared stands; what stands and was not cleared is cleared by the run that comes after."""
    move = Move(rows(5))
    process = move.process()
    move.life.left = left
    with contextlib.suppress(Killed):
        process.run(Order(batch=1, ahead=2, clear=True), lambda _: None)
    for key in move.source.rows.keys() - held(move):
        assert opened(move, key, "refresh_token") == f"rt-owner-{int(key[1:])}"
    done = run(move, clear=True)
    assert (done.failed, done.ok + done.already) == (0, 5)
    assert held(move) == set()
    assert len(move.target.adoptions) == 5
    assert {opened(move, key, "refresh_token") for key in move.source.rows} == {f"rt-owner-{n}" for n in range(5)}


# ---------------------------------------------------------------------------------------------------------- in slices


def test_workers_go_on_where_the_slice_before_has_come_to() -> None:
    move = Move(rows(5))
    move.target.begin("named")
    order, moment = Order(batch=2, clear=True, ahead=1), timedelta(microseconds=1)
    slept = move.rig.clock

    def slice_() -> bool:
        process = move.process()
        batch = move.source.batch

        def slowly(after: str | None, limit: int) -> Any:
            slept.pass_by(1)
            return batch(after, limit)

        move.source.batch = slowly  # type: ignore[method-assign]
        try:
            return process.slice("named", order, moment)
        finally:
            move.source.batch = batch  # type: ignore[method-assign]

    assert slice_() is True
    assert move.target.runs["named"][0] == "k01"
    assert slice_() is True
    assert move.target.runs["named"][1]["ok"] == 4
    assert slice_() is True
    assert slice_() is False
    assert move.target.unfinished() == []
    assert held(move) == set()
    assert move.process().slice("named", order, moment) is False, "nobody asked for it"


def test_a_summary_adds_up() -> None:
    done = MigrationSummary(ok=1, already=2, skipped=3, failed=4, errors={"no_owner": Trouble(4, ())})
    assert done.done == 10
    assert done.counts() == {"ok": 1, "already": 2, "skipped": 3, "failed": 4, "credentials": 0, "cleared": 0,
                             "no_owner": 4}  # fmt: skip
