"""Sessions of users in a real database: one a user or one a device, all or nothing, found by their token alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from vault import (
    CannotOpen,
    InvalidCredential,
    NewSession,
    Subscription,
    TokenRefused,
    UnknownSession,
    Vault,
)

ZERO, HOUR = timedelta(0), timedelta(hours=1)


@pytest.fixture
def house(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path, VAULT_SESSION_ROUNDS="4")
    yield built
    built.close()


def look(vault: Vault, made: NewSession) -> str:
    try:
        return vault.verify_session(made.token).user_id
    except TokenRefused as refusal:
        return refusal.reason


def rows(house: House) -> list[dict[str, Any]]:
    return house.sql("SELECT * FROM evergrant.user_sessions ORDER BY user_id, device")


def told(house: House) -> list[tuple[str, str]]:
    """What the audit says of sessions, each with its session's id."""
    said = "SELECT event, detail->>'session_id' AS session FROM evergrant.audit WHERE event ^@ 'session.' ORDER BY id"
    return [(row["event"], row["session"]) for row in house.sql(said)]


def test_a_session_has_what_it_was_given_and_its_token_is_nowhere(house: House) -> None:
    made = house.vault.create_session(
        "olga", subscription="plus", scopes=["read", "write", "read"], metadata={"city": "Lisbon"}, life=HOUR
    )
    found, token = house.vault.verify_session(made.token), made.token.reveal()
    assert found == made.session == house.vault.user_session(str(made.session.id))
    assert (found.user_id, found.subscription, found.scopes) == ("olga", Subscription.PLUS, ("read", "write"))
    assert found.expires_at - found.created_at == HOUR
    assert found.expires_at.tzinfo is not None
    assert house.vault.session_metadata(found.id) == {"city": "Lisbon"}
    [row] = rows(house)
    assert bytes(row["token_hash"]).startswith(b"$2b$04$")
    for table in ("user_sessions", "audit"):
        kept = house.sql(f"SELECT t::text AS row FROM evergrant.{table} t")
        for secret in (token, token[4:], "Lisbon"):
            assert not any(secret in each["row"] or secret.encode().hex() in each["row"] for each in kept)
    assert token not in repr(made)


def test_who_signs_in_again_takes_the_place_of_the_session_before(house: House) -> None:
    first, elsewhere = house.vault.create_session("olga"), house.another_vault()
    assert [look(house.vault, first), look(elsewhere, first)] == ["olga", "olga"]
    second, other = house.vault.create_session("olga"), house.vault.create_session("nina")
    assert [look(house.vault, each) for each in (first, second, other)] == ["unknown", "olga", "nina"]
    assert look(elsewhere, first) == "olga", "another process remembers it for up to a minute"
    assert look(house.another_vault(session_cache_s=0), first) == "unknown"
    ids = [str(each.session.id) for each in (first, first, second, other)]
    events = ["session.created", "session.replaced", "session.created", "session.created"]
    assert told(house) == list(zip(events, ids, strict=True))


def test_a_device_needs_the_setting(house: House) -> None:
    with pytest.raises(ValueError, match="VAULT_SESSION_PER_DEVICE"):
        house.vault.create_session("olga", device="phone")


def test_by_setting_a_user_has_a_session_on_each_device(house: House) -> None:
    vault = house.another_vault(session_per_device=True)
    phone, laptop = (vault.create_session("olga", device=device) for device in ("phone", "laptop"))
    again = vault.create_session("olga", device="phone")
    assert [look(vault, each) for each in (phone, laptop, again)] == ["unknown", "olga", "olga"]
    assert sorted(each.device for each in vault.sessions(user_id="olga")) == ["laptop", "phone"]
    house.vault.create_session("olga")
    assert [each.device for each in vault.sessions()] == [""], "and where the setting is off, one in all"


def test_many_who_sign_in_as_one_user_at_once_leave_one_session(house: House) -> None:
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: house.vault.create_session("olga"), range(12)))
    fresh = house.another_vault()
    assert sorted(look(fresh, each) for each in made) == ["olga", *["unknown"] * 11]
    assert len([event for event, _ in told(house) if event == "session.replaced"]) == 11


def test_a_token_that_is_brought_along_is_one_sessions_only(house: House) -> None:
    token = "jwt." * 30
    olga = house.vault.create_session("olga", token=token)
    assert olga.token.reveal() == token
    with pytest.raises(InvalidCredential, match="another session"):
        house.vault.create_session("nina", token=token)
    assert [look(house.vault, olga), [each.user_id for each in house.vault.sessions()]] == ["olga", ["olga"]]
    house.vault.create_session("olga", token=token)
    assert look(house.vault, olga) == "olga", "its user may bring it again"
    assert look(house.vault.for_tenant("other"), olga) == "unknown"
    house.vault.for_tenant("other").create_session("nina", token=token)


def test_two_tokens_with_72_bytes_in_common_are_two_peoples(house: House) -> None:
    made = [house.vault.create_session(user, token="t" * 72 + user) for user in ("olga", "nina")]
    fresh = house.another_vault()
    assert [look(fresh, each) for each in made] == ["olga", "nina"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"subscription": "gold"}, "free, plus, pro"), ({"subscription": ""}, "free, plus, pro"),
        ({"scopes": ["a b"]}, "scopes"), ({"scopes": "read"}, "scopes"), ({"scopes": [""]}, "scopes"),
        ({"life": ZERO}, "lives"), ({"life": -HOUR}, "lives"), ({"life": 10**5 * 24 * HOUR}, "lives"),
        ({"metadata": {"a": 1}}, "text by text"), ({"metadata": {"a": "b" * 17_000}}, "at most"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_of_a_session_is_refused_and_changes_nothing(
    house: House, words: dict[str, Any], problem: str
) -> None:
    made = house.vault.create_session("olga", subscription="pro")
    before = rows(house)
    with pytest.raises(ValueError, match=problem):
        house.vault.create_session("olga", **words)
    with pytest.raises(ValueError, match=problem):
        house.vault.update_session(made.session.id, **{"scopes": ["other"], **words})
    assert rows(house) == before
    assert look(house.vault, made) == "olga"


@pytest.mark.parametrize("user", ["", "a\0b", "x" * 513, "a\nb"])
def test_a_user_has_a_name(house: House, user: str) -> None:
    with pytest.raises(ValueError, match="user id"):
        house.vault.create_session(user)


def test_the_database_checks_the_subscription_as_well(house: House) -> None:
    house.vault.create_session("olga")
    with pytest.raises(psycopg.errors.CheckViolation, match="user_sessions_subscription"):
        house.sql("UPDATE evergrant.user_sessions SET subscription = 'gold'")


def test_an_update_changes_what_it_says_and_nothing_else(house: House) -> None:
    vault = house.vault
    made = vault.create_session("olga", scopes=["read"], metadata={"a": "1"})
    changed = vault.update_session(made.session.id, subscription="pro")
    assert changed == made.session._replace(subscription=Subscription.PRO, changed_at=changed.changed_at)
    assert vault.verify_session(made.token) == changed, "at once in this process"
    longer = vault.update_session(made.session.id, scopes=["read", "write"], metadata={"b": "2"}, life=HOUR)
    assert (longer.subscription, longer.scopes) == (Subscription.PRO, ("read", "write"))
    assert longer.expires_at - longer.changed_at == HOUR
    assert vault.session_metadata(made.session.id) == {"b": "2"}
    assert vault.update_session(made.session.id, scopes=[]).scopes == ()
    assert [event for event, _ in told(house)] == ["session.created", *["session.updated"] * 3]


BREAK = {
    "the audit": "CREATE TRIGGER broken BEFORE INSERT ON evergrant.audit FOR EACH ROW EXECUTE FUNCTION breaks()",
    "the row": "CREATE TRIGGER broken BEFORE UPDATE OR INSERT OR DELETE ON evergrant.user_sessions"
    " FOR EACH ROW EXECUTE FUNCTION breaks()",
    "its figures": "CREATE TRIGGER broken BEFORE INSERT ON evergrant.tally_change"
    " FOR EACH ROW EXECUTE FUNCTION breaks()",
    "its commit": "CREATE CONSTRAINT TRIGGER broken AFTER INSERT ON evergrant.audit DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION breaks()",
}
ACTS: dict[str, Callable[[Vault, UUID], object]] = {
    "update": lambda vault, made: vault.update_session(made, subscription="pro", scopes=["x"], metadata={"a": "2"}),
    "revoke": lambda vault, made: vault.revoke_session(made),
    "replace": lambda vault, _: vault.create_session("olga", subscription="pro"),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("where", BREAK)
def test_what_fails_midway_leaves_all_as_it_was(house: House, where: str, act: str) -> None:
    made = house.vault.create_session("olga", metadata={"a": "1"})
    told_before, before = told(house), rows(house)
    figures = house.vault.statistics().sessions
    house.sql(
        "CREATE FUNCTION breaks() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'a disk is full' USING ERRCODE = 'disk_full'; END $$"
    )
    house.sql(BREAK[where])
    with pytest.raises(Exception, match="a disk is full"):
        ACTS[act](house.vault, made.session.id)
    for table in ("audit", "user_sessions", "tally_change"):
        house.sql(f"DROP TRIGGER IF EXISTS broken ON evergrant.{table}")
    assert (told(house), rows(house)) == (told_before, before)
    assert house.vault.statistics().sessions == figures
    assert look(house.vault, made) == "olga"
    assert house.vault.session_metadata(made.session.id) == {"a": "1"}
    ACTS[act](house.vault, made.session.id)


def test_two_updates_of_metadata_at_once_both_count_one_after_the_other(house: House) -> None:
    made = house.vault.create_session("olga").session.id
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: house.vault.update_session(made, metadata={"n": str(n)}), range(8)))
    assert rows(house)[0]["version"] == 8
    assert house.vault.session_metadata(made)["n"] in set("01234567")


def test_a_revoked_session_is_over_and_so_is_each_of_a_user(house: House) -> None:
    vault = house.another_vault(session_per_device=True)
    made = [vault.create_session("olga", device=str(n)) for n in range(3)]
    others = vault.create_session("nina")
    assert [look(vault, each) for each in made] == ["olga"] * 3
    vault.revoke_session(made[0].session.id)
    assert [look(vault, each) for each in made] == ["revoked", "olga", "olga"]
    assert vault.revoke_sessions("olga") == 2
    assert vault.revoke_sessions("olga") == 0
    assert [look(vault, each) for each in (*made, others)] == ["revoked"] * 3 + ["nina"]
    for ended in (made[0].session.id, uuid4(), "no id"):
        for act in (vault.revoke_session, vault.user_session, vault.session_metadata, vault.update_session):
            with pytest.raises(UnknownSession):
                act(ended)


def test_a_session_ends_by_itself(house: House) -> None:
    made = house.vault.create_session("olga")
    house.sql("UPDATE evergrant.user_sessions SET expires_at = now() - interval '1 s'")
    assert look(house.vault, made) == "expired"
    assert house.vault.sessions() == []


def test_nobody_reads_or_ends_sessions_of_another_tenant(house: House) -> None:
    made, other = house.vault.create_session("olga"), house.vault.for_tenant("other")
    assert (look(other, made), other.sessions(), other.revoke_sessions("olga")) == ("unknown", [], 0)
    for act in (other.revoke_session, other.user_session, other.session_metadata):
        with pytest.raises(UnknownSession):
            act(made.session.id)
    assert look(house.vault, made) == "olga"


def test_sessions_come_in_pages(house: House) -> None:
    made = sorted(house.vault.create_session(f"user {n}").session.id for n in range(5))
    first = [each.id for each in house.vault.sessions(limit=3)]
    assert first + [each.id for each in house.vault.sessions(after=str(first[-1]))] == made


def test_the_clean_up_removes_hashes_of_sessions_that_ended_and_says_so(house: House) -> None:
    made = {user: house.vault.create_session(user) for user in ("olga", "nina", "oleg")}
    house.vault.revoke_session(made["olga"].session.id)
    house.sql("UPDATE evergrant.user_sessions SET expires_at = now() WHERE user_id = 'nina'")
    assert house.worker.cleanup(dry_run=True)["sessions"] == 2
    assert len(rows(house)) == 3
    assert house.worker.cleanup()["sessions"] == 2
    assert house.worker.cleanup()["sessions"] == 0
    assert [row["user_id"] for row in rows(house)] == ["oleg"]
    removed = house.sql("SELECT detail FROM evergrant.audit WHERE event = 'session.removed'")
    ends = {row["detail"]["session_id"]: row["detail"]["ended"] for row in removed}
    assert ends == {str(made["olga"].session.id): "revoked", str(made["nina"].session.id): "expired"}
    assert [look(house.another_vault(), each) for each in made.values()] == ["unknown", "unknown", "oleg"]


def test_metadata_survive_a_rotation_of_keys_and_open_nowhere_else(house: House) -> None:
    olga, nina = (house.vault.create_session(user, metadata={"of": user}).session.id for user in ("olga", "nina"))
    before = {row["user_id"]: row["data_key_id"] for row in rows(house)}
    assert house.worker.rotate_data_keys(ZERO) == 2
    after = {row["user_id"]: row["data_key_id"] for row in rows(house)}
    assert not set(before.values()) & set(after.values())
    assert house.vault.session_metadata(olga) == {"of": "olga"}
    house.sql(
        "UPDATE evergrant.user_sessions s SET metadata_envelope = o.metadata_envelope, data_key_id = o.data_key_id"
        " FROM evergrant.user_sessions o WHERE s.id = %s AND o.id = %s",
        (nina, olga),
    )
    with pytest.raises(CannotOpen):
        house.vault.session_metadata(nina)


def test_who_is_shredded_is_signed_out(house: House) -> None:
    olga, nina = (house.vault.create_session(user, metadata={"a": "b"}) for user in ("olga", "nina"))
    house.worker.keys.shred_owner("olga", "default")
    fresh = house.another_vault()
    assert [look(fresh, each) for each in (olga, nina)] == ["unknown", "nina"]
    house.worker.keys.shred_tenant("default")
    assert rows(house) == []


def test_figures_follow_every_change_and_a_recount_finds_nothing(house: House) -> None:
    vault, worker = house.vault, house.worker
    made = [vault.create_session(f"user {n}", subscription=level) for n, level in enumerate(("free", "plus", "pro"))]
    assert vault.statistics().sessions == {"free": 1, "plus": 1, "pro": 1}
    vault.update_session(made[0].session.id, subscription="pro")
    vault.revoke_session(made[1].session.id)
    vault.create_session("user 2", subscription="free")
    assert vault.statistics().sessions == worker.statistics().sessions == {"free": 1, "pro": 1, "revoked": 1}
    assert worker.recount_statistics() == []
    house.sql("SET session_replication_role = replica")
    house.sql("DELETE FROM evergrant.user_sessions WHERE user_id = 'user 0'")
    house.sql("SET session_replication_role = origin")
    assert [(each.counter.what, each.counter.amount, each.was) for each in worker.recount_statistics()] == [
        ("session", 0, 1)
    ]
    house.sql("TRUNCATE evergrant.user_sessions")
    assert vault.statistics().sessions == {}


def test_looking_at_a_token_is_one_indexed_row(house: House) -> None:
    house.sql(
        "INSERT INTO evergrant.user_sessions (id, tenant, user_id, subscription, token_fp, token_hash, expires_at)"
        " SELECT gen_random_uuid(), 'default', n::text, 'free', sha256(n::text::bytea), '', now()"
        "   FROM generate_series(1, 2000) n"
    )
    house.sql("ANALYZE evergrant.user_sessions")
    found = "SELECT * FROM evergrant.user_sessions s WHERE s.tenant = 'default' AND s.token_fp = sha256('7')"
    assert "Index Scan using user_sessions_by_token" in house.sql(f"EXPLAIN {found}")[0]["QUERY PLAN"]


def test_the_clock_that_counts_is_the_databases(house: House) -> None:
    made = house.vault.create_session("olga", life=HOUR)
    assert abs(made.session.expires_at - datetime.now(UTC) - HOUR) < timedelta(minutes=5)
